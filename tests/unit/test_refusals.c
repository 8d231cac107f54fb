/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/log_files.h"

#include "daemon/flow/refusals.h"

static struct loop loop;
static struct refusals refusals;

static void start(const char *log)
{
	struct diag d;

	configure(path_of(log), LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
	assert_int_equal(loop_init(&loop, &d), 0);
	refusals_init(&refusals, &loop);
}

static void seconds(unsigned n)
{
	for (uint64_t end = loop.now_ms + n * UINT64_C(1000) + 50; loop.now_ms < end;) {
		loop.now_ms += 10;
		wheel_advance(&loop.wheel, loop.now_ms);
	}
}

/* How many of `n` get a line. */
static unsigned say(enum why why, unsigned n)
{
	unsigned said = 0;

	for (unsigned i = 0; i < n; i++)
		said += refusals_say(&refusals, why);
	return said;
}

static void end(const char *log, const char *const *want, size_t n)
{
	size_t len;
	char *text, *at;

	refusals_end(&refusals);
	assert_false(timer_is_set(&refusals.timer));
	log_stop();
	at = text = slurp_file(log, &len);
	assert_int_equal(count_lines(text), n);
	for (size_t i = 0; i < n; i++) {
		at = strstr(at, want[i]);
		if (at == NULL)
			fail_msg("no \"%s\" in its place in:\n%s", want[i], text);
	}
	free(text);
	loop_destroy(&loop);
}

/* A burst is written whole. Beyond it there is one a second, and each line of counts says what was left out before. */
static void test_flood(void **state)
{
	static const char *const want[] = {
		"\"more flows refused\" count=30 end=bad-request phase=request",
		"count=9 end=bad-request",
		"count=9 end=bad-request",
		"count=10 end=bad-request",
		"count=1 end=bad-request",
	};

	(void)state;
	start("flood");
	assert_int_equal(say(WHY_REQUEST_BAD, REFUSALS_BURST + 30), REFUSALS_BURST);
	for (int i = 0; i < 2; i++) {
		seconds(1);
		assert_int_equal(say(WHY_REQUEST_BAD, 10), 1);
	}
	seconds(1);
	/* What came after a second in between counts towards the next one. */
	assert_int_equal(say(WHY_REQUEST_BAD, 11), 1);
	seconds(3);
	assert_int_equal(say(WHY_REQUEST_BAD, 4), 3);
	end("flood", want, ARRAY_LEN(want));
}

/* Who is loud about one thing hides nothing else. */
static void test_reasons(void **state)
{
	static const char *const want[] = {
		"count=7 end=client-gone\n",
		"count=5 end=client-limit phase=accept",
	};

	(void)state;
	start("reasons");
	assert_int_equal(say(WHY_CLIENT_LIMIT, REFUSALS_BURST + 5), REFUSALS_BURST);
	assert_int_equal(say(WHY_AUTH_FAILED, REFUSALS_BURST), REFUSALS_BURST);
	assert_int_equal(say(WHY_CLIENT_GONE, REFUSALS_BURST + 7), REFUSALS_BURST);
	seconds(1);
	end("reasons", want, ARRAY_LEN(want));
}

/* After a while nothing is remembered, and no timer runs. */
static void test_quiet(void **state)
{
	(void)state;
	start("quiet");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(say(WHY_CLIENT_REFUSED, REFUSALS_BURST), REFUSALS_BURST);
		assert_true(timer_is_set(&refusals.timer));
		seconds(REFUSALS_BURST + 1);
		assert_false(timer_is_set(&refusals.timer));
	}
	end("quiet", NULL, 0);
}

static void test_concern(void **state)
{
	static const enum why yes[] = {WHY_CLIENT_LIMIT, WHY_CLIENT_REFUSED,  WHY_REQUEST_BAD,
				       WHY_AUTH_FAILED,  WHY_REQUEST_TIMEOUT, WHY_NOT_REDIRECTED};
	static const enum why no[] = {
		WHY_DONE,           WHY_CLIENT_LOST, WHY_SITE_REFUSED, WHY_NETWORK_REFUSED,
		WHY_CONNECT_FAILED, WHY_CUT,         WHY_NO_MEMORY,    WHY_RULE_REFUSED};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		assert_true(refusals_concern(yes[i]));
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_false(refusals_concern(no[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_concern),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
