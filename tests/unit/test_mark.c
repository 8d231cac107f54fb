/* SPDX-License-Identifier: MIT */
#include "policy/mark.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/defs.h"

static void test_good(void **state)
{
	static const struct {
		const char *text;
		struct mark mark;
	} cases[] = {
		{"0x1000/0x1000", {0x1000, 0x1000}},
		{"16/0xff", {16, 0xff}},
		{"1", {1, UINT32_MAX}},
		{"0", {0, 0}},
		{"010", {10, UINT32_MAX}},
		{"0/0", {0, 0}},
		{"0XFFFFFFFF", {UINT32_MAX, UINT32_MAX}},
		{DEFAULT_MARK_TEXT, {DEFAULT_MARK_VALUE, DEFAULT_MARK_MASK}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct mark m = {7, 7};
		const char *why;

		assert_int_equal(mark_parse(&m, cases[i].text, &why), 0);
		assert_int_equal(m.value, cases[i].mark.value);
		assert_int_equal(m.mask, cases[i].mark.mask);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", "VALUE/MASK"},           {"/", "VALUE/MASK"},
		{"1 /1", "VALUE/MASK"},       {"0x/0x1", "VALUE/MASK"},
		{"x", "VALUE/MASK"},          {"0x", "VALUE/MASK"},
		{"1/", "VALUE/MASK"},         {"/1", "VALUE/MASK"},
		{"1/1/1", "VALUE/MASK"},      {" 1", "VALUE/MASK"},
		{"-1", "VALUE/MASK"},         {"1 ", "VALUE/MASK"},
		{"4294967296", "32 bits"},    {"0x100000000", "32 bits"},
		{"99999999999", "32 bits"},   {"3/1", "not in its mask"},
		{"0/1", "nobody has marked"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct mark m = {7, 7};
		const char *why = NULL;

		assert_int_equal(mark_parse(&m, cases[i].text, &why), -EINVAL);
		assert_non_null(strstr(why, cases[i].why));
		assert_int_equal(m.value, 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
