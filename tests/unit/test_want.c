/* SPDX-License-Identifier: MIT */
#include "rulemgr/want.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "policy/prefix.h"
#include "tests/unit/wants.h"

static struct redirect options;

static const struct chain *chain_of(const struct model *m, const char *name)
{
	return model_find_chain(m, name);
}

static struct want with_gateway(void)
{
	struct want w = want_default(&options);

	want_add_gateway(&w, "eth1");
	return w;
}

static struct want with_everything(void)
{
	return want_everything(&options);
}

/* The letter of a rule: what it does, or what it looks at. */
static char rule_letter(const struct model *m, const struct rule *r)
{
	const struct expr *first = &r->exprs[0], *last = &r->exprs[r->n_exprs - 1];
	static const char types[] = {
		[SET_IPV4] = 'a',      [SET_IPV6] = 'A', [SET_IFNAME] = 'i', [SET_IPV4_PORT] = 'p',
		[SET_IPV6_PORT] = 'P', [SET_UID] = 'U',  [SET_CGROUP] = 'c', [SET_PORT] = 'o'};

	if (last->kind == EXPR_REJECT)
		return '!';
	if (last->kind != EXPR_RETURN)
		return '>';
	for (size_t i = 0; i < r->n_exprs; i++) {
		if (r->exprs[i].kind == EXPR_LOOKUP)
			return types[model_find_set(m, r->exprs[i].name)->type];
		if (r->exprs[i].kind == EXPR_HASH)
			return 'h';
	}
	if (first->kind == EXPR_FIB_TYPE)
		return 'l';
	if (first->kind == EXPR_CT)
		return first->key == NFT_CT_MARK ? '=' : 'r';
	switch (first->key) {
	case NFT_META_MARK:
		return 'm';
	case NFT_META_SKUID:
		return 'u';
	case NFT_META_NFPROTO:
		return 'f';
	case NFT_META_IIFNAME:
		return 'L';
	default:
		return first[1].key == NFT_CMP_NEQ ? 't' : 's';
	}
}

/* One letter for what each rule does, in order: the decision table of a chain at a glance. */
static const char *rule_letters(const struct model *m, const struct chain *c, char *out)
{
	size_t n = 0;

	for (; n < c->n_rules; n++)
		out[n] = rule_letter(m, &c->rules[n]);
	out[n] = '\0';
	return out;
}

#define ALL_RULES_MAX 64

static void check_order(const struct want *w, const char *name, const char *expected)
{
	char letters[ALL_RULES_MAX];
	struct model m;

	assert_int_equal(want_build(w, &m), 0);
	if (expected == NULL)
		assert_null(chain_of(&m, name));
	else
		assert_string_equal(rule_letters(&m, chain_of(&m, name), letters), expected);
	model_free(&m);
}

static void test_order(void **state)
{
	struct want w = want_default(&options);

	(void)state;
	check_order(&w, "output", "tsmulaAaA>");
	check_order(&w, "guard", "!");
	check_order(&w, "prerouting", NULL);
	check_order(&w, "quic_output", NULL);
	w.mark = (struct mark){0, 0};
	check_order(&w, "output", "tsulaAaA>");
	w = with_gateway();
	check_order(&w, "prerouting", "itsmlaAaA>");
	w.family[0] = false;
	check_order(&w, "prerouting", "itsfmlAA>");
	check_order(&w, "output", "tsfmulAA>");
}

static void test_order_of_everything(void **state)
{
	struct want w = with_everything();

	(void)state;
	check_order(&w, "output", "tsmmmuUcclaAaAaApPohh>");
	check_order(&w, "prerouting", "itsmmmlaAaAaApPohh>");
	check_order(&w, "quic_output", "tsmmmuUcclaAaAaApPohh!");
	check_order(&w, "quic_forward", "itsmmmlaAaAaApPohh!");
	w.mode = REDIRECT_MODE_TPROXY;
	check_order(&w, "output", "tr=smmmuUcclaAaAaApPohh>");
	check_order(&w, "prerouting", "tl>i>LsmmmaAaAaApPohh>");
	check_order(&w, "guard", "!s!");
}

/* The mark set before tproxy leads a packet astray that finds no listener; behind it, it goes on. */
static void test_tproxy_when_down(void **state)
{
	struct want w = want_default(&options);

	(void)state;
	w.mode = REDIRECT_MODE_TPROXY;
	for (int open = 0; open < 2; open++) {
		const struct chain *c;
		const struct rule *r;
		size_t at[2] = {0};
		struct model m;

		options.when_daemon_down = open ? REDIRECT_DOWN_OPEN : REDIRECT_DOWN_CLOSED;
		assert_int_equal(want_build(&w, &m), 0);
		assert_int_equal(m.flags, open ? NFT_TABLE_F_OWNER : 0);
		c = chain_of(&m, "prerouting");
		r = &c->rules[c->n_rules - 1];
		for (size_t i = 0; i < r->n_exprs; i++) {
			if (r->exprs[i].kind == EXPR_META_SET)
				at[0] = i;
			if (r->exprs[i].kind == EXPR_TPROXY)
				at[1] = i;
		}
		assert_true(at[0] > 0 && at[1] > 0);
		assert_int_equal(at[0] > at[1], open);
		assert_int_equal(rule_redirect_port(r), 1081);
		model_free(&m);
	}
}

static void test_hooks(void **state)
{
	struct want w = with_gateway();
	char text[64];
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	assert_string_equal(chain_format_hook(chain_of(&m, "output"), text, sizeof(text)),
			    "nat hook output priority -99");
	assert_string_equal(chain_format_hook(chain_of(&m, "prerouting"), text, sizeof(text)),
			    "nat hook prerouting priority -99");
	assert_string_equal(chain_format_hook(chain_of(&m, "guard"), text, sizeof(text)),
			    "filter hook input priority -1");
	assert_memory_equal(m.comment, MODEL_COMMENT_PREFIX, strlen(MODEL_COMMENT_PREFIX));
	model_free(&m);
}

static size_t counter_of(const struct rule *r)
{
	size_t i = 0;

	while (i < r->n_exprs && r->exprs[i].kind != EXPR_COUNTER)
		i++;
	return i;
}

/* Every rule is commented and counts just before its verdict. */
static void test_every_rule_counts(void **state)
{
	struct want w = with_everything();
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	for (size_t i = 0; i < m.n_chains; i++) {
		for (size_t k = 0; k < m.chains[i].n_rules; k++) {
			const struct rule *r = &m.chains[i].rules[k];

			assert_true(r->comment[0] != '\0');
			assert_int_equal(counter_of(r),
					 r->n_exprs - (rule_redirect_port(r) ? 3 : 2));
		}
	}
	model_free(&m);
}

static void test_syn_only(void **state)
{
	struct want w = want_default(&options);
	const struct rule *r;
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	r = &chain_of(&m, "output")->rules[1];
	assert_int_equal(r->exprs[2].key, NFT_PAYLOAD_TRANSPORT_HEADER);
	assert_int_equal(r->exprs[2].offset, 13);
	assert_int_equal(r->exprs[3].value.bytes[0], 0x17); /* fin, syn, rst, ack */
	assert_int_equal(r->exprs[4].value.bytes[0], 0x02);
	assert_int_equal(r->exprs[4].key, NFT_CMP_NEQ);
	model_free(&m);
}

/* The address is looked up only behind the test of the protocol, at that protocol's offset, in that
 * protocol's set. */
static void test_lookups_are_guarded(void **state)
{
	static const struct {
		uint8_t family;
		uint32_t offset, len;
		enum set_type type;
	} expected[] = {{NFPROTO_IPV4, 16, 4, SET_IPV4}, {NFPROTO_IPV6, 24, 16, SET_IPV6}};
	struct want w = with_gateway();
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	for (size_t c = 0; c < 2; c++) {
		const struct chain *chain = chain_of(&m, c == 0 ? "output" : "prerouting");

		for (size_t i = 0; i < 2; i++) {
			const struct rule *r = &chain->rules[chain->n_rules - 3 + i];
			const struct set *set = model_find_set(&m, r->exprs[3].name);

			assert_int_equal(r->exprs[0].key, NFT_META_NFPROTO);
			assert_int_equal(r->exprs[1].value.bytes[0], expected[i].family);
			assert_int_equal(r->exprs[1].key, NFT_CMP_EQ);
			assert_int_equal(r->exprs[2].key, NFT_PAYLOAD_NETWORK_HEADER);
			assert_int_equal(r->exprs[2].offset, expected[i].offset);
			assert_int_equal(r->exprs[2].len, expected[i].len);
			assert_int_equal(r->exprs[3].kind, EXPR_LOOKUP);
			assert_int_equal(set->type, expected[i].type);
		}
	}
	model_free(&m);
}

static void test_values(void **state)
{
	struct want w = want_default(&options);
	const uint8_t port[] = {0x12, 0x34};
	uint32_t uid = 990, value = 0x30, mask = 0xf0;
	const struct chain *output, *guard;
	struct model m;

	(void)state;
	w.port = 0x1234;
	w.mark = (struct mark){0x30, 0xf0};
	assert_int_equal(want_build(&w, &m), 0);
	output = chain_of(&m, "output");
	guard = chain_of(&m, "guard");
	assert_memory_equal(output->rules[2].exprs[1].value.bytes, &mask, 4);
	assert_memory_equal(output->rules[2].exprs[2].value.bytes, &value, 4);
	assert_memory_equal(output->rules[3].exprs[1].value.bytes, &uid, 4);
	assert_int_equal(rule_redirect_port(&output->rules[output->n_rules - 1]), 0x1234);
	assert_memory_equal(guard->rules[0].exprs[3].value.bytes, port, 2);
	model_free(&m);
}

static void test_comment(void **state)
{
	struct want w = want_default(&options);
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	assert_string_equal(m.comment, "transocks-rules " TRANSOCKS_VERSION);
	model_free(&m);
	w.earlier_ports[0] = 1082;
	w.earlier_ports[1] = 65535;
	w.n_earlier_ports = 2;
	assert_int_equal(want_build(&w, &m), 0);
	assert_string_equal(m.comment,
			    "transocks-rules " TRANSOCKS_VERSION ", earlier ports 1082 65535");
	model_free(&m);
}

/* Every special-purpose prefix lies whole in one element, whose comment names it and its RFC. */
static void check_set(const struct set *s, const struct special_prefix *prefixes, size_t n)
{
	size_t len = s->key_len;

	for (size_t i = 0; i < n; i++) {
		uint8_t first[16], last[16];
		struct prefix p;
		bool found = false;

		assert_int_equal(prefix_parse(&p, prefixes[i].prefix), 0);
		prefix_bounds(&p, first, last);
		for (size_t k = 0; k < s->n_elements; k++) {
			const struct element *e = &s->elements[k];

			if (memcmp(e->first, first, len) > 0 || memcmp(e->last, last, len) < 0)
				continue;
			found = true;
			assert_non_null(strstr(e->comment, prefixes[i].name));
			assert_non_null(strstr(e->comment, prefixes[i].source));
		}
		assert_true(found);
	}
}

/* In order, and with a gap between any two: what touches would be merged by nft(8). */
static void check_gaps(const struct set *s)
{
	size_t len = s->key_len;

	for (size_t k = 0; k + 1 < s->n_elements; k++) {
		uint8_t past[VALUE_MAX];

		memcpy(past, s->elements[k].last, len);
		assert_true(key_increment(past, len));
		assert_true(memcmp(past, s->elements[k + 1].first, len) < 0);
	}
}

static void test_sets_are_complete(void **state)
{
	struct want w = want_default(&options);
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	assert_string_equal(m.sets[0].name, "special4");
	check_set(&m.sets[0], special_prefixes4, n_special_prefixes4);
	check_gaps(&m.sets[0]);
	assert_string_equal(m.sets[1].name, "special6");
	check_set(&m.sets[1], special_prefixes6, n_special_prefixes6);
	check_gaps(&m.sets[1]);
	model_free(&m);
}

static void test_adjacent_are_joined(void **state)
{
	struct want w = want_default(&options);
	char text[ELEMENT_TEXT_MAX];
	const struct set *s;
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	s = &m.sets[1];
	assert_string_equal(element_format(s, &s->elements[s->n_elements - 1], text, sizeof(text)),
			    "fe80::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	model_free(&m);
}

static void test_gateway_set(void **state)
{
	struct want w = with_gateway();
	const struct rule *first;
	char text[ELEMENT_TEXT_MAX];
	const struct set *s;
	struct model m;

	(void)state;
	want_add_gateway(&w, "interface-of-15");
	assert_int_equal(want_build(&w, &m), 0);
	first = &chain_of(&m, "prerouting")->rules[0];
	assert_true(first->exprs[1].negate);
	s = model_find_set(&m, first->exprs[1].name);
	assert_int_equal(s->type, SET_IFNAME);
	assert_int_equal(s->n_elements, 2);
	assert_string_equal(element_format(s, &s->elements[0], text, sizeof(text)), "\"eth1\"");
	assert_string_equal(element_format(s, &s->elements[1], text, sizeof(text)),
			    "\"interface-of-15\"");
	model_free(&m);
}

/* The share is compared in network byte order, behind a conversion. */
static void test_share(void **state)
{
	const uint8_t share[] = {0, 0, 0, 5};
	struct want w = with_everything();
	const struct chain *c;
	const struct rule *r;
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	c = chain_of(&m, "prerouting");
	for (size_t i = 0; i < 2; i++) {
		r = &c->rules[c->n_rules - 3 + i];
		assert_int_equal(r->exprs[2].offset, i == 0 ? 12 : 8); /* the source */
		assert_int_equal(r->exprs[3].kind, EXPR_HASH);
		assert_int_equal(r->exprs[3].source, r->exprs[2].dest);
		assert_int_equal(r->exprs[3].len, r->exprs[2].len);
		assert_int_equal(r->exprs[4].kind, EXPR_BYTEORDER);
		assert_int_equal(r->exprs[5].key, NFT_CMP_GTE);
		assert_memory_equal(r->exprs[5].value.bytes, share, sizeof(share));
	}
	model_free(&m);
}

static void check_elements(const struct set *s, const char *expected)
{
	char text[ELEMENT_TEXT_MAX], all[512] = "";

	assert_non_null(s);
	for (size_t i = 0; i < s->n_elements; i++) {
		strcat(all, i > 0 ? ", " : "");
		strcat(all, element_format(s, &s->elements[i], text, sizeof(text)));
	}
	assert_string_equal(all, expected);
}

static void test_redirect_anyway(void **state)
{
	struct prefix anyway[] = {
		{.family = AF_INET, .len = 15, .ip = {198, 18}},  /* a whole range */
		{.family = AF_INET, .len = 24, .ip = {10, 1, 2}}, /* a part of one */
		{.family = AF_INET, .len = 8, .ip = {192}},       /* more than one */
		{.family = AF_INET, .len = 1, .ip = {128}},
		{.family = AF_INET6, .len = 8, .ip = {0xff}},
	};
	struct want w = want_default(&options);
	const struct set *s;
	struct model m;

	(void)state;
	options.redirect_anyway = (struct prefix_list){anyway, ARRAY_LEN(anyway)};
	assert_int_equal(want_build(&w, &m), 0);
	s = model_find_set(&m, "special4");
	check_elements(s, "0.0.0.0/8, 10.0.0.0-10.1.1.255, 10.1.3.0-10.255.255.255, 100.64.0.0/10, "
			  "127.0.0.0/8");
	assert_string_equal(s->elements[1].comment, "private, RFC 1918");
	assert_string_equal(s->elements[2].comment, "private, RFC 1918");
	s = model_find_set(&m, "special6");
	check_gaps(s);
	check_elements(&(struct set){.type = SET_IPV6,
				     .elements = &s->elements[s->n_elements - 1],
				     .n_elements = 1},
		       "fe80::/9");
	model_free(&m);
}

static void test_configured_are_merged(void **state)
{
	struct prefix list[] = {
		{.family = AF_INET, .len = 32, .ip = {11, 0, 0, 9}},
		{.family = AF_INET, .len = 25, .ip = {11, 0, 1, 128}},
		{.family = AF_INET, .len = 25, .ip = {11, 0, 1, 0}},
		{.family = AF_INET, .len = 29, .ip = {11, 0, 0, 0}},
		{.family = AF_INET, .len = 32, .ip = {11, 0, 0, 8}},
		{.family = AF_INET, .len = 32, .ip = {11, 0, 1, 5}},
		{.family = AF_INET, .len = 32, .ip = {11, 0, 0, 9}},
		{.family = AF_INET, .len = 32, .ip = {255, 255, 255, 255}},
		{.family = AF_INET, .len = 8, .ip = {255}},
	};
	struct want w = want_default(&options);
	struct model m;

	(void)state;
	options.bypass = (struct prefix_list){list, ARRAY_LEN(list)};
	assert_int_equal(want_build(&w, &m), 0);
	check_elements(model_find_set(&m, "configured4"),
		       "11.0.0.0-11.0.0.9, 11.0.1.0/24, 255.0.0.0/8");
	assert_null(model_find_set(&m, "configured6"));
	model_free(&m);
}

static void test_ports_are_merged(void **state)
{
	struct want w = with_everything();
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	check_elements(model_find_set(&m, "ports"), "80-90, 443, 8000-8999");
	model_free(&m);
}

static void test_upstreams(void **state)
{
	struct want w = with_everything();
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	check_elements(model_find_set(&m, "upstream4"), "11.0.0.1 . 1080");
	check_elements(model_find_set(&m, "upstream6"), "fd91::1 . 1080");
	check_elements(model_find_set(&m, "exempt_uids"), "7");
	model_free(&m);
}

static void test_key_increment(void **state)
{
	static const struct {
		uint8_t before[4], after[4];
		bool more;
	} cases[] = {
		{{0, 0, 0, 0}, {0, 0, 0, 1}, true},
		{{10, 255, 255, 255}, {11, 0, 0, 0}, true},
		{{255, 255, 255, 255}, {0, 0, 0, 0}, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t key[4];

		memcpy(key, cases[i].before, sizeof(key));
		assert_int_equal(key_increment(key, sizeof(key)), cases[i].more);
		assert_memory_equal(key, cases[i].after, sizeof(key));
	}
}

static void test_verdict_names(void **state)
{
	struct want w = want_default(&options);
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	assert_string_equal(rule_verdict_name(&m.chains[0].rules[0]), "left alone");
	assert_string_equal(rule_verdict_name(&m.chains[0].rules[m.chains[0].n_rules - 1]),
			    "redirected");
	assert_string_equal(rule_verdict_name(&chain_of(&m, "guard")->rules[0]), "reset");
	model_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_order_of_everything),
		cmocka_unit_test(test_tproxy_when_down),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_redirect_anyway),
		cmocka_unit_test(test_configured_are_merged),
		cmocka_unit_test(test_ports_are_merged),
		cmocka_unit_test(test_upstreams),
		cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_every_rule_counts),
		cmocka_unit_test(test_syn_only),
		cmocka_unit_test(test_lookups_are_guarded),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_comment),
		cmocka_unit_test(test_sets_are_complete),
		cmocka_unit_test(test_adjacent_are_joined),
		cmocka_unit_test(test_gateway_set),
		cmocka_unit_test(test_key_increment),
		cmocka_unit_test(test_verdict_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
