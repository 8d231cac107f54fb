/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/health.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "policy/defs.h"

#define T0 1000000 /* any time */

static struct health h;

static int setup(void **state)
{
	(void)state;
	health_init(&h);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	health_destroy(&h);
	return 0;
}

static enum health_state state_of(void)
{
	return (enum health_state)atomic_load(&h.state);
}

static uint64_t until(void)
{
	return atomic_load(&h.until_ms);
}

/* Ejected at `now_ms` by attempts that began then; without chance in its length. */
static void eject(uint64_t now_ms)
{
	for (unsigned i = 0; i + 1 < HEALTH_FAILURES; i++)
		assert_int_equal(health_failed(&h, now_ms, now_ms, 0), HEALTH_SAME);
	assert_int_equal(health_failed(&h, now_ms, now_ms, 0), HEALTH_LOST);
}

static void test_some_failures_are_no_ejection(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		health_failed(&h, T0 + i, T0 + i, 0);
		health_failed(&h, T0 + i, T0 + i, 0);
		assert_int_equal(health_worked(&h, T0 + i, T0 + i), HEALTH_SAME);
	}
	assert_int_equal(state_of(), HEALTH_UP);
	assert_int_equal(health_share(&h, T0 + 100), HEALTH_FULL);
}

/* However far apart. */
static void test_three_in_a_row_eject(void **state)
{
	(void)state;
	health_failed(&h, T0, T0 + 10, 0);
	health_failed(&h, T0 + 3600000, T0 + 3600010, 0);
	assert_int_equal(health_share(&h, T0 + 3600010), HEALTH_FULL);
	assert_int_equal(health_failed(&h, T0 + 7200000, T0 + 7200010, 0), HEALTH_LOST);
	assert_int_equal(state_of(), HEALTH_EJECTED);
	assert_int_equal(health_share(&h, T0 + 7200010), 0);
	assert_int_equal(until(), T0 + 7200010 + HEALTH_BACKOFF_MS);
}

/* 500 that began before it failed all fail: one ejection, and no longer one. */
static void test_a_burst_is_one_ejection(void **state)
{
	uint64_t end;

	(void)state;
	eject(T0);
	end = until();
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(health_failed(&h, T0 - i, T0 + 2 * i, 0), HEALTH_SAME);
	assert_int_equal(until(), end);
	/* Nor do those that tried it while it was ejected, because there was nobody else. */
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(health_failed(&h, T0 + i, T0 + i, 0), HEALTH_SAME);
	assert_int_equal(until(), end);
	/* During the trial and after it: late ones still come. */
	assert_true(health_take_trial(&h, end));
	assert_int_equal(health_failed(&h, T0 + 10, end + 1, 0), HEALTH_SAME);
	assert_int_equal(health_failed(&h, end, end + 5000, 0), HEALTH_STILL_LOST);
	assert_int_equal(health_failed(&h, end, end + 5000, 0), HEALTH_SAME);
	assert_int_equal(until(), end + 5000 + 2 * HEALTH_BACKOFF_MS);
}

/* What was lost long ago and is told late does not count behind a success. */
static void test_what_began_before_a_success_is_past(void **state)
{
	(void)state;
	assert_int_equal(health_failed(&h, T0, T0 + 9000, 0), HEALTH_SAME);
	assert_int_equal(health_worked(&h, T0 + 8999, T0 + 9000), HEALTH_SAME);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(health_failed(&h, T0 + i, T0 + 9001 + i, 0), HEALTH_SAME);
	assert_int_equal(state_of(), HEALTH_UP);
	eject(T0 + 9100);
}

static void test_backoff_doubles(void **state)
{
	uint64_t now = T0, ms = HEALTH_BACKOFF_MS;

	(void)state;
	eject(now);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(until(), now + ms);
		assert_false(health_is_due(&h, now + ms - 1));
		assert_false(health_take_trial(&h, now + ms - 1));
		now += ms;
		assert_true(health_is_due(&h, now));
		assert_true(health_take_trial(&h, now));
		assert_int_equal(health_failed(&h, now, now + 3, 0), HEALTH_STILL_LOST);
		now += 3;
		ms = 2 * ms < HEALTH_BACKOFF_MAX_MS ? 2 * ms : HEALTH_BACKOFF_MAX_MS;
	}
}

static void test_chance_shortens_by_a_quarter_at_most(void **state)
{
	uint64_t least = UINT64_MAX, most = 0;

	(void)state;
	for (uint32_t random = 0; random < 1000000; random += 997) {
		health_destroy(&h);
		health_init(&h);
		for (unsigned i = 0; i < HEALTH_FAILURES; i++)
			health_failed(&h, T0, T0, random);
		least = until() < least ? until() : least;
		most = until() > most ? until() : most;
	}
	assert_in_range(least, T0 + HEALTH_BACKOFF_MS * 3 / 4, T0 + HEALTH_BACKOFF_MS * 3 / 4 + 10);
	assert_in_range(most, T0 + HEALTH_BACKOFF_MS - 10, T0 + HEALTH_BACKOFF_MS);
}

static void test_one_trial_at_a_time(void **state)
{
	uint64_t now;

	(void)state;
	assert_false(health_take_trial(&h, T0)); /* up: nothing to try */
	eject(T0);
	now = until();
	assert_true(health_take_trial(&h, now));
	assert_int_equal(health_share(&h, now), 0);
	assert_false(health_take_trial(&h, now + 1));
	/* Another one's end says nothing of the trial, its own does. */
	health_unknown(&h, now - 1);
	assert_false(health_take_trial(&h, now + 1));
	health_unknown(&h, now);
	assert_int_equal(state_of(), HEALTH_EJECTED);
	assert_true(health_take_trial(&h, now + 1));
	/* One that is never told of. */
	assert_false(health_take_trial(&h, now + HEALTH_TRIAL_MS));
	assert_true(health_is_due(&h, now + 1 + HEALTH_TRIAL_MS));
	assert_true(health_take_trial(&h, now + 1 + HEALTH_TRIAL_MS));
}

static void test_returns_slowly(void **state)
{
	uint64_t now;
	unsigned last = 0;

	(void)state;
	eject(T0);
	now = until();
	assert_true(health_take_trial(&h, now));
	assert_int_equal(health_worked(&h, now - 1, now + 5), HEALTH_SAME); /* an old one */
	assert_int_equal(health_worked(&h, now, now + 5), HEALTH_FOUND);
	assert_int_equal(health_worked(&h, now, now + 6), HEALTH_SAME);
	now += 5;
	for (unsigned i = 0; i < HEALTH_RAMP_MS; i += 100) {
		unsigned share = health_share(&h, now + i);

		assert_in_range(share, last + 1, 1 + HEALTH_FULL * (i + 1) / HEALTH_RAMP_MS);
		assert_int_equal(health_look(&h, now + i), HEALTH_SAME);
		last = share;
	}
	assert_int_equal(health_share(&h, now - 3), 1); /* another worker's clock */
	assert_int_equal(health_share(&h, now + HEALTH_RAMP_MS), HEALTH_FULL);
	assert_int_equal(health_look(&h, now + HEALTH_RAMP_MS), HEALTH_WHOLE);
	assert_int_equal(health_look(&h, now + HEALTH_RAMP_MS), HEALTH_SAME);
	assert_int_equal(state_of(), HEALTH_UP);
	/* Once it is up its past is forgotten. */
	eject(now + HEALTH_RAMP_MS);
	assert_int_equal(until(), now + HEALTH_RAMP_MS + HEALTH_BACKOFF_MS);
}

/* One is enough, and it is remembered that it was ejected before. */
static void test_fails_while_returning(void **state)
{
	uint64_t now;

	(void)state;
	eject(T0);
	now = until();
	assert_true(health_take_trial(&h, now));
	assert_int_equal(health_worked(&h, now, now), HEALTH_FOUND);
	assert_int_equal(health_failed(&h, now - 1, now + 1, 0), HEALTH_SAME);
	assert_int_equal(health_failed(&h, now, now + 2, 0), HEALTH_LOST);
	assert_int_equal(until(), now + 2 + 2 * HEALTH_BACKOFF_MS);
}

/* A flow that had no other choice, or a probe. */
static void test_works_before_its_time_is_over(void **state)
{
	(void)state;
	eject(T0);
	assert_int_equal(health_worked(&h, T0 - 1, T0 + 1), HEALTH_SAME);
	assert_int_equal(health_worked(&h, T0, T0 + 1), HEALTH_SAME);
	assert_int_equal(state_of(), HEALTH_EJECTED);
	assert_int_equal(health_worked(&h, T0 + 1, T0 + 2), HEALTH_FOUND);
	assert_int_equal(state_of(), HEALTH_RETURNING);
}

/* A probe that fails after its time: as a trial. */
static void test_fails_after_its_time_without_a_trial(void **state)
{
	uint64_t now;

	(void)state;
	eject(T0);
	now = until();
	assert_int_equal(health_failed(&h, now - 1, now + 1, 0), HEALTH_SAME);
	assert_int_equal(health_failed(&h, now, now + 1, 0), HEALTH_STILL_LOST);
	assert_int_equal(until(), now + 1 + 2 * HEALTH_BACKOFF_MS);
}

#define THREADS 4
static atomic_uint n_lost, n_trials;

/* All threads fail together, and all want the trial. */
static void *hammer(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 10000; i++) {
		if (health_failed(&h, T0, T0 + 1, i) == HEALTH_LOST)
			atomic_fetch_add(&n_lost, 1);
		health_worked(&h, T0, T0 + 1);
		if (health_take_trial(&h, T0 + 2 * HEALTH_BACKOFF_MS))
			atomic_fetch_add(&n_trials, 1);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	eject(T0 + 1);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&n_lost), 0);
	assert_int_equal(atomic_load(&n_trials), 1);
	assert_int_equal(state_of(), HEALTH_TRIAL);
}

int main(void)
{
#define HEALTH_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		HEALTH_TEST(test_some_failures_are_no_ejection),
		HEALTH_TEST(test_three_in_a_row_eject),
		HEALTH_TEST(test_a_burst_is_one_ejection),
		HEALTH_TEST(test_what_began_before_a_success_is_past),
		HEALTH_TEST(test_backoff_doubles),
		HEALTH_TEST(test_chance_shortens_by_a_quarter_at_most),
		HEALTH_TEST(test_one_trial_at_a_time),
		HEALTH_TEST(test_returns_slowly),
		HEALTH_TEST(test_fails_while_returning),
		HEALTH_TEST(test_works_before_its_time_is_over),
		HEALTH_TEST(test_fails_after_its_time_without_a_trial),
		HEALTH_TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
