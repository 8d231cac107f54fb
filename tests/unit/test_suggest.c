/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "policy/suggest.h"
#include "tests/unit/temp_files.h"

static const char before[] = "[[upstream]]\n"
			     "url = \"socks5://10.1.1.1:1080\"\n"
			     "[[upstream]]\n"
			     "url = \"socks5://10.1.1.2:1080\"\n"
			     "group = \"tokyo\"\n";
static const char rules[] = "[[rule]]\n"
			    "name = \"only \\\"known\\\" sites\"\n"
			    "domains = [\".example\"]\n"
			    "action = \"refuse\"\n"
			    "observe = true\n"
			    "[[rule]]\n"
			    "networks = [\"11.0.0.0/8\", \"2a00:1::/32\"]\n"
			    "action = \"direct\"\n"
			    "observe = true\n"
			    "[[rule]]\n"
			    "domains = [\"t.example\"]\n"
			    "group = \"tokyo\"\n";

static char dir[TEMP_DIR_MAX];

static int setup(void **state)
{
	(void)state;
	return temp_dir_make(dir, "test_suggest");
}

static int teardown(void **state)
{
	(void)state;
	return temp_dir_remove(dir);
}

/* The configuration with `middle` in front of its rules. */
static struct conf *load(const char *middle, char path[128])
{
	struct strbuf text;
	struct conf *c = NULL;
	struct diag d;

	snprintf(path, 128, "%s/t.toml", dir);
	strbuf_init_heap(&text);
	strbuf_printf(&text, "%s%s%s", before, middle, rules);
	temp_write(path, text.data, text.len);
	strbuf_free(&text);
	if (conf_load(&conf_transocks, path, &c, &d) != 0)
		fail_msg("%s:%d: %s", d.file, d.line, d.text);
	return c;
}

static struct addr addr_of(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	return a;
}

static struct suggest_row named(size_t rule, const char *name, uint16_t port, uint64_t flows,
				uint64_t clients)
{
	struct suggest_row row = {.rule = rule,
				  .port = port,
				  .action = RULE_PROXY,
				  .flows = flows,
				  .clients = clients};

	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static struct suggest_row address(size_t rule, const char *dest, uint16_t port, uint64_t flows,
				  uint64_t clients)
{
	struct suggest_row row = named(rule, "", port, flows, clients);

	row.dest = addr_of(dest);
	return row;
}

static const char wanted[] = "# In front of rule \"only \\\"known\\\" sites\", line %d of \"%s\":\n"
			     "# what it would have refused goes on as it did.\n"
			     "\n"
			     "[[rule]]\n"
			     "# By address, as they went. This is about every name at these "
			     "addresses.\n"
			     "networks = [\n"
			     "  \"11.0.0.9\", # 2 flows of 2 clients\n"
			     "]\n"
			     "ports = [443]\n"
			     "action = \"direct\"\n"
			     "\n"
			     "[[rule]]\n"
			     "domains = [\n"
			     "  \"a.example\", # 1 flow of 1 client\n"
			     "  \"b.example\", # 20 flows of 3 clients\n"
			     "]\n"
			     "ports = [443]\n"
			     "action = \"proxy\"\n"
			     "group = \"default\"\n"
			     "\n"
			     "[[rule]]\n"
			     "domains = [\n"
			     "  \"t.example\", # 2 flows\n"
			     "]\n"
			     "ports = [443]\n"
			     "action = \"proxy\"\n"
			     "group = \"tokyo\"\n"
			     "\n"
			     "[[rule]]\n"
			     "domains = [\n"
			     "  \"a.example\", # 5 flows of 2 clients\n"
			     "]\n"
			     "ports = [8443]\n"
			     "action = \"proxy\"\n"
			     "group = \"default\"\n"
			     "\n"
			     "[[rule]]\n"
			     "# No name was known. This is about every name at these addresses.\n"
			     "networks = [\n"
			     "  \"9.9.9.9\", # 3 flows of 1 client\n"
			     "  \"192.0.2.1\", # 4 flows of 1 client\n"
			     "]\n"
			     "ports = [443]\n"
			     "action = \"proxy\"\n"
			     "group = \"default\"\n"
			     "\n"
			     "# In front of rule \"%s:%d\", line %d of \"%s\":\n"
			     "# what it would have let go direct goes on as it did.\n"
			     "\n"
			     "[[rule]]\n"
			     "networks = [\n"
			     "  \"11.0.0.7\", # 6 flows of 1 client\n"
			     "  \"2a00:1::7\", # 7 flows of 1 client\n"
			     "]\n"
			     "ports = [22]\n"
			     "action = \"proxy\"\n"
			     "group = \"default\"\n"
			     "\n"
			     "# There was no room for the destinations of 8 more flows: put these "
			     "rules in, reload, and look again.\n";

static struct suggest_row rows[] = {{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}};

static void fill(void)
{
	rows[0] = address(1, "2a00:1::7", 22, 7, 1);
	rows[1] = named(0, "b.example", 443, 20, 3);
	rows[2] = address(0, "192.0.2.1", 443, 4, 1);
	rows[3] = named(0, "t.example", 443, 2, 0);
	rows[3].group = 1;
	rows[4] = named(0, "a.example", 8443, 5, 2);
	rows[5] = address(1, "11.0.0.7", 22, 6, 1);
	rows[6] = named(0, "refused.example", 443, 9, 9);
	rows[6].action = RULE_REFUSE;
	rows[7] = named(0, "a.example", 443, 1, 1);
	rows[8] = address(0, "9.9.9.9", 443, 3, 1);
	rows[9] = address(0, "11.0.0.9", 443, 2, 2);
	rows[9].action = RULE_DIRECT;
}

static void test_text(void **state)
{
	char path[128], want[4096];
	struct conf *c = load("", path);
	const struct flow_rule *r = c->rules.rules;
	struct strbuf out;

	(void)state;
	fill();
	strbuf_init_heap(&out);
	suggest_text(c, rows, ARRAY_LEN(rows), 8, &out);
	snprintf(want, sizeof(want), wanted, r[0].place.line, path, path, r[1].place.line,
		 r[1].place.line, path);
	assert_string_equal(out.data, want);
	strbuf_free(&out);
	conf_unref(c);
}

/* Put where it belongs, it decides all that was seen, as it was. */
static void test_read_back(void **state)
{
	char path[128];
	struct conf *c = load("", path), *again;
	struct addr client = addr_of("10.0.0.1");
	struct strbuf out;

	(void)state;
	fill();
	strbuf_init_heap(&out);
	suggest_text(c, rows, ARRAY_LEN(rows), 0, &out);
	again = load(out.data, path);
	assert_int_equal(again->rules.n, c->rules.n + 6);
	fill();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct flow_facts f = {.client = &client, .dest = &rows[i].dest};
		struct rule_verdict v;

		f.port = rows[i].port;
		f.name = rows[i].name[0] != '\0' ? rows[i].name : NULL;
		f.name_expected = true;
		rules_match(&again->rules, &f, &v);
		if (rows[i].action == RULE_REFUSE) {
			assert_int_equal(v.observed, 6);
			continue;
		}
		assert_int_equal(v.observed, RULE_NONE);
		assert_int_equal(v.action, rows[i].action);
		assert_int_equal(v.group, rows[i].group);
		if (rows[i].action == RULE_DIRECT) { /* by its address, also if there is a name */
			f.name = "a.example";
			rules_match(&again->rules, &f, &v);
			assert_int_equal(v.action, RULE_DIRECT);
			assert_false(v.by_name);
			f.name = NULL;
		}
		/* The neighbours are still seen: another port, and another name. */
		f.port++;
		rules_match(&again->rules, &f, &v);
		assert_int_not_equal(v.observed, RULE_NONE);
		f.port--;
		f.name = f.name != NULL ? "other.example" : NULL;
		rules_match(&again->rules, &f, &v);
		assert_int_equal(v.observed == RULE_NONE, f.name == NULL);
	}
	strbuf_free(&out);
	conf_unref(again);
	conf_unref(c);
}

static void test_nothing(void **state)
{
	char path[128];
	struct conf *c = load("", path);
	struct strbuf out;

	(void)state;
	strbuf_init_heap(&out);
	suggest_text(c, NULL, 0, 0, &out);
	assert_string_equal(out.data, "# No flow was seen that a rule would treat otherwise if it "
				      "did more than observe.\n");
	conf_unref(load(out.data, path));
	strbuf_free(&out);
	conf_unref(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_read_back),
		cmocka_unit_test(test_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
