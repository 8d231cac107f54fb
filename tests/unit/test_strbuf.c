/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/strbuf.h"

static void test_fixed(void **state)
{
	char mem[8];
	struct strbuf sb;
	(void)state;

	strbuf_init(&sb, mem, sizeof(mem));
	assert_string_equal(sb.data, "");
	strbuf_puts(&sb, "abc");
	strbuf_putc(&sb, 'd');
	strbuf_printf(&sb, "%d", 42);
	assert_string_equal(mem, "abcd42");
	assert_int_equal(sb.len, 6);
	assert_false(sb.truncated);
	strbuf_putc(&sb, '!');
	assert_false(sb.truncated); /* full to the last byte */
	strbuf_puts(&sb, "");
	assert_false(sb.truncated);
	strbuf_putc(&sb, '?');
	assert_true(sb.truncated);
	assert_string_equal(mem, "abcd42!");
	strbuf_free(&sb); /* frees nothing of the caller's */
}

static void test_fixed_cuts(void **state)
{
	char mem[6];
	struct strbuf sb;
	(void)state;

	strbuf_init(&sb, mem, sizeof(mem));
	strbuf_printf(&sb, "%s", "abcdefgh");
	assert_string_equal(mem, "abcde");
	assert_true(sb.truncated);

	strbuf_init(&sb, mem, sizeof(mem));
	strbuf_put(&sb, "abcdefgh", 8);
	assert_string_equal(mem, "abcde");
	assert_true(sb.truncated);

	strbuf_init(&sb, mem, 1);
	strbuf_puts(&sb, "a");
	strbuf_printf(&sb, "%d", 1);
	assert_string_equal(mem, "");
	assert_true(sb.truncated);
}

static void test_heap_grows(void **state)
{
	struct strbuf sb;
	(void)state;

	strbuf_init_heap(&sb);
	assert_string_equal(sb.data, "");
	for (int i = 0; i < 10000; i++)
		strbuf_printf(&sb, "%04d,", i);
	assert_int_equal(sb.len, 50000);
	assert_int_equal(strlen(sb.data), 50000);
	assert_memory_equal(sb.data + 49990, "9998,9999,", 10);
	assert_false(sb.truncated);
	strbuf_free(&sb);
	assert_int_equal(sb.len, 0);
	assert_string_equal(sb.data, "");
	strbuf_puts(&sb, "again");
	assert_string_equal(sb.data, "again");
	strbuf_free(&sb);
	strbuf_free(&sb);
}

static void test_nul_is_a_byte(void **state)
{
	struct strbuf sb;
	(void)state;

	strbuf_init_heap(&sb);
	strbuf_put(&sb, "a\0b", 3);
	assert_int_equal(sb.len, 3);
	assert_memory_equal(sb.data, "a\0b", 4);
	strbuf_free(&sb);
}

static void test_quoted(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *quoted;
	} cases[] = {
		{"", 0, "\"\""},
		{"plain text ~", 12, "\"plain text ~\""},
		{"a\"b\\c", 5, "\"a\\\"b\\\\c\""},
		{"a\nb", 3, "\"a\\nb\""},
		{"\r\t\x1b\x7f", 4, "\"\\u000d\\u0009\\u001b\\u007f\""},
		{"\0", 1, "\"\\u0000\""},
		{"\xc3\xa9\xff", 3, "\"\xc3\xa9\\u00ff\""},
		{"\xe2\x82\xac \xf0\x9f\x99\x82", 8, "\"\xe2\x82\xac \xf0\x9f\x99\x82\""},
		{"\xe2\x82", 2, "\"\\u00e2\\u0082\""},
		{"\xc2\x9b"
		 "2J",
		 4, "\"\\u009b2J\""}, /* CSI */
		{"\xe2\x80\xae"
		 "a",
		 4, "\"\\u202ea\""},                              /* from right to left */
		{"\xc0\x9b", 2, "\"\\u00c0\\u009b\""},            /* ESC, overlong */
		{"\xed\xa0\x80", 3, "\"\\u00ed\\u00a0\\u0080\""}, /* half of a pair */
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct strbuf sb;

		strbuf_init_heap(&sb);
		strbuf_put_quoted(&sb, cases[i].bytes, cases[i].n);
		assert_string_equal(sb.data, cases[i].quoted);
		strbuf_free(&sb);
	}
}

static void test_quoted_is_cut_between_characters(void **state)
{
	char mem[4];
	struct strbuf sb;
	(void)state;

	strbuf_init(&sb, mem, sizeof(mem));
	strbuf_put_quoted(&sb, "a\xc3\xa9", 3);
	assert_string_equal(sb.data, "\"a\"");
	assert_true(sb.truncated);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_fixed_cuts),
		cmocka_unit_test(test_heap_grows),
		cmocka_unit_test(test_nul_is_a_byte),
		cmocka_unit_test(test_quoted),
		cmocka_unit_test(test_quoted_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
