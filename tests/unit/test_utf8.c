/* SPDX-License-Identifier: MIT */
#include "policy/utf8.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/defs.h"

static void test_decode(void **state)
{
	static const struct {
		const char *bytes;
		size_t len; /* 0: no character */
		uint32_t code;
	} cases[] = {
		{"a", 1, 'a'},
		{"\x7f", 1, 0x7f},
		{"\xc2\x80", 2, 0x80},
		{"\xdf\xbf", 2, 0x7ff},
		{"\xe0\xa0\x80", 3, 0x800},
		{"\xef\xbf\xbf", 3, 0xffff},
		{"\xf0\x90\x80\x80", 4, 0x10000},
		{"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
		{"", 0, 0},
		{"\x80", 0, 0},
		{"\xc3", 0, 0},
		{"\xc3(", 0, 0},
		{"\xc1\xbf", 0, 0},
		{"\xe0\x9f\xbf", 0, 0},
		{"\xed\xa0\x80", 0, 0},
		{"\xf0\x8f\xbf\xbf", 0, 0},
		{"\xf4\x90\x80\x80", 0, 0},
		{"\xf8\x88\x80\x80\x80", 0, 0},
		{"\xff", 0, 0},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t code = 0;

		assert_int_equal(utf8_decode(cases[i].bytes, strlen(cases[i].bytes), &code),
				 cases[i].len);
		assert_int_equal(code, cases[i].code);
	}
}

static void test_cut(void **state)
{
	static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82";
	static const size_t ends[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
	(void)state;

	for (size_t n = 0; n < ARRAY_LEN(ends); n++)
		assert_int_equal(utf8_cut(text, n), ends[n]);
	for (size_t n = 0; n < 6; n++) /* no UTF-8 */
		assert_int_equal(utf8_cut("\x80\x80\x80\x80\x80\x80", n), n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
