/* SPDX-License-Identifier: MIT */
#include "daemon/core/timer.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#define MODEL_TIMERS 200
#define MODEL_STEPS  10000

struct probe {
	struct timer timer;
	uint64_t due_ms; /* not before */
	unsigned fired;
	bool expected; /* the model's view: is it set? */
};

static struct wheel wheel;
static uint64_t now;
static uint64_t last_tick;

static void on_probe(struct timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	assert_true(now >= p->due_ms);
	assert_true(t->tick >= last_tick);
	assert_true(p->expected);
	assert_false(timer_is_set(t));
	last_tick = t->tick;
	p->expected = false;
	p->fired++;
}

static void probe_set(struct probe *p, uint64_t delay_ms)
{
	p->due_ms = now + delay_ms;
	p->expected = true;
	timer_set(&wheel, &p->timer, now, delay_ms, on_probe);
	assert_true(timer_is_set(&p->timer));
}

static void advance_to(uint64_t ms)
{
	now = ms;
	last_tick = 0;
	wheel_advance(&wheel, now);
}

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* A delay or a gap of any order of magnitude up to 2^34 ms, beyond the wheel's span. */
static uint64_t random_span(uint64_t *seed)
{
	unsigned bits = (unsigned)(random_next(seed) % 35);

	return random_next(seed) & (((uint64_t)1 << bits) - 1);
}

static void model_check(struct probe *probes)
{
	uint64_t first_ms = UINT64_MAX;
	int timeout = wheel_timeout(&wheel, now);

	for (size_t i = 0; i < MODEL_TIMERS; i++) {
		struct probe *p = &probes[i];

		assert_int_equal(timer_is_set(&p->timer), p->expected);
		if (!p->expected)
			continue;
		/* Late by a tick at most: set at `now`, it may have waited for the next one. */
		assert_true(p->due_ms + TIMER_TICK_MS > now);
		if (p->due_ms < first_ms)
			first_ms = p->due_ms;
	}
	if (first_ms == UINT64_MAX) {
		assert_int_equal(timeout, -1);
		return;
	}
	assert_true(timeout >= 0);
	assert_true(now + (uint64_t)timeout <= first_ms + 2 * TIMER_TICK_MS);
}

static void agrees_with_a_naive_list(void **state)
{
	static struct probe probes[MODEL_TIMERS];
	uint64_t seed = 0x9e3779b97f4a7c15;
	unsigned fired = 0;

	(void)state;
	now = 123456789;
	wheel_init(&wheel, now);
	for (size_t i = 0; i < MODEL_TIMERS; i++)
		timer_init(&probes[i].timer);
	for (unsigned step = 0; step < MODEL_STEPS; step++) {
		struct probe *p = &probes[random_next(&seed) % MODEL_TIMERS];
		unsigned what = (unsigned)(random_next(&seed) % 8);

		if (what < 4) {
			probe_set(p, random_span(&seed));
		} else if (what < 5) {
			p->expected = false;
			timer_cancel(&p->timer);
		} else {
			advance_to(now + random_span(&seed) / 64);
		}
		model_check(probes);
	}
	for (size_t i = 0; i < MODEL_TIMERS; i++)
		fired += probes[i].fired;
	assert_true(fired > MODEL_STEPS / 20);
	advance_to(now + ((uint64_t)1 << 40));
	for (size_t i = 0; i < MODEL_TIMERS; i++)
		assert_false(probes[i].expected);
}

/* A loop that sleeps for wheel_timeout() fires each timer within a tick, and wakes seldom. */
static void exact_at_cascade_boundaries(void **state)
{
	static const uint64_t ticks[] = {
		0,      1,        62,       63,         64,         65,        127,    128,
		4031,   4032,     4033,     4095,       4096,       4097,      262143, 262144,
		262145, 16777215, 16777216, 1073741823, 1073741824, 5000000000};
	static const uint64_t starts[] = {0,   1,     3,     4,        252,     255,
					  256, 16380, 16384, 67108863, 67108864};

	(void)state;
	for (size_t s = 0; s < ARRAY_LEN(starts); s++) {
		for (size_t i = 0; i < ARRAY_LEN(ticks); i++) {
			struct probe p = {.fired = 0};
			unsigned wakes = 0;
			int timeout;

			now = starts[s];
			wheel_init(&wheel, now);
			timer_init(&p.timer);
			probe_set(&p, ticks[i] * TIMER_TICK_MS);
			while ((timeout = wheel_timeout(&wheel, now)) >= 0) {
				advance_to(now + (uint64_t)timeout);
				assert_true(++wakes < 100);
			}
			assert_int_equal(p.fired, 1);
			assert_true(now <= p.due_ms + TIMER_TICK_MS);
		}
	}
}

static void fires_in_order_after_a_gap(void **state)
{
	struct probe probes[50] = {0};

	(void)state;
	now = 1000;
	wheel_init(&wheel, now);
	for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
		timer_init(&probes[i].timer);
		probe_set(&probes[i], (i * 7919 % 50) * 997);
	}
	advance_to(now + 1000000); /* on_probe() compares ticks */
	for (size_t i = 0; i < ARRAY_LEN(probes); i++)
		assert_int_equal(probes[i].fired, 1);
}

static void time_never_goes_back(void **state)
{
	struct probe p = {.fired = 0};

	(void)state;
	now = 100000;
	wheel_init(&wheel, now);
	timer_init(&p.timer);
	wheel_advance(&wheel, 200000);
	wheel_advance(&wheel, 100000);
	assert_int_equal(wheel.tick, 200000 / TIMER_TICK_MS);
	probe_set(&p, 8); /* by a clock that is behind the wheel */
	wheel_advance(&wheel, 100008);
	assert_int_equal(p.fired, 0);
	assert_int_equal(wheel_timeout(&wheel, 200000), TIMER_TICK_MS);
	advance_to(200004);
	assert_int_equal(p.fired, 1);
}

static void setting_again_moves(void **state)
{
	struct probe p = {.fired = 0};

	(void)state;
	now = 0;
	wheel_init(&wheel, now);
	timer_init(&p.timer);
	probe_set(&p, 100);
	probe_set(&p, 1000);
	advance_to(500);
	assert_int_equal(p.fired, 0);
	probe_set(&p, 100);
	advance_to(600);
	assert_int_equal(p.fired, 1);
	advance_to(5000);
	assert_int_equal(p.fired, 1);
}

static void endless_delay_does_not_overflow(void **state)
{
	struct probe p = {.fired = 0};

	(void)state;
	now = 1000;
	wheel_init(&wheel, now);
	timer_init(&p.timer);
	p.expected = true;
	timer_set(&wheel, &p.timer, now, UINT64_MAX, on_probe);
	advance_to((uint64_t)1 << 45);
	assert_int_equal(p.fired, 0);
	assert_true(timer_is_set(&p.timer));
	timer_cancel(&p.timer);
	timer_cancel(&p.timer);
	assert_false(timer_is_set(&p.timer));
	assert_int_equal(wheel_timeout(&wheel, now), -1);
}

/* Callbacks that touch other timers. */
static struct timer victim, extra;
static unsigned victim_fired, extra_fired, again_fired;

static void on_victim(struct timer *t)
{
	(void)t;
	victim_fired++;
}

static void on_extra(struct timer *t)
{
	(void)t;
	extra_fired++;
}

static void on_cancel(struct timer *t)
{
	(void)t;
	timer_cancel(&victim);
	timer_set(&wheel, &extra, now, 0, on_extra);
}

static void on_again(struct timer *t)
{
	if (++again_fired < 3)
		timer_set(&wheel, t, now, 0, on_again);
}

static void callbacks_may_set_and_cancel(void **state)
{
	struct timer first, again;

	(void)state;
	now = 0;
	wheel_init(&wheel, now);
	timer_init(&first);
	timer_init(&again);
	timer_init(&victim);
	timer_init(&extra);
	timer_set(&wheel, &first, now, 40, on_cancel);
	timer_set(&wheel, &victim, now, 40, on_victim); /* due in the same tick, cancelled */
	advance_to(40);
	assert_int_equal(victim_fired, 0);
	assert_int_equal(extra_fired, 0);
	advance_to(44);
	assert_int_equal(extra_fired, 1);

	/* One that sets itself does not hold the wheel up: once for each advance. */
	timer_set(&wheel, &again, now, 0, on_again);
	advance_to(48);
	assert_int_equal(again_fired, 1);
	advance_to(52);
	advance_to(56);
	assert_int_equal(again_fired, 3);
	assert_int_equal(wheel_timeout(&wheel, now), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_naive_list),
		cmocka_unit_test(exact_at_cascade_boundaries),
		cmocka_unit_test(fires_in_order_after_a_gap),
		cmocka_unit_test(time_never_goes_back),
		cmocka_unit_test(setting_again_moves),
		cmocka_unit_test(endless_delay_does_not_overflow),
		cmocka_unit_test(callbacks_may_set_and_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
