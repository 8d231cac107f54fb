/* SPDX-License-Identifier: MIT */
#include "policy/toml_depth.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/diag.h"
#include "policy/strbuf.h"
#include "policy/toml.h"

/* `before`, then a key of `parts` parts, then `after`. */
static int deep(const char *before, unsigned parts, const char *after)
{
	struct strbuf sb;
	int line;

	strbuf_init_heap(&sb);
	strbuf_puts(&sb, before);
	for (unsigned i = 0; i < parts; i++)
		strbuf_puts(&sb, i == 0 ? "a" : ".a");
	strbuf_puts(&sb, after);
	line = toml_deep_key(sb.data, sb.len);
	strbuf_free(&sb);
	return line;
}

static void test_where(void **state)
{
	static const struct {
		const char *before, *after;
		int line; /* 0: those dots are no key */
	} cases[] = {
		{"", " = 1\n", 1},
		{"x = 1\n\n", " = 1\n", 3},
		{"[", "]\n", 1},
		{"[[", "]]\n", 1},
		{"x = { ", " = 1 }", 1},
		{"x = { y = \"a\", ", " = 1 }", 1},
		{"x = { y = \"\"\"a\"\"\"\"\", ", " = 1 }", 1},
		{"x = { y = \"\\\"\", ", " = 1 }", 1},
		{"x = { y = '\\', ", " = 1 }", 1},
		{"x = \"\"\"\n\n\"\"\"\n", " = 1", 4},
		{"'q'.\"q\".", " = 1", 1},
		{"x = \"", "\"\n", 0},
		{"x = '", "'\n", 0},
		{"x = \"\"\"\n", "\n\"\"\"", 0},
		{"x = '''\n", "\n'''", 0},
		{"# ", "\n", 0},
		{"x = 1 # ", "", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(deep(cases[i].before, TOML_KEY_PARTS_MAX + 1, cases[i].after),
				 cases[i].line);
		assert_int_equal(deep(cases[i].before, TOML_KEY_PARTS_MAX - 2, cases[i].after), 0);
	}
	assert_int_equal(toml_deep_key("", 0), 0);
	assert_int_equal(toml_deep_key("\"", 1), 0);
	assert_int_equal(toml_deep_key("\"\"\"", 3), 0);
	assert_int_equal(toml_deep_key("\"\\", 2), 0);
}

/* What was found to end the parser: it must come back with an error. */
static void test_parser_survives(void **state)
{
	struct toml_doc *doc;
	struct strbuf sb;
	struct diag d;

	(void)state;
	strbuf_init_heap(&sb);
	strbuf_puts(&sb, "x = 1\na");
	for (int i = 0; i < 200000; i++)
		strbuf_puts(&sb, ".a");
	strbuf_puts(&sb, " = 1\n");
	assert_true(toml_parse(sb.data, sb.len, "f.toml", &doc, &d) < 0);
	assert_int_equal(d.line, 2);
	assert_non_null(strstr(d.text, "parts"));
	strbuf_free(&sb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_where),
		cmocka_unit_test(test_parser_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
