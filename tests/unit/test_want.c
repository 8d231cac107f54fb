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

static const struct mark default_mark = {DEFAULT_MARK_VALUE, DEFAULT_MARK_MASK};

static const struct chain *chain_of(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->n_chains; i++) {
		if (strcmp(m->chains[i].name, name) == 0)
			return &m->chains[i];
	}
	return NULL;
}

/* One letter for what each rule does, in order: the decision table of a chain at a glance. */
static const char *rule_letters(const struct chain *c, char *out)
{
	size_t n = 0;

	for (; n < c->n_rules; n++) {
		const struct rule *r = &c->rules[n];
		const struct expr *first = &r->exprs[0], *last = &r->exprs[r->n_exprs - 1];
		char letter = '?';

		if (last->kind == EXPR_REDIRECT)
			letter = '>';
		else if (last->kind == EXPR_RESET)
			letter = '!';
		else if (first->kind == EXPR_FIB_TYPE)
			letter = 'l';
		else if (first->key == NFT_META_MARK)
			letter = 'm';
		else if (first->key == NFT_META_SKUID)
			letter = 'u';
		else if (first->key == NFT_META_IIFNAME)
			letter = 'i';
		else if (first->key == NFT_META_NFPROTO)
			letter = first[1].value.bytes[0] == NFPROTO_IPV4 ? '4' : '6';
		else if (first->key == NFT_META_L4PROTO)
			letter = first[1].negate ? 't' : 's';
		out[n] = letter;
	}
	out[n] = '\0';
	return out;
}

static void test_order(void **state)
{
	static const struct {
		struct want want;
		const char *output, *prerouting;
	} cases[] = {
		{{.port = 1081, .uid = 990, .mark = {0x1000, 0x1000}}, "tsmul46>", NULL},
		{{.port = 1, .uid = 0, .mark = {0, 0}}, "tsul46>", NULL},
		{{.port = 65535,
		  .uid = 7,
		  .mark = {5, UINT32_MAX},
		  .gateways = {"eth1"},
		  .n_gateways = 1},
		 "tsmul46>",
		 "itsl46>"},
	};
	char letters[MODEL_RULES + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct model m;

		assert_int_equal(want_build(&cases[i].want, &m), 0);
		assert_string_equal(rule_letters(chain_of(&m, "output"), letters), cases[i].output);
		assert_string_equal(rule_letters(chain_of(&m, "guard"), letters), "!");
		if (cases[i].prerouting == NULL) {
			assert_null(chain_of(&m, "prerouting"));
			assert_int_equal(m.n_sets, 2);
		} else {
			assert_string_equal(rule_letters(chain_of(&m, "prerouting"), letters),
					    cases[i].prerouting);
			assert_int_equal(m.n_sets, 3);
		}
		model_free(&m);
	}
}

static void test_hooks(void **state)
{
	struct want w = {.port = 1081, .gateways = {"eth1"}, .n_gateways = 1};
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

/* Every rule is commented and counts just before its verdict. */
static void test_every_rule_counts(void **state)
{
	struct want w = {.port = 1081, .mark = default_mark, .gateways = {"eth1"}, .n_gateways = 1};
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	for (size_t i = 0; i < m.n_chains; i++) {
		for (size_t k = 0; k < m.chains[i].n_rules; k++) {
			const struct rule *r = &m.chains[i].rules[k];

			assert_true(r->comment[0] != '\0');
			assert_true(r->n_exprs >= 3);
			assert_int_equal(r->exprs[r->n_exprs - 2].kind, EXPR_COUNTER);
		}
	}
	model_free(&m);
}

static void test_syn_only(void **state)
{
	struct want w = {.port = 1081};
	const struct rule *r;
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	r = &chain_of(&m, "output")->rules[1];
	assert_int_equal(r->exprs[2].payload.base, NFT_PAYLOAD_TRANSPORT_HEADER);
	assert_int_equal(r->exprs[2].payload.offset, 13);
	assert_int_equal(r->exprs[3].value.bytes[0], 0x17); /* fin, syn, rst, ack */
	assert_int_equal(r->exprs[4].value.bytes[0], 0x02);
	assert_true(r->exprs[4].negate);
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
	struct want w = {.port = 1081, .gateways = {"eth1"}, .n_gateways = 1};
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	for (size_t c = 0; c < 2; c++) {
		const struct chain *chain = chain_of(&m, c == 0 ? "output" : "prerouting");

		for (size_t i = 0; i < 2; i++) {
			const struct rule *r = &chain->rules[chain->n_rules - 3 + i];

			assert_int_equal(r->exprs[0].key, NFT_META_NFPROTO);
			assert_int_equal(r->exprs[1].value.bytes[0], expected[i].family);
			assert_false(r->exprs[1].negate);
			assert_int_equal(r->exprs[2].payload.base, NFT_PAYLOAD_NETWORK_HEADER);
			assert_int_equal(r->exprs[2].payload.offset, expected[i].offset);
			assert_int_equal(r->exprs[2].payload.len, expected[i].len);
			assert_int_equal(r->exprs[3].kind, EXPR_LOOKUP);
			assert_int_equal(m.sets[r->exprs[3].set].type, expected[i].type);
		}
	}
	model_free(&m);
}

static void test_values(void **state)
{
	struct want w = {.port = 0x1234, .uid = 990, .mark = {0x30, 0xf0}};
	const uint8_t port[] = {0x12, 0x34};
	uint32_t uid = 990, value = 0x30, mask = 0xf0;
	const struct chain *output, *guard;
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	output = chain_of(&m, "output");
	guard = chain_of(&m, "guard");
	assert_memory_equal(output->rules[2].exprs[1].value.bytes, &mask, 4);
	assert_memory_equal(output->rules[2].exprs[2].value.bytes, &value, 4);
	assert_memory_equal(output->rules[3].exprs[1].value.bytes, &uid, 4);
	assert_int_equal(output->rules[7].exprs[output->rules[7].n_exprs - 1].port, 0x1234);
	assert_memory_equal(guard->rules[0].exprs[3].value.bytes, port, 2);
	model_free(&m);
}

static void test_comment(void **state)
{
	struct want w = {.port = 1081};
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
	size_t len = set_key_len(s->type);

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
	size_t len = set_key_len(s->type);

	for (size_t k = 0; k + 1 < s->n_elements; k++) {
		uint8_t past[ELEMENT_KEY_MAX];

		memcpy(past, s->elements[k].last, len);
		assert_true(key_increment(past, len));
		assert_true(memcmp(past, s->elements[k + 1].first, len) < 0);
	}
}

static void test_sets_are_complete(void **state)
{
	struct want w = {.port = 1081};
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	assert_string_equal(m.sets[0].name, "bypass4");
	check_set(&m.sets[0], special_prefixes4, n_special_prefixes4);
	check_gaps(&m.sets[0]);
	assert_string_equal(m.sets[1].name, "bypass6");
	check_set(&m.sets[1], special_prefixes6, n_special_prefixes6);
	check_gaps(&m.sets[1]);
	model_free(&m);
}

static void test_adjacent_are_joined(void **state)
{
	struct want w = {.port = 1081};
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
	struct want w = {.port = 1081, .gateways = {"eth1", "interface-of-15"}, .n_gateways = 2};
	const struct rule *first;
	char text[ELEMENT_TEXT_MAX];
	const struct set *s;
	struct model m;

	(void)state;
	assert_int_equal(want_build(&w, &m), 0);
	first = &chain_of(&m, "prerouting")->rules[0];
	assert_true(first->exprs[1].negate);
	s = &m.sets[first->exprs[1].set];
	assert_int_equal(s->type, SET_IFNAME);
	assert_int_equal(s->n_elements, 2);
	assert_string_equal(element_format(s, &s->elements[0], text, sizeof(text)), "eth1");
	assert_string_equal(element_format(s, &s->elements[1], text, sizeof(text)),
			    "interface-of-15");
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
	struct want w = {.port = 1081};
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
