/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "policy/strbuf.h"
#include "policy/toml.h"

static void put_item(struct strbuf *out, const struct toml_item *item)
{
	switch (item->kind) {
	case TOML_STRING:
		assert_int_equal(item->string[item->len], '\0');
		strbuf_put_quoted(out, item->string, item->len);
		break;
	case TOML_INTEGER:
		strbuf_printf(out, "%" PRId64, item->integer);
		break;
	case TOML_FLOAT:
		strbuf_printf(out, "%.2f", item->real);
		break;
	case TOML_BOOLEAN:
		strbuf_puts(out, item->boolean ? "true" : "false");
		break;
	case TOML_ARRAY:
		strbuf_putc(out, '[');
		for (size_t i = 0; i < item->len; i++) {
			assert_string_equal(item->elements[i].path, item->path);
			put_item(out, &item->elements[i]);
			strbuf_printf(out, "@%d ", item->elements[i].line);
		}
		strbuf_putc(out, ']');
		break;
	case TOML_TABLE:
		strbuf_puts(out, "TABLE");
		break;
	case TOML_OTHER:
		strbuf_puts(out, "OTHER");
		break;
	}
}

/* The items as "path@line=value;". */
static void put_doc(struct strbuf *out, const struct toml_doc *doc)
{
	size_t n;
	const struct toml_item *items = toml_items(doc, &n);

	for (size_t i = 0; i < n; i++) {
		assert_string_equal(items[i].file, "x.toml");
		strbuf_printf(out, "%s@%d=", items[i].path, items[i].line);
		put_item(out, &items[i]);
		strbuf_putc(out, ';');
	}
}

static void test_good(void **state)
{
	static const struct {
		const char *text, *items;
	} cases[] = {
		{"", ""},
		{"# nothing\n", ""},
		{"z = 1\na = 2\n", "z@1=1;a@2=2;"},
		{"i = -9223372036854775808\nh = 0x1F\nf = 1.5\nb = true\nd = 1979-05-27\n",
		 "i@1=-9223372036854775808;h@2=31;f@3=1.50;b@4=true;d@5=OTHER;"},
		{"s = \"a\\tb\\u0000c\"\nl = 'a\\b'\nm = \"\"\"\nx\ny\"\"\"\n",
		 "s@1=\"a\\u0009b\\u0000c\";l@2=\"a\\\\b\";m@3=\"x\\ny\";"},
		{"[log]\nlevel = \"x\"\n[a.b]\nc = 1\n", "log.level@2=\"x\";a.b.c@4=1;"},
		{"log.level = \"x\"\nlog = 1\n", NULL},
		{"log = { level = \"x\", format = \"y\" }\n",
		 "log.level@1=\"x\";log.format@1=\"y\";"},
		{"a = []\nb = [ 1,\n  \"x\",\n [true] ]\n",
		 "a@1=[];b@2=[1@2 \"x\"@3 [true@4 ]@4 ];"},
		{"[[up]]\nurl = 1\n[[up]]\nurl = 2\nn = [{a=1}]\n",
		 "up[0].url@2=1;up[1].url@4=2;up[1].n[0].a@5=1;"},
		{"m = [1, {a=1}]\n", "m@1=[1@1 TABLE@1 ];"},
		{"[empty]\n[log]\nlevel = 1\n[[e]]\n", "empty@1=TABLE;log.level@3=1;e[0]@4=TABLE;"},
		{"\"log.level\" = 1\n\"\" = 2\n\"a b\" = 3\n'\"' = 4\n\"\\u001b\" = 5\n\"bare\" = "
		 "6\n",
		 "\"log.level\"@1=1;\"\"@2=2;\"a "
		 "b\"@3=3;\"\\u0022\"@4=4;\"\\u001b\"@5=5;bare@6=6;"},
		{"\xef\xbb\xbfx = 1\r\ny = 2\r\n", "x@1=1;y@2=2;"},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct toml_doc *doc = NULL;
		struct diag d = {0};
		struct strbuf out;
		int r = toml_parse(cases[i].text, strlen(cases[i].text), "x.toml", &doc, &d);

		if (cases[i].items == NULL) {
			assert_int_equal(r, -EINVAL);
			continue;
		}
		if (r != 0)
			fail_msg("%s: %d: %s", cases[i].text, d.line, d.text);
		strbuf_init_heap(&out);
		put_doc(&out, doc);
		assert_string_equal(out.data, cases[i].items);
		strbuf_free(&out);
		toml_free(doc);
	}
}

/* Where the table of each item begins, whatever stands in it first. */
static void test_tables(void **state)
{
	static const char text[] = "a = 1\n[[up]]\n# why\n\nurl = 1\nname = 2\n[[up]]\n\nurl = 3\n"
				   "[g.x]\n\nchoose = 4\n[g.y]\n[h]\n\ni.j = 5\n";
	static const struct {
		const char *path;
		int line;
	} expected[] = {{"a", 0},           {"up[0].url", 2}, {"up[0].name", 2}, {"up[1].url", 7},
			{"g.x.choose", 10}, {"g.y", 13},      {"h.i.j", 16}};
	struct toml_doc *doc = NULL;
	const struct toml_item *items;
	size_t n;
	(void)state;

	assert_int_equal(toml_parse(text, strlen(text), "x.toml", &doc, NULL), 0);
	items = toml_items(doc, &n);
	assert_int_equal(n, ARRAY_LEN(expected));
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(items[i].path, expected[i].path);
		assert_int_equal(items[i].table_line, expected[i].line);
	}
	toml_free(doc);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text;
		int line;
	} cases[] = {
		{"a", 1},
		{"a =", 1},
		{"a = 1\nb = \n", 2},
		{"a = 1\na = 2\n", 2},
		{"\n\n[a\n", 3},
		{"a = \"x\n", 1},
		{"a = [1, 2", 1},
		{"a = 9223372036854775808\n", 1},
		{"a = \"\\q\"\n", 1},
		{"a = 1 b = 2\n", 1},
		{"a = tru\n", 1},
		{"[a]\n[a]\n", 2},
		{"a = \"\xff\"\n", 1},
		{"x = \"\\ud800\"\n", 1},
		/* Where toml++ 3.3 asserts or runs into undefined behaviour. */
		{"a = 1\nb = 1979-05-27Tx7:3\n", 0},
		{"a = \xc3\xa9\n", 1},
		{"\xef\xb9\xbf = 1\n", 1},
	};
	struct toml_doc *doc = NULL;
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct diag d = {0};

		assert_int_equal(
			toml_parse(cases[i].text, strlen(cases[i].text), "x.toml", &doc, &d),
			-EINVAL);
		assert_null(doc);
		assert_string_equal(d.file, "x.toml");
		assert_int_equal(d.line, cases[i].line);
		assert_true(strlen(d.text) > 5);
	}
	assert_int_equal(toml_parse("a", 1, "x.toml", &doc, NULL), -EINVAL);
	toml_free(NULL);
}

/* `n` bytes are read, not a string. */
static void test_length(void **state)
{
	struct toml_doc *doc;
	size_t n;
	(void)state;

	assert_int_equal(toml_parse("a = 1\nb = ?", 6, "x.toml", &doc, NULL), 0);
	toml_items(doc, &n);
	assert_int_equal(n, 1);
	toml_free(doc);
	assert_int_equal(toml_parse("a = 1\0", 6, "x.toml", &doc, NULL), -EINVAL);
}

/* Every beginning of a document with everything in it: refused or good, never a fault. */
static void test_truncated(void **state)
{
	static const char whole[] = "listen = [\"a\", { b = 1 }, [1.5, true]]\n[[t.\"u\\u00e9\"]]\n"
				    "d = 1979-05-27T07:32:00Z\ns = '''x'''\n[e]\n";
	int good = 0;
	(void)state;

	for (size_t n = 0; n < sizeof(whole); n++) {
		struct toml_doc *doc = NULL;
		char *text = malloc(n + 1);

		memcpy(text, whole, n);
		if (toml_parse(text, n, "x.toml", &doc, NULL) == 0)
			good++;
		toml_free(doc);
		free(text);
	}
	assert_in_range(good, 8, 60);
}

static char *repeat(const char *head, const char *part, size_t times, const char *tail)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	strbuf_puts(&sb, head);
	for (size_t i = 0; i < times; i++)
		strbuf_puts(&sb, part);
	strbuf_puts(&sb, tail);
	assert_false(sb.truncated);
	return sb.data;
}

/* Depth and length that nobody writes: bounded work, and at most one odd item. */
static void test_hostile(void **state)
{
	static const struct {
		const char *head, *part;
		size_t times;
		const char *tail;
		int r;
	} cases[] = {
		{"a = ", "[", 5000, "", -EINVAL},
		{"a = ", "{b=", 5000, "", -EINVAL},
		{"[a", ".a", 30, "]\nx = 1\n", 0},
		{"a", ".a", 30, " = 1\n", 0},
		{"[a", ".a", 500, "]\nx = 1\n", -EINVAL},
		{"a", ".a", 500, " = 1\n", -EINVAL},
		{"\"", "k", 100000, "\" = 1\n", 0},
		{"[\"", "k", 100000, "\"]\na = 1\nb = 2\n", 0},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *text = repeat(cases[i].head, cases[i].part, cases[i].times, cases[i].tail);
		struct toml_doc *doc = NULL;
		size_t n;

		assert_int_equal(toml_parse(text, strlen(text), "x.toml", &doc, NULL), cases[i].r);
		if (doc != NULL) {
			const struct toml_item *items = toml_items(doc, &n);

			assert_int_equal(n, 1);
			assert_true(strlen(items[0].path) < 600);
		}
		toml_free(doc);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),      cmocka_unit_test(test_tables),
		cmocka_unit_test(test_bad),       cmocka_unit_test(test_length),
		cmocka_unit_test(test_truncated), cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
