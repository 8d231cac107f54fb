/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/flight.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static void test_told(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_STRICT, 0), FLIGHT_STRICT);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_ONE_FLIGHT, 0), FLIGHT_ONE);
	assert_int_equal(f.state, FLIGHT_UNKNOWN);
}

/* What the next flow under "auto" does. */
static enum flight_way next(struct flight *f, uint64_t now_ms)
{
	return flight_begin(f, HANDSHAKE_MODE_AUTO, now_ms);
}

static struct flight learned(void)
{
	struct flight f = {0};

	assert_int_equal(next(&f, 0), FLIGHT_PROBE);
	flight_worked(&f, FLIGHT_PROBE, 10, 0);
	return f;
}

static void test_learns_yes(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(next(&f, 0), FLIGHT_PROBE);
	/* One probe at a time. */
	assert_int_equal(next(&f, 0), FLIGHT_STRICT);
	flight_worked(&f, FLIGHT_STRICT, 10, 0);
	assert_int_equal(next(&f, 0), FLIGHT_STRICT);
	flight_worked(&f, FLIGHT_PROBE, 10, 0);
	assert_int_equal(next(&f, 0), FLIGHT_LEARNED);
	flight_worked(&f, FLIGHT_LEARNED, 10, 0);
	assert_int_equal(next(&f, 0), FLIGHT_LEARNED);
}

static void test_learns_no(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(next(&f, 90), FLIGHT_PROBE);
	assert_int_equal(flight_failed(&f, FLIGHT_PROBE), FLIGHT_PROBE_AGAIN);
	assert_int_equal(next(&f, 95), FLIGHT_STRICT);
	flight_worked(&f, FLIGHT_PROBE_AGAIN, 10, 100);
	assert_int_equal(next(&f, 101), FLIGHT_STRICT);
	assert_int_equal(next(&f, 99 + FLIGHT_AGAIN_MS), FLIGHT_STRICT);
	assert_int_equal(next(&f, 100 + FLIGHT_AGAIN_MS), FLIGHT_PROBE);
}

/* Strictly it takes as long, or fails as well: nothing is known. */
static void test_probe_of_a_slow_destination(void **state)
{
	struct flight f = {0};

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(next(&f, 0), FLIGHT_PROBE);
		assert_int_equal(flight_failed(&f, FLIGHT_PROBE), FLIGHT_PROBE_AGAIN);
		flight_worked(&f, FLIGHT_PROBE_AGAIN, FLIGHT_DOUBT_MS, 0);
		assert_int_equal(next(&f, 0), FLIGHT_PROBE);
		assert_int_equal(flight_failed(&f, FLIGHT_PROBE), FLIGHT_PROBE_AGAIN);
		flight_forget(&f, FLIGHT_PROBE_AGAIN);
	}
	assert_int_equal(next(&f, 0), FLIGHT_PROBE);
}

/* A learned flow fails, and is answered strictly; `now_ms`. */
static void fail_once(struct flight *f, uint64_t now_ms)
{
	assert_int_equal(next(f, now_ms), FLIGHT_LEARNED);
	assert_int_equal(flight_failed(f, FLIGHT_LEARNED), FLIGHT_LEARNED_AGAIN);
	flight_worked(f, FLIGHT_LEARNED_AGAIN, 10, now_ms);
}

static void probe(struct flight *f, uint64_t now_ms)
{
	assert_int_equal(next(f, now_ms), FLIGHT_PROBE);
	flight_worked(f, FLIGHT_PROBE, 10, now_ms);
}

static void test_learned_fails(void **state)
{
	struct flight f = learned();

	(void)state;
	fail_once(&f, 5);
	probe(&f, 5);
	/* Twice, but not within the time. */
	fail_once(&f, 5 + FLIGHT_AGAIN_MS);
	probe(&f, 5 + FLIGHT_AGAIN_MS);
	fail_once(&f, 4 + 2 * FLIGHT_AGAIN_MS);
	assert_int_equal(next(&f, 4 + 2 * FLIGHT_AGAIN_MS), FLIGHT_STRICT);
	assert_int_equal(next(&f, 3 + 3 * FLIGHT_AGAIN_MS), FLIGHT_STRICT);
	probe(&f, 4 + 3 * FLIGHT_AGAIN_MS);
}

/* The second time counts also if another flow is just finding out, who then comes too late. */
static void test_learned_fails_twice_during_a_probe(void **state)
{
	struct flight f = learned();

	(void)state;
	fail_once(&f, 5);
	probe(&f, 6);
	assert_int_equal(flight_failed(&f, FLIGHT_LEARNED), FLIGHT_LEARNED_AGAIN);
	assert_int_equal(next(&f, 7), FLIGHT_PROBE);
	flight_worked(&f, FLIGHT_LEARNED_AGAIN, 10, 8);
	assert_int_equal(next(&f, 8), FLIGHT_STRICT);
	flight_worked(&f, FLIGHT_PROBE, 10, 9);
	assert_int_equal(next(&f, 9), FLIGHT_STRICT);
}

/* Of many that were under way one counts; what others have found out since stays. */
static void test_learned_fail_together(void **state)
{
	struct flight f = learned();

	(void)state;
	assert_int_equal(flight_failed(&f, FLIGHT_LEARNED), FLIGHT_LEARNED_AGAIN);
	assert_int_equal(flight_failed(&f, FLIGHT_LEARNED), FLIGHT_STRICT);
	assert_int_equal(next(&f, 1), FLIGHT_PROBE);
	assert_int_equal(flight_failed(&f, FLIGHT_LEARNED), FLIGHT_STRICT);
	assert_int_equal(next(&f, 1), FLIGHT_STRICT);
	assert_int_equal(flight_failed(&f, FLIGHT_PROBE), FLIGHT_PROBE_AGAIN);
	flight_worked(&f, FLIGHT_PROBE_AGAIN, 10, 2);
	assert_int_equal(flight_failed(&f, FLIGHT_LEARNED), FLIGHT_STRICT);
	flight_worked(&f, FLIGHT_LEARNED_AGAIN, 10, 3);
	assert_int_equal(next(&f, 1 + FLIGHT_AGAIN_MS), FLIGHT_STRICT);
	assert_int_equal(next(&f, 2 + FLIGHT_AGAIN_MS), FLIGHT_PROBE);
}

/* However often; each time it is asked anew. */
static void test_learned_to_a_slow_destination(void **state)
{
	struct flight f = learned();

	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(next(&f, 5), FLIGHT_LEARNED);
		assert_int_equal(flight_failed(&f, FLIGHT_LEARNED), FLIGHT_LEARNED_AGAIN);
		if (i % 2 == 0)
			flight_worked(&f, FLIGHT_LEARNED_AGAIN, FLIGHT_DOUBT_MS, 5);
		else
			flight_forget(&f, FLIGHT_LEARNED_AGAIN);
		probe(&f, 5);
	}
}

static void test_silent(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(next(&f, 5), FLIGHT_PROBE);
	flight_silent(&f, FLIGHT_PROBE, 5);
	assert_int_equal(next(&f, 6), FLIGHT_PROBE);
	assert_int_equal(next(&f, 6), FLIGHT_STRICT);
	flight_silent(&f, FLIGHT_STRICT, 6);
	assert_int_equal(next(&f, 6), FLIGHT_STRICT);
	flight_silent(&f, FLIGHT_PROBE, 7);
	assert_int_equal(next(&f, 6 + FLIGHT_AGAIN_MS), FLIGHT_STRICT);
	assert_int_equal(next(&f, 7 + FLIGHT_AGAIN_MS), FLIGHT_PROBE);
	f = learned();
	flight_silent(&f, FLIGHT_LEARNED, 5);
	flight_silent(&f, FLIGHT_LEARNED, 5);
	assert_int_equal(next(&f, 5), FLIGHT_PROBE);
	flight_silent(&f, FLIGHT_LEARNED, 5);
	flight_silent(&f, FLIGHT_PROBE_AGAIN, 5);
	assert_int_equal(next(&f, 6), FLIGHT_STRICT);
	flight_silent(&f, FLIGHT_PROBE, 7);
	assert_int_equal(next(&f, 6 + FLIGHT_AGAIN_MS), FLIGHT_STRICT);
}

static void test_forgets(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(next(&f, 0), FLIGHT_PROBE);
	flight_forget(&f, FLIGHT_STRICT);
	assert_int_equal(next(&f, 0), FLIGHT_STRICT);
	flight_forget(&f, FLIGHT_PROBE);
	assert_int_equal(next(&f, 0), FLIGHT_PROBE);
	flight_worked(&f, FLIGHT_PROBE, 10, 0);
	flight_forget(&f, FLIGHT_PROBE);
	assert_int_equal(next(&f, 0), FLIGHT_LEARNED);
}

static void test_patience(void **state)
{
	(void)state;
	assert_int_equal(flight_patience(FLIGHT_PROBE, 0), FLIGHT_PROBE_MS);
	assert_int_equal(flight_patience(FLIGHT_PROBE, 30000), FLIGHT_PROBE_MS);
	assert_int_equal(flight_patience(FLIGHT_PROBE, 300), 150);
	assert_int_equal(flight_patience(FLIGHT_LEARNED, 0), FLIGHT_DOUBT_MS);
	assert_int_equal(flight_patience(FLIGHT_LEARNED, 30000), FLIGHT_DOUBT_MS);
	assert_int_equal(flight_patience(FLIGHT_LEARNED, 3000), 1500);
	assert_int_equal(flight_patience(FLIGHT_LEARNED, 1), 1);
}

static void test_ways(void **state)
{
	static const struct {
		enum flight_way way;
		bool one, may_fail;
	} rows[] = {
		{FLIGHT_STRICT, false, false},        {FLIGHT_ONE, true, false},
		{FLIGHT_LEARNED, true, true},         {FLIGHT_PROBE, true, true},
		{FLIGHT_LEARNED_AGAIN, false, false}, {FLIGHT_PROBE_AGAIN, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(flight_is_one(rows[i].way), rows[i].one);
		assert_int_equal(flight_may_fail(rows[i].way), rows[i].may_fail);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_learns_yes),
		cmocka_unit_test(test_learns_no),
		cmocka_unit_test(test_probe_of_a_slow_destination),
		cmocka_unit_test(test_learned_fails),
		cmocka_unit_test(test_learned_fails_twice_during_a_probe),
		cmocka_unit_test(test_learned_fail_together),
		cmocka_unit_test(test_learned_to_a_slow_destination),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_forgets),
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
