/* SPDX-License-Identifier: MIT */
#include "daemon/net/resolve_cache.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#define T0   1000000 /* ms; the loop's clock does not begin at 0 */
#define S(n) ((uint64_t)(n)*1000)

static struct resolve_cache cache;

static int setup(void **state)
{
	(void)state;
	return resolve_cache_init(&cache);
}

static int teardown(void **state)
{
	(void)state;
	resolve_cache_destroy(&cache);
	resolve_cache_destroy(&cache);
	return 0;
}

static struct resolve_entry *get(const char *name)
{
	struct resolve_entry *e = resolve_cache_get(&cache, name, AF_INET, true);

	assert_non_null(e);
	return e;
}

static struct resolve_answer good(uint8_t last)
{
	return (struct resolve_answer){.n = 1,
				       .addrs = {{.family = AF_INET, .ip = {192, 0, 2, last}}}};
}

static struct resolve_answer bad(int status)
{
	return (struct resolve_answer){.status = status};
}

/* How long each answer counts, and what is done then. */
static void times(void **state)
{
	static const struct {
		const char *what;
		int status;
		unsigned ttl_s;
		uint64_t counts_s;
	} cases[] = {
		{"good", 0, 300, 300},
		{"good, none of the hosts file", 0, 0, RESOLVE_TTL_MIN_S},
		{"good for ever", 0, 0x7fffffff, RESOLVE_TTL_MAX_S},
		{"no such name", -ENOENT, 0, RESOLVE_NONE_S},
		{"no such name, with a TTL", -ENOENT, 999999, RESOLVE_NONE_S},
		{"servers fail", -EIO, 300, RESOLVE_FAILED_S},
		{"servers are silent", -ETIMEDOUT, 0, RESOLVE_FAILED_S},
		{"short of memory", -ENOMEM, 300, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct resolve_answer a = cases[i].status == 0 ? good(1) : bad(cases[i].status);
		struct resolve_entry *e = get(cases[i].what);

		assert_int_equal(resolve_entry_use(e, T0), RESOLVE_ASK);
		assert_false(resolve_entry_answered(e, &a, cases[i].ttl_s, T0));
		assert_int_equal(e->answer.status, cases[i].status);
		if (cases[i].counts_s > 0)
			assert_int_equal(resolve_entry_use(e, T0 + S(cases[i].counts_s) - 1),
					 RESOLVE_USE);
		assert_int_equal(resolve_entry_use(e, T0 + S(cases[i].counts_s)), RESOLVE_ASK);
		resolve_cache_put(&cache, e);
	}
}

static void stale_answers(void **state)
{
	struct resolve_answer one = good(1), two = good(2), failed = bad(-EIO),
			      late = bad(-ETIMEDOUT), none = bad(-ENOENT);
	struct resolve_entry *e = get("host.test");
	uint64_t again = S(RESOLVE_ASK_AGAIN_S), gone = T0 + S(60) + S(RESOLVE_STALE_S);

	(void)state;
	resolve_entry_answered(e, &one, 60, T0);
	assert_int_equal(resolve_entry_use(e, T0 + S(60)), RESOLVE_ASK);
	assert_true(resolve_entry_answered(e, &failed, 0, T0 + S(60)));
	assert_int_equal(e->answer.status, 0);
	assert_memory_equal(&e->answer.addrs[0], &one.addrs[0], sizeof(one.addrs[0]));
	assert_int_equal(resolve_entry_use(e, T0 + S(60)), RESOLVE_USE_STALE);
	assert_int_equal(resolve_entry_use(e, T0 + S(60) + again - 1), RESOLVE_USE_STALE);
	assert_int_equal(resolve_entry_use(e, T0 + S(60) + again), RESOLVE_USE_AND_ASK);
	/* Said once. */
	assert_false(resolve_entry_answered(e, &late, 0, T0 + S(60) + again));
	assert_int_equal(resolve_entry_use(e, T0 + S(60) + again + 1), RESOLVE_USE_STALE);
	/* Not for ever: the first hour ends, whatever was tried last. */
	assert_false(resolve_entry_answered(e, &late, 0, gone - 1));
	assert_int_equal(resolve_entry_use(e, gone - 1), RESOLVE_USE_STALE);
	assert_int_equal(resolve_entry_use(e, gone), RESOLVE_ASK);
	assert_false(resolve_entry_answered(e, &late, 0, gone));
	assert_int_equal(e->answer.status, -ETIMEDOUT);
	assert_int_equal(e->answer.n, 0);

	/* An answer ends it, also that there is none. */
	resolve_entry_answered(e, &two, 60, gone + S(10));
	resolve_entry_answered(e, &failed, 0, gone + S(80));
	assert_false(resolve_entry_answered(e, &one, 60, gone + S(90)));
	assert_int_equal(resolve_entry_use(e, gone + S(149)), RESOLVE_USE);
	assert_int_equal(resolve_entry_use(e, gone + S(150)), RESOLVE_ASK);
	assert_true(resolve_entry_answered(e, &failed, 0, gone + S(150)));
	resolve_entry_answered(e, &none, 0, gone + S(180));
	assert_int_equal(e->answer.status, -ENOENT);
	assert_int_equal(resolve_entry_use(e, gone + S(200)), RESOLVE_ASK);
	resolve_entry_answered(e, &failed, 0, gone + S(200));
	assert_int_equal(e->answer.status, -EIO);
	resolve_cache_put(&cache, e);
}

static void one_entry_for_a_name_and_family(void **state)
{
	struct resolve_entry *e = get("Host.Test"), *other;

	(void)state;
	other = get("hOST.tEST");
	assert_ptr_equal(e, other);
	resolve_cache_put(&cache, other);
	other = resolve_cache_get(&cache, "host.test", AF_INET6, true);
	assert_ptr_not_equal(e, other);
	resolve_cache_put(&cache, other);
	other = get("host.tes");
	assert_ptr_not_equal(e, other);
	resolve_cache_put(&cache, other);
	other = resolve_cache_get(&cache, "host.test", AF_INET, false);
	assert_ptr_not_equal(e, other);
	resolve_cache_put(&cache, other);
	resolve_cache_put(&cache, e);
	assert_ptr_equal(e, get("host.test"));
	resolve_cache_put(&cache, e);
	assert_int_equal(cache.n_idle, 3);
}

static struct resolve_entry *numbered(unsigned i)
{
	char name[32];

	snprintf(name, sizeof(name), "%u.test", i);
	return get(name);
}

/* The one that was used last longest goes first; what somebody holds never. */
static void bounded(void **state)
{
	struct resolve_answer a = good(1);
	struct resolve_entry *held = numbered(0), *e;

	(void)state;
	for (unsigned i = 1; i <= RESOLVE_CACHE_MAX; i++) {
		e = numbered(i);
		resolve_entry_answered(e, &a, 300, T0);
		resolve_cache_put(&cache, e);
	}
	assert_int_equal(cache.n_idle, RESOLVE_CACHE_MAX);
	e = numbered(1); /* used */
	assert_int_equal(resolve_entry_use(e, T0), RESOLVE_USE);
	resolve_cache_put(&cache, e);
	for (unsigned i = 0; i < 10; i++)
		resolve_cache_put(&cache, numbered(RESOLVE_CACHE_MAX + 1 + i));
	assert_int_equal(cache.n_idle, RESOLVE_CACHE_MAX);
	assert_int_equal(cache.entries.live, RESOLVE_CACHE_MAX + 1);
	e = numbered(1);
	assert_int_equal(resolve_entry_use(e, T0), RESOLVE_USE);
	resolve_cache_put(&cache, e);
	e = numbered(12);
	assert_int_equal(resolve_entry_use(e, T0), RESOLVE_USE);
	resolve_cache_put(&cache, e);
	e = numbered(11); /* 2 to 11 are gone */
	assert_int_equal(resolve_entry_use(e, T0), RESOLVE_ASK);
	resolve_cache_put(&cache, e);
	assert_ptr_equal(numbered(0), held);
	resolve_cache_put(&cache, held);
	resolve_cache_put(&cache, held);
}

int main(void)
{
#define CACHE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		CACHE_TEST(times),
		CACHE_TEST(stale_answers),
		CACHE_TEST(one_entry_for_a_name_and_family),
		CACHE_TEST(bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
