/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "policy/rules.h"

static char a_alone[] = "a.example", b_below[] = ".b.example", c_below[] = ".c.example";
static char star_below[] = "*.a.example";
static char domains_path[] = "d.txt", networks_path[] = "n.txt", no_path[] = "";
static char *domains_a[] = {a_alone, b_below};
static char *domains_c[] = {c_below};
static struct prefix nets[2], clients[1];
static struct port_range web[] = {{80, 80}, {443, 443}, {8000, 8999}};

#define DOMAINS(list) .domains = {.strings = (list), .n = ARRAY_LEN(list)}
#define NETWORKS      .networks = {.prefixes = nets, .n = ARRAY_LEN(nets)}
#define CLIENTS       .clients = {.prefixes = clients, .n = ARRAY_LEN(clients)}
#define PORTS         .ports = {.ranges = web, .n = ARRAY_LEN(web)}

static int setup(void **state)
{
	(void)state;
	return prefix_parse(&nets[0], "11.0.0.0/8") | prefix_parse(&nets[1], "2a00:1::/32") |
	       prefix_parse(&clients[0], "10.91.1.0/24");
}

struct flow_case {
	const char *client, *dest; /* dest NULL: only the name is known */
	uint16_t port;
	const char *name;
	bool expected;
	size_t rule; /* that decides */
	size_t observed;
	int want_name; /* 2: for a rule that only observes */
};

static void check(struct flow_rules *list, const struct flow_case *cases, size_t n)
{
	struct diag d;

	for (size_t i = 0; i < list->n; i++)
		assert_int_equal(rule_compile(&list->rules[i], NULL, 0, NULL, 0, &d), 0);
	for (size_t i = 0; i < n; i++) {
		const struct flow_case *k = &cases[i];
		struct addr client, dest = {.family = AF_UNSPEC};
		struct flow_facts f = {.client = &client,
				       .dest = &dest,
				       .port = k->port,
				       .name = k->name,
				       .name_expected = k->expected};
		struct rule_verdict v;

		print_message("case %zu: %s %s:%u %s\n", i, k->client, k->dest ? k->dest : "?",
			      k->port, k->name ? k->name : "?");
		assert_int_equal(addr_parse(&client, k->client), 0);
		if (k->dest != NULL)
			assert_int_equal(addr_parse(&dest, k->dest), 0);
		rules_match(list, &f, &v);
		assert_int_equal(v.rule, k->rule);
		assert_int_equal(v.observed, k->observed);
		assert_int_equal(rules_want_name(list, &f), k->want_name > 0);
		assert_int_equal(v.by_name, k->want_name == 1 && k->name != NULL);
		if (v.rule == RULE_NONE) {
			assert_int_equal(v.action, RULE_PROXY);
			assert_int_equal(v.group, 0);
			continue;
		}
		assert_int_equal(v.action, list->rules[v.rule].action);
		assert_int_equal(v.group, list->rules[v.rule].group_index);
	}
	for (size_t i = 0; i < list->n; i++)
		rule_release(&list->rules[i]);
}

#define CHECK(rules_, cases_)                                                            \
	check(&(struct flow_rules){.rules = (rules_), .n = ARRAY_LEN(rules_)}, (cases_), \
	      ARRAY_LEN(cases_))

static void test_conditions(void **state)
{
	struct flow_rule rules[] = {
		{.action = RULE_REFUSE, DOMAINS(domains_a), NETWORKS},
		{.action = RULE_DIRECT, NETWORKS, PORTS},
		{.action = RULE_PROXY, .group_index = 3, CLIENTS},
		{.action = RULE_PROXY, .group_index = 2, DOMAINS(domains_c)},
	};
	static const struct flow_case cases[] = {
		/* domains and networks of one rule are both needed */
		{"10.91.9.1", "11.0.0.1", 22, "a.example", false, 0, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 80, "x.b.example", true, 0, RULE_NONE, true},
		{"10.91.9.1", "12.0.0.1", 80, "x.b.example", true, RULE_NONE, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 80, "x.a.example", true, 1, RULE_NONE, true},
		{"10.91.9.1", "2a00:1::5", 8999, "x.a.example", true, 1, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 9000, "x.a.example", true, RULE_NONE, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 81, "x", true, RULE_NONE, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 7999, "x", true, RULE_NONE, RULE_NONE, true},
		{"10.91.1.1", "11.0.0.1", 81, "c.example", true, 2, RULE_NONE, true},
		{"10.91.1.1", "12.0.0.1", 81, "c.example", true, 2, RULE_NONE, false},
		{"10.91.9.1", "12.0.0.1", 81, "c.example", true, 3, RULE_NONE, true},
		/* a network never holds for a name alone */
		{"10.91.9.1", NULL, 80, "a.example", true, RULE_NONE, RULE_NONE, true},
		{"10.91.9.1", NULL, 80, "c.example", true, 3, RULE_NONE, true},
		/* no name: the refusal of rule 0 matches where one was expected */
		{"10.91.9.1", "11.0.0.1", 443, NULL, true, 0, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 443, NULL, false, 1, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 22, NULL, false, RULE_NONE, RULE_NONE, true},
		/* and no other action */
		{"10.91.9.1", "12.0.0.1", 443, NULL, true, RULE_NONE, RULE_NONE, true},
	};

	(void)state;
	CHECK(rules, cases);
}

static void test_unknown_name(void **state)
{
	struct flow_rule rules[] = {
		{.action = RULE_REFUSE, DOMAINS(domains_a), .unknown_name = RULE_UNKNOWN_SKIP},
		{.action = RULE_DIRECT,
		 DOMAINS(domains_a),
		 PORTS,
		 .unknown_name = RULE_UNKNOWN_MATCH},
		{.action = RULE_REFUSE, DOMAINS(domains_a), .unknown_name = RULE_UNKNOWN_AUTO},
	};
	static const struct flow_case cases[] = {
		{"10.91.9.1", "11.0.0.1", 443, NULL, true, 1, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 8000, NULL, false, 1, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 22, NULL, true, 2, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 22, NULL, false, RULE_NONE, RULE_NONE, true},
		/* a name that is known and is another one is no match for any of them */
		{"10.91.9.1", "11.0.0.1", 443, "z.example", true, RULE_NONE, RULE_NONE, true},
		{"10.91.9.1", "11.0.0.1", 443, "a.example", true, 0, RULE_NONE, true},
	};

	(void)state;
	CHECK(rules, cases);
}

static void test_observe(void **state)
{
	struct flow_rule rules[] = {
		{.action = RULE_REFUSE, PORTS, .observe = true},
		{.action = RULE_REFUSE, NETWORKS, .observe = true},
		{.action = RULE_DIRECT, CLIENTS},
		{.action = RULE_REFUSE, DOMAINS(domains_a), .observe = true},
	};
	static const struct flow_case cases[] = {
		{"10.91.9.1", "11.0.0.1", 80, NULL, true, RULE_NONE, 0, true},
		{"10.91.9.1", "11.0.0.1", 22, NULL, false, RULE_NONE, 1, true},
		{"10.91.9.1", "12.0.0.1", 22, NULL, false, RULE_NONE, RULE_NONE, true},
		{"10.91.1.1", "11.0.0.1", 80, "a.example", true, 2, 0, false},
		{"10.91.1.1", "12.0.0.1", 22, "a.example", true, 2, RULE_NONE, false},
		{"10.91.9.1", "12.0.0.1", 22, "a.example", true, RULE_NONE, 3, 2},
	};

	(void)state;
	CHECK(rules, cases);
}

static void test_no_rules(void **state)
{
	struct flow_rule any[] = {{.action = RULE_REFUSE}};
	static const struct flow_case none[] = {
		{"10.91.9.1", "11.0.0.1", 80, "a.example", true, RULE_NONE, RULE_NONE, false}};
	static const struct flow_case all[] = {
		{"10.91.9.1", "11.0.0.1", 80, NULL, true, 0, RULE_NONE, false},
		{"fd91::1", NULL, 1, "a.example", false, 0, RULE_NONE, false}};

	(void)state;
	check(&(struct flow_rules){0}, none, ARRAY_LEN(none));
	CHECK(any, all);
}

static const char domains_text[] = "file.example\n.tree.example\n";
static const char networks_text[] = "12.0.0.0/8\n";

static void test_files(void **state)
{
	struct flow_rule r = {.place = {"x.toml", 7},
			      DOMAINS(domains_a),
			      NETWORKS,
			      .domains_file = domains_path,
			      .networks_file = networks_path};
	struct addr a;
	struct diag d;

	(void)state;
	assert_int_equal(rule_compile(&r, domains_text, strlen(domains_text), networks_text,
				      strlen(networks_text), &d),
			 0);
	assert_true(domain_set_contains(r.domain_set, "a.example"));
	assert_true(domain_set_contains(r.domain_set, "file.example"));
	assert_true(domain_set_contains(r.domain_set, "x.tree.example"));
	assert_int_equal(addr_parse(&a, "11.0.0.1"), 0);
	assert_true(prefix_set_contains(r.network_set, &a));
	assert_int_equal(addr_parse(&a, "12.0.0.1"), 0);
	assert_true(prefix_set_contains(r.network_set, &a));
	/* Again, as after a change of the files. */
	assert_int_equal(rule_compile(&r, "", 0, "", 0, &d), 0);
	assert_false(domain_set_contains(r.domain_set, "file.example"));
	rule_release(&r);
	rule_release(&r);
}

/* A list that has become empty must not turn a rule about some into a rule about all. */
static void test_empty_files(void **state)
{
	struct flow_rule rules[] = {
		{.action = RULE_REFUSE, .domains_file = domains_path, .networks_file = no_path},
		{.action = RULE_REFUSE, .domains_file = no_path, .networks_file = networks_path},
	};
	static const struct flow_case cases[] = {
		{"10.91.9.1", "11.0.0.1", 80, "a.example", true, RULE_NONE, RULE_NONE, true}};

	(void)state;
	CHECK(rules, cases);
}

static void test_errors(void **state)
{
	char *star[] = {star_below};
	struct flow_rule r = {.place = {"x.toml", 7}, DOMAINS(star)};
	struct flow_rule files = {.place = {"x.toml", 7},
				  .domains_file = domains_path,
				  .networks_file = networks_path};
	struct diag d;

	(void)state;
	assert_int_equal(rule_compile(&r, NULL, 0, NULL, 0, &d), -EINVAL);
	assert_string_equal(d.file, "x.toml");
	assert_int_equal(d.line, 7);
	assert_non_null(strstr(d.text, "rule.domains"));
	assert_non_null(strstr(d.text, "\"*.a.example\""));
	assert_null(r.domain_set);

	assert_int_equal(rule_compile(&files, "a\n\n!\n", 5, NULL, 0, &d), -EINVAL);
	assert_string_equal(d.file, "d.txt");
	assert_int_equal(d.line, 3);
	assert_int_equal(rule_compile(&files, "a\n", 2, "11.0.0.0\nb", 10, &d), -EINVAL);
	assert_string_equal(d.file, "n.txt");
	assert_int_equal(d.line, 2);
	assert_null(files.domain_set);
	assert_null(files.network_set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conditions), cmocka_unit_test(test_unknown_name),
		cmocka_unit_test(test_observe),    cmocka_unit_test(test_no_rules),
		cmocka_unit_test(test_files),      cmocka_unit_test(test_empty_files),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
