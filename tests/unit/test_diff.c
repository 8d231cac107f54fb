/* SPDX-License-Identifier: MIT */
#include "rulemgr/diff.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/carry.h"
#include "rulemgr/drain.h"
#include "tests/unit/wants.h"

static struct redirect options;

static void build(struct model *m)
{
	struct want w = want_everything(&options);

	assert_int_equal(want_build(&w, m), 0);
}

static struct chain *output_of(struct model *m)
{
	return model_find_chain(m, "output");
}

static struct rule *rule_of(struct model *m, const char *comment)
{
	struct chain *c = output_of(m);

	for (size_t i = 0; i < c->n_rules; i++) {
		if (strcmp(c->rules[i].comment, comment) == 0)
			return &c->rules[i];
	}
	return NULL;
}

static void spoil_uid(struct model *m)
{
	uint32_t uid = 0x3e6;

	memcpy(rule_of(m, "user of transocksd and usocksd")->exprs[1].value.bytes, &uid, 4);
}

static void spoil_port(struct model *m)
{
	struct rule *r = rule_of(m, "to transocksd");

	for (size_t i = 0; i < r->n_exprs; i++) {
		if (r->exprs[i].kind == EXPR_IMMEDIATE)
			r->exprs[i].value.bytes[1]++;
	}
}

/* Value and mask are two expressions and one thing. */
static void spoil_mark(struct model *m)
{
	struct rule *r = rule_of(m, "marked by transocksd or usocksd");
	uint32_t mark = 0x42;

	for (size_t i = 0; i < r->n_exprs; i++) {
		if (r->exprs[i].kind == EXPR_BITWISE || r->exprs[i].kind == EXPR_CMP)
			memcpy(r->exprs[i].value.bytes, &mark, sizeof(mark));
	}
}

static void drain(struct model *m)
{
	assert_true(drain_add(m) > 0);
}

static void spoil_guard(struct model *m) /* lists as before in nft: meta nfproto is implied */
{
	struct rule *r = rule_of(m, "special-purpose IPv4 address");

	memmove(r->exprs, r->exprs + 2, (r->n_exprs - 2) * sizeof(*r->exprs));
	r->n_exprs -= 2;
}

static void spoil_register(struct model *m)
{
	rule_of(m, "live exception, IPv4 address")->exprs[2].dest = 4;
}

static void spoil_negation(struct model *m)
{
	rule_of(m, "exempt user")->exprs[1].negate = true;
}

static void spoil_comment(struct model *m)
{
	strcpy(rule_of(m, "not TCP")->comment, "a\nb");
}

static void spoil_unknown(struct model *m)
{
	struct expr *e = rule_of(m, "not TCP")->exprs;

	e[2] = (struct expr){.kind = EXPR_OTHER, .name = "limit"};
}

static void remove_rule(struct model *m)
{
	struct chain *c = output_of(m);

	free(c->rules[2].exprs);
	memmove(&c->rules[2], &c->rules[3], (c->n_rules - 3) * sizeof(*c->rules));
	c->n_rules--;
}

static void add_first_rule(struct model *m)
{
	struct chain *c = output_of(m);
	struct rule *r = chain_add_rule(c);

	assert_non_null(r);
	memmove(&c->rules[1], &c->rules[0], (c->n_rules - 1) * sizeof(*c->rules));
	c->rules[0] = (struct rule){.comment = ""};
	assert_non_null(rule_add_expr(&c->rules[0], EXPR_ACCEPT));
}

static void move_rule(struct model *m)
{
	struct chain *c = output_of(m);
	struct rule last = c->rules[c->n_rules - 1];

	memmove(&c->rules[1], &c->rules[0], (c->n_rules - 1) * sizeof(*c->rules));
	c->rules[0] = last;
}

static void spoil_chain(struct model *m)
{
	output_of(m)->priority = -101;
	output_of(m)->drop = true;
}

static void add_chain(struct model *m)
{
	assert_non_null(model_add_chain(m, "for \"us\""));
}

static void remove_chain(struct model *m)
{
	strcpy(output_of(m)->name, "away");
}

static void spoil_element(struct model *m)
{
	struct set *s = model_find_set(m, "special4");

	s->elements[1].last[0] = 11; /* 10.0.0.0/7 */
	strcpy(s->elements[2].comment, "changed");
	s->n_elements--;
}

static void add_element(struct model *m)
{
	struct element e = {.first = {99}, .last = {99}, .comment = "why"};

	assert_int_equal(set_add_element(model_find_set(m, "special4"), &e), 0);
	set_sort(model_find_set(m, "special4"));
}

static void spoil_set(struct model *m)
{
	struct set *s = model_find_set(m, "bypass4");

	s->interval = false;
	s->flags = NFT_SET_CONSTANT;
	strcpy(s->comment, "");
}

static void remove_set(struct model *m)
{
	strcpy(model_find_set(m, "ports")->name, "harbours");
}

static void spoil_head(struct model *m)
{
	strcpy(m->comment, "transocks-rules 0.0.9, earlier ports 99");
	m->flags = NFT_TABLE_F_DORMANT;
}

/* What nobody minds. */
static void harmless(struct model *m)
{
	struct element e = {.first = {99}, .last = {99}, .comment = "why"};

	assert_int_equal(set_add_element(model_find_set(m, "bypass4"), &e), 0);
	e = (struct element){.first = {200}, .last = {200}};
	assert_int_equal(set_add_element(model_find_set(m, "exempt_cgroups"), &e), 0);
	strcat(m->comment, ", earlier ports 99");
	rule_of(m, "not TCP")->packets = 7;
	rule_of(m, "not TCP")->handle = 99;
}

static const struct {
	void (*spoil)(struct model *have);
	const char *text[4];
} cases[] = {
	{spoil_uid,
	 {"rule 6 \"user of transocksd and usocksd\" of chain output: is about uid 998, "
	  "configured: 990"}},
	{spoil_port,
	 {"rule 22 \"to transocksd\" of chain output: redirects to port 1082, configured: 1081"}},
	{spoil_mark,
	 {"rule 3 \"marked by transocksd or usocksd\" of chain output: is about mark 0x42/0x42, "
	  "configured: 0x1000/0x1000"}},
	{drain,
	 {"rule 1 \"draining: new flows go direct\" of chain output: there because of `flush`",
	  "rule 1 \"draining: new flows go direct\" of chain prerouting: there because of `flush`",
	  "rule 1 \"draining: new flows go direct\" of chain quic_output: there because of `flush`",
	  "rule 1 \"draining: new flows go direct\" of chain quic_forward: there because of "
	  "`flush`"}},
	{spoil_guard,
	 {"rule 11 \"special-purpose IPv4 address\" of chain output: loads 4 bytes at 16 of the "
	  "network "
	  "header, asks for one of set special4, counts, returns, configured: loads meta nfproto, "
	  "compares with 0x02, loads 4 bytes at 16 of the network header, asks for one of set "
	  "special4, counts, returns"}},
	{spoil_register,
	 {"rule 15 \"live exception, IPv4 address\" of chain output: loads 4 bytes at 16 of the "
	  "network "
	  "header (register 0 to 4), configured: loads 4 bytes at 16 of the network header"}},
	{spoil_negation,
	 {"rule 7 \"exempt user\" of chain output: asks for none of set exempt_uids, configured: "
	  "asks "
	  "for one of set exempt_uids"}},
	{spoil_comment,
	 {"rule 1 \"not TCP\" of chain output: comment is a?b, configured: not TCP"}},
	{spoil_unknown,
	 {"rule 1 \"not TCP\" of chain output: has expression limit, which we never write, "
	  "configured: "
	  "counts"}},
	{remove_rule, {"rule 3 \"marked by transocksd or usocksd\" of chain output: missing"}},
	{add_first_rule, {"rule 1 without comment of chain output: there, but not configured"}},
	{move_rule, {"rule 1 \"to transocksd\" of chain output: not where it belongs"}},
	{spoil_chain,
	 {"chain output: hook is nat hook output priority -101, configured: nat hook output "
	  "priority "
	  "-99",
	  "chain output: policy is drop, configured: accept"}},
	{add_chain, {"chain \"for \\\"us\\\"\": there, but not configured"}},
	{remove_chain, {"chain output: missing", "chain away: there, but not configured"}},
	{spoil_element,
	 {"element 10.0.0.0/8 of set special4: range is 10.0.0.0/7, configured: 10.0.0.0/8",
	  "element 100.64.0.0/10 of set special4: comment is changed, configured: shared, "
	  "carrier-grade NAT, RFC 6598",
	  "element 224.0.0.0/3 of set special4: missing"}},
	{add_element, {"element 99.0.0.0 of set special4: there, but not configured"}},
	{spoil_set,
	 {"set bypass4: type is ipv4_addr, configured: ipv4_addr, ranges",
	  "set bypass4: flags is 0x2, configured: 0x0",
	  "set bypass4: comment is nothing, configured: exceptions added by hand"}},
	{remove_set, {"set ports: missing", "set harbours: there, but not configured"}},
	{spoil_head,
	 {"table inet transocks: comment is transocks-rules 0.0.9, configured: "
	  "transocks-rules " TRANSOCKS_VERSION,
	  "table inet transocks: flags is 0x1, configured: 0x0"}},
	{harmless, {NULL}},
};

static void check_texts(const struct diff *d, const char *const *expected)
{
	size_t n = 0;

	while (n < ARRAY_LEN(cases[0].text) && expected[n] != NULL)
		n++;
	for (size_t i = 0; i < d->n; i++) {
		char text[1024];
		struct strbuf sb;

		strbuf_init(&sb, text, sizeof(text));
		difference_format(&d->items[i], &sb);
		if (i >= n)
			fail_msg("not expected: %s", text);
		assert_string_equal(text, expected[i]);
	}
	assert_int_equal(d->n, n);
}

static void test_differences(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct model want, have;
		struct diff d;

		build(&want);
		build(&have);
		cases[i].spoil(&have);
		assert_int_equal(diff_models(&want, &have, &d), 0);
		check_texts(&d, cases[i].text);
		diff_free(&d);
		model_free(&want);
		model_free(&have);
	}
}

/* Nothing there at all: one line for each set and chain. */
static void test_nothing_there(void **state)
{
	struct model want, nothing = {.comment = ""};
	struct diff d;

	(void)state;
	build(&want);
	strcpy(nothing.comment, want.comment);
	assert_int_equal(diff_models(&want, &nothing, &d), 0);
	assert_int_equal(d.n, want.n_sets + want.n_chains);
	for (size_t i = 0; i < d.n; i++)
		assert_int_equal(d.items[i].kind, DIFF_MISSING);
	diff_free(&d);
	model_free(&want);
}

static void test_json(void **state)
{
	struct model want, have;
	struct strbuf out;
	struct json j;
	struct diff d;

	(void)state;
	build(&want);
	build(&have);
	spoil_uid(&have);
	assert_int_equal(diff_models(&want, &have, &d), 0);
	strbuf_init_heap(&out);
	json_init(&j, &out);
	diff_put_json(&d, &j, NULL);
	assert_string_equal(out.data,
			    "[{\"kind\":\"altered\",\"object\":\"rule\",\"chain\":\"output\","
			    "\"number\":6,\"comment\":\"user of transocksd and usocksd\","
			    "\"property\":\"uid\",\"want\":\"990\",\"have\":\"998\"}]");
	strbuf_free(&out);
	diff_free(&d);
	model_free(&want);
	model_free(&have);
}

/* Live elements come over whole, once; of the control groups those that carry no comment of ours. */
static void test_carry(void **state)
{
	struct element mine = {.first = {55}, .last = {55}, .comment = "old/path"};
	struct element everything = {.last = {255, 255, 255, 255}, .comment = "all"};
	struct model want, have;
	struct set *s;

	(void)state;
	build(&want);
	build(&have);
	harmless(&have);
	assert_int_equal(set_add_element(model_find_set(&have, "exempt_cgroups"), &mine), 0);
	assert_int_equal(set_add_element(model_find_set(&have, "special4"), &mine), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(carry_elements(&want, &have), 0);
		s = model_find_set(&want, "bypass4");
		assert_int_equal(s->n_elements, 1);
		assert_string_equal(s->elements[0].comment, "why");
		s = model_find_set(&want, "exempt_cgroups");
		assert_int_equal(s->n_elements, 4);
		assert_int_equal(s->elements[3].first[0], 200);
		assert_int_equal(model_find_set(&want, "special4")->n_elements,
				 model_find_set(&have, "special4")->n_elements - 1);
	}
	assert_int_equal(set_add_element(model_find_set(&have, "bypass4"), &everything), 0);
	set_sort(model_find_set(&have, "bypass4"));
	assert_int_equal(carry_elements(&want, &have), 0);
	s = model_find_set(&want, "bypass4");
	assert_int_equal(s->n_elements, 1); /* beside it the kernel would take no other */
	assert_string_equal(s->elements[0].comment, "all");
	model_find_set(&have, "bypass4")->interval = false;
	model_find_set(&have, "exempt_cgroups")->n_elements = 0;
	assert_int_equal(carry_elements(&want, &have), 0);
	assert_int_equal(model_find_set(&want, "bypass4")->n_elements, 0);
	assert_int_equal(model_find_set(&want, "exempt_cgroups")->n_elements, 3);
	model_free(&want);
	model_free(&have);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_carry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
