/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/core/histogram.h"
#include "policy/defs.h"

static const struct histogram_shape *const shapes[] = {&histogram_waits, &histogram_lasts,
						       &histogram_bytes};

static void test_shapes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct histogram_shape *s = shapes[i];

		assert_in_range(s->n_bounds, 5, HISTOGRAM_BOUNDS_MAX);
		assert_true(s->unit == 1 || s->unit == 1000);
		for (size_t k = 1; k < s->n_bounds; k++)
			assert_true(s->bounds[k] > s->bounds[k - 1]);
	}
	assert_int_equal(histogram_bytes.bounds[0], 1024);
	assert_int_equal(histogram_bytes.bounds[histogram_bytes.n_bounds - 1], UINT64_C(1) << 34);
}

/* A bound belongs to the bucket below it. */
static void test_buckets(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct histogram_shape *s = shapes[i];
		struct histogram h = {.sum = 0};
		uint64_t sum = 0;

		histogram_add(&h, s, 0);
		for (size_t k = 0; k < s->n_bounds; k++) {
			histogram_add(&h, s, s->bounds[k]);
			histogram_add(&h, s, s->bounds[k] + 1);
			sum += 2 * s->bounds[k] + 1;
		}
		assert_int_equal(h.counts[0], 2);
		for (size_t k = 1; k < s->n_bounds; k++) /* shapes without 1 and 2 would have 2 */
			assert_true(h.counts[k] >= 1);
		assert_int_equal(h.counts[s->n_bounds], 1); /* above the last one */
		assert_int_equal(h.sum, sum);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_buckets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
