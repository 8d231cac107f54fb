/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "policy/prefix_set.h"

static struct prefix_set *set_of(const char *text)
{
	struct prefix_set *s = prefix_set_new();
	struct diag d;

	assert_non_null(s);
	if (prefix_set_add_text(s, text, strlen(text), "list", &d) != 0)
		fail_msg("%s:%d: %s", d.file, d.line, d.text);
	assert_int_equal(prefix_set_finish(s), 0);
	return s;
}

static bool contains(const struct prefix_set *s, const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	return prefix_set_contains(s, &a);
}

static const char networks[] = "\xef\xbb\xbf# both families\r\n"
			       "11.0.0.0/8\r\n"
			       "11.1.0.0/16\r\n"
			       "10.1.2.3 # alone\r\n"
			       "203.0.113.128/25\n"
			       "2001:db8:1::/48\n"
			       "2001:db8:1:2::/64\n"
			       "2001:db8:2::1\n"
			       "::ffff:198.51.100.0/120\n"
			       "255.255.255.255/32\n"
			       "0.0.0.0";

static const struct {
	const char *addr;
	bool in;
} cases[] = {
	{"11.0.0.0", true},
	{"11.1.0.0", true},
	{"11.1.255.255", true},
	{"11.2.0.0", true},
	{"11.255.255.255", true},
	{"10.255.255.255", false},
	{"12.0.0.0", false},
	{"10.1.2.3", true},
	{"10.1.2.2", false},
	{"10.1.2.4", false},
	{"203.0.113.127", false},
	{"203.0.113.128", true},
	{"203.0.113.255", true},
	{"203.0.114.0", false},
	{"2001:db8:0:ffff:ffff:ffff:ffff:ffff", false},
	{"2001:db8:1::", true},
	{"2001:db8:1:2::", true},
	{"2001:db8:1:ffff:ffff:ffff:ffff:ffff", true},
	{"2001:db8:2::", false},
	{"2001:db8:2::1", true},
	{"2001:db8:2::2", false},
	{"::ffff:11.0.0.1", true},
	{"::11.0.0.1", false},
	{"198.51.100.7", true},
	{"198.51.101.7", false},
	{"255.255.255.255", true},
	{"255.255.255.254", false},
	{"0.0.0.0", true},
	{"::", false},
	{"0.0.0.1", false},
};

static void test_contains(void **state)
{
	struct prefix_set *s = set_of(networks);
	struct addr none = {.family = AF_UNSPEC};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		print_message("case: %s\n", cases[i].addr);
		assert_int_equal(contains(s, cases[i].addr), cases[i].in);
	}
	assert_false(prefix_set_contains(s, &none));
	assert_true(prefix_set_bytes(s) > 0);
	assert_int_equal(prefix_set_count(s), 8); /* two are inside others */
	prefix_set_free(s);
}

/* One family's everything is not the other's. */
static void test_everything(void **state)
{
	struct prefix_set *s = set_of("0.0.0.0/0\n10.0.0.0/8\n");

	(void)state;
	assert_true(contains(s, "0.0.0.0"));
	assert_true(contains(s, "10.1.2.3"));
	assert_true(contains(s, "255.255.255.255"));
	assert_false(contains(s, "::"));
	prefix_set_free(s);

	s = set_of("10.0.0.0/8\n::/0\n");
	assert_true(contains(s, "::"));
	assert_true(contains(s, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
	assert_false(contains(s, "11.0.0.0"));
	prefix_set_free(s);

	s = set_of("# nothing\n");
	assert_false(contains(s, "::"));
	assert_false(contains(s, "0.0.0.0"));
	prefix_set_free(s);
	prefix_set_free(NULL);
}

/* What lies in another network takes no room. */
static void test_overlap(void **state)
{
	struct prefix_set *one = set_of("11.0.0.0/8\n2a00:1::/32\n");
	struct prefix_set *more = set_of("11.1.2.3\n2a00:1:2::/48\n11.1.0.0/16\n11.0.0.0/8\n"
					 "2a00:1::/32\n2a00:1::/32\n2a00:1::5\n");

	(void)state;
	assert_int_equal(prefix_set_bytes(one), prefix_set_bytes(more));
	prefix_set_free(one);
	prefix_set_free(more);
}

static const struct {
	const char *text;
	int line;
} bad[] = {
	{"10.0.0.0/8\n10.0.0.1/8\n", 2},
	{"10.0.0.0/33", 1},
	{"10.0.0.0/8 10.1.0.0/8", 1},
	{"10.0.0/8", 1},
	{"10.0.0.0-10.0.0.9", 1},
	{"2001:db8::/129", 1},
	{"fe80::1%eth0", 1},
	{"[::1]", 1},
	{"example.com", 1},
	{"\n\n10.0.0.0/", 3},
	{"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000/8", 1},
};

static void test_bad(void **state)
{
	struct prefix_set *s = prefix_set_new();
	struct diag d;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		print_message("case: %s\n", bad[i].text);
		assert_int_equal(
			prefix_set_add_text(s, bad[i].text, strlen(bad[i].text), "list", &d),
			-EINVAL);
		assert_string_equal(d.file, "list");
		assert_int_equal(d.line, bad[i].line);
		assert_non_null(strstr(d.text, "is not a network such as"));
	}
	assert_int_equal(prefix_set_add_text(s, "10.0.0.0\0/8", 11, "list", &d), -EINVAL);
	assert_non_null(strstr(d.text, "\"10.0.0.0\\u0000/8\""));
	prefix_set_free(s);
}

static uint32_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*x >> 32);
}

/* Against the plain way: every prefix is asked, for its first and last address and those beside them. */
static void test_naive(void **state)
{
	static struct prefix all[1500];
	struct prefix_set *s = prefix_set_new();
	uint64_t x = 1;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct prefix *p = &all[i];
		uint8_t first[16], last[16];

		*p = (struct prefix){.family = i % 2 == 0 ? AF_INET : AF_INET6};
		p->len = (uint8_t)(p->family == AF_INET ? 8 + next_random(&x) % 25
							: 16 + next_random(&x) % 113);
		for (size_t j = 0; j < 16; j++) /* few values, so that they meet */
			p->ip[j] = (uint8_t)(next_random(&x) % 8 * 36);
		prefix_bounds(p, first, last);
		for (size_t j = 0; j < 16; j++)
			p->ip[j] = j < (p->family == AF_INET ? 4u : 16u) ? first[j] & last[j] : 0;
		for (unsigned bit = p->len; bit < (p->family == AF_INET ? 32u : 128u); bit++)
			p->ip[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
		assert_int_equal(prefix_set_add(s, p), 0);
	}
	assert_int_equal(prefix_set_finish(s), 0);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		uint8_t bounds[2][16];

		prefix_bounds(&all[i], bounds[0], bounds[1]);
		for (size_t k = 0; k < 6; k++) {
			struct addr a = {.family = all[i].family};
			size_t n = addr_len(&a);
			bool want = false;

			memcpy(a.ip, bounds[k % 2], n);
			a.ip[n - 1] = (uint8_t)(a.ip[n - 1] + (k < 2 ? 0 : k < 4 ? 1 : 255));
			for (size_t j = 0; j < ARRAY_LEN(all); j++)
				want = want || prefix_contains(&all[j], &a);
			assert_int_equal(prefix_set_contains(s, &a), want);
		}
	}
	prefix_set_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contains), cmocka_unit_test(test_everything),
		cmocka_unit_test(test_overlap),  cmocka_unit_test(test_bad),
		cmocka_unit_test(test_naive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
