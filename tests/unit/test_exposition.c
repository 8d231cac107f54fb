/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/admin/exposition.h"

static struct strbuf out;
static struct exposition x;

static int begin(void **state)
{
	(void)state;
	strbuf_init_heap(&out);
	x = (struct exposition){.out = &out, .prefix = "p_"};
	return 0;
}

static int end(void **state)
{
	(void)state;
	strbuf_free(&out);
	return 0;
}

/* What the format allows to be in there, and how. */
static void test_escapes(void **state)
{
	(void)state;
	exposition_metric(&x, "a_total", "counter", "with \\ and \"quotes\"\nand lines");
	exposition_number(&x, LABELS({"one", "\\ \"x\" \n {},="}, {"two", ""}), 7);
	exposition_number(&x, NO_LABELS, UINT64_MAX);
	assert_string_equal(out.data, "# HELP p_a_total with \\\\ and \"quotes\"\\nand lines\n"
				      "# TYPE p_a_total counter\n"
				      "p_a_total{one=\"\\\\ \\\"x\\\" \\n {},=\",two=\"\"} 7\n"
				      "p_a_total 18446744073709551615\n");
}

static void test_decimals(void **state)
{
	static const uint64_t values[] = {0, 1, 10, 100, 1000, 1500, 20000, 1234567};

	(void)state;
	exposition_metric(&x, "a", "gauge", "help");
	out.len = 0;
	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		exposition_thousandths(&x, NO_LABELS, values[i]);
	assert_string_equal(out.data,
			    "p_a 0\np_a 0.001\np_a 0.01\np_a 0.1\np_a 1\np_a 1.5\np_a 20\n"
			    "p_a 1234.567\n");
}

/* Buckets add up, bounds and sum are in the unit that is shown. */
static void test_histogram(void **state)
{
	static const uint64_t bounds[] = {5, 2000};
	static const struct histogram_shape ms = {bounds, ARRAY_LEN(bounds), 1000},
					    bytes = {bounds, ARRAY_LEN(bounds), 1};
	struct histogram h = {.sum = 0};

	(void)state;
	histogram_add(&h, &ms, 5);
	histogram_add(&h, &ms, 6);
	histogram_add(&h, &ms, 7);
	histogram_add(&h, &ms, 2001);
	exposition_metric(&x, "h", "histogram", "help");
	out.len = 0;
	exposition_histogram(&x, NO_LABELS, &ms, &h);
	exposition_histogram(&x, LABELS({"of", "bytes"}), &bytes, &h);
	assert_string_equal(out.data, "p_h_bucket{le=\"0.005\"} 1\n"
				      "p_h_bucket{le=\"2\"} 3\n"
				      "p_h_bucket{le=\"+Inf\"} 4\n"
				      "p_h_sum 2.019\n"
				      "p_h_count 4\n"
				      "p_h_bucket{of=\"bytes\",le=\"5\"} 1\n"
				      "p_h_bucket{of=\"bytes\",le=\"2000\"} 3\n"
				      "p_h_bucket{of=\"bytes\",le=\"+Inf\"} 4\n"
				      "p_h_sum{of=\"bytes\"} 2019\n"
				      "p_h_count{of=\"bytes\"} 4\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_escapes, begin, end),
		cmocka_unit_test_setup_teardown(test_decimals, begin, end),
		cmocka_unit_test_setup_teardown(test_histogram, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
