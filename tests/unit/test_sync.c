/* SPDX-License-Identifier: MIT */
/*
 * What the kernel makes of our batches: in a network namespace of its own, which needs no root
 * where user namespaces are allowed; skipped where they are not.
 */
#include "rulemgr/sync.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <sched.h>
#include <string.h>

#include "rulemgr/diff.h"
#include "rulemgr/encode.h"
#include "rulemgr/want.h"
#include "tests/unit/wants.h"

static bool in_namespace;

static int setup(void **state)
{
	(void)state;
	in_namespace = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	return 0;
}

static void open_kernel(struct kernel *k)
{
	struct diag d;

	if (!in_namespace)
		skip();
	assert_int_equal(kernel_open(k, &d), 0);
}

static void build(struct model *m)
{
	struct redirect options;
	struct want w = want_default(&options);

	want_add_gateway(&w, "lo");
	assert_int_equal(want_build(&w, m), 0);
}

static void test_install_and_remove(void **state)
{
	struct have have;
	struct kernel k;
	struct model m;
	struct diag d;

	(void)state;
	open_kernel(&k);
	build(&m);
	assert_int_equal(sync_table(&k, &m, true, &have, &d), 0);
	assert_false(have.present);
	assert_int_equal(sync_table(&k, &m, false, &have, &d), 0);
	assert_false(have.present); /* the dry run before has left nothing */
	assert_int_equal(sync_table(&k, &m, false, &have, &d), 0);
	assert_true(have.present && have.ours);
	assert_string_equal(have.comment, m.comment);
	assert_int_equal(have.ports.n, 1); /* two rules, one port */
	assert_int_equal(have.ports.list[0], 1081);
	assert_int_equal(sync_table(&k, NULL, true, &have, &d), 0);
	assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
	assert_true(have.present); /* neither has the dry run before */
	assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
	assert_false(have.present);
	model_free(&m);
	kernel_close(&k);
}

static void check_installed(struct kernel *k, const struct model *want)
{
	struct strbuf text;
	struct have have;
	struct model m;
	struct diff difference;
	struct diag d;

	assert_int_equal(sync_read(k, &have, &m, &d), 0);
	assert_true(have.ours);
	assert_int_equal(diff_models(want, &m, &difference), 0);
	strbuf_init_heap(&text);
	for (size_t i = 0; i < difference.n; i++) {
		difference_format(&difference.items[i], &text);
		strbuf_putc(&text, '\n');
	}
	if (difference.n > 0)
		fail_msg("%s", text.data);
	strbuf_free(&text);
	diff_free(&difference);
	model_free(&m);
}

/* What the kernel then has is what was wanted, expression by expression. */
static void test_every_option(void **state)
{
	struct redirect options;
	struct kernel k;
	struct diag d;

	(void)state;
	open_kernel(&k);
	for (int i = 0; i < 8; i++) {
		struct want w = i & 1 ? want_everything(&options) : want_default(&options);
		struct have have;
		struct model m;

		if (i & 2)
			w.mode = REDIRECT_MODE_TPROXY;
		if (i & 4) {
			options.when_daemon_down = REDIRECT_DOWN_OPEN;
			w.tproxy_mark = (struct mark){5, UINT32_MAX};
			w.mark = (struct mark){0, 0};
			w.family[0] = false;
		}
		assert_int_equal(want_build(&w, &m), 0);
		m.flags = 0; /* no daemon here owns it */
		if (sync_table(&k, &m, false, &have, &d) < 0)
			fail_msg("%s", d.text);
		check_installed(&k, &m);
		assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
		model_free(&m);
	}
	kernel_close(&k);
}

/* Many elements, in several messages; the kernel returns every one of them. */
static void test_many_elements(void **state)
{
	enum { N = 20000 };
	struct prefix *prefixes = calloc(2 * N, sizeof(*prefixes));
	struct redirect options;
	struct want w = want_default(&options);
	struct have have;
	struct kernel k;
	struct model m;
	struct diag d;

	(void)state;
	assert_non_null(prefixes);
	for (uint32_t i = 0; i < N; i++) {
		prefixes[i] = (struct prefix){.family = AF_INET,
					      .len = 24,
					      .ip = {11, (uint8_t)(i >> 7), (uint8_t)(i << 1)}};
		prefixes[N + i] = (struct prefix){
			.family = AF_INET6,
			.len = 48,
			.ip = {0x2a, 0, 0, 0, (uint8_t)(i >> 7), (uint8_t)(i << 1)}};
	}
	options.bypass = (struct prefix_list){prefixes, 2 * N};
	assert_int_equal(want_build(&w, &m), 0);
	assert_int_equal(model_find_set(&m, "configured4")->n_elements, N);
	open_kernel(&k);
	if (sync_table(&k, &m, false, &have, &d) < 0)
		fail_msg("%s", d.text);
	check_installed(&k, &m);
	assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
	kernel_close(&k);
	model_free(&m);
	free(prefixes);
}

/* The kernel says which of a message's elements it does not take. */
static void test_one_of_many(void **state)
{
	static const size_t places[] = {1, 2, 399, 400, 401, 1998};
	struct element e = {.first = {11}, .last = {11, 0, 0, 255}};
	struct have have;
	struct kernel k;
	struct diag d;

	(void)state;
	open_kernel(&k);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		char expected[64], text[ELEMENT_TEXT_MAX];
		struct model m;
		struct set *s;

		build(&m);
		s = model_find_set(&m, "special4");
		s->n_elements = 0;
		for (size_t n = 0; n < 2000; n++) {
			e.first[1] = e.last[1] = (uint8_t)(n >> 7);
			e.first[2] = e.last[2] = (uint8_t)(n << 1);
			assert_int_equal(set_add_element(s, &e), 0);
		}
		memcpy(s->elements[places[i]].first, s->elements[places[i] - 1].first, 4);
		s->elements[places[i]].first[3] = 9;
		assert_true(sync_table(&k, &m, false, &have, &d) < 0);
		snprintf(expected, sizeof(expected), " element %s of set special4:",
			 element_format(s, &s->elements[places[i]], text, sizeof(text)));
		if (strstr(d.text, expected) == NULL)
			fail_msg("no \"%s\" in: %s", expected, d.text);
		model_free(&m);
	}
	kernel_close(&k);
}

/* What others add to the live sets while a batch is under way is not lost. */
static void test_live_elements_are_kept(void **state)
{
	struct element e = {.first = {11}, .last = {11, 0, 0, 255}, .comment = "why"};
	struct model m, with = {0};
	struct have have;
	struct kernel k;
	struct set *s;
	struct diag d;

	(void)state;
	open_kernel(&k);
	build(&m);
	assert_int_equal(sync_table(&k, &m, false, &have, &d), 0);
	s = model_add_set(&with, "bypass4", SET_IPV4);
	assert_non_null(s);
	assert_int_equal(set_add_element(s, &e), 0);
	for (int i = 0; i < 2; i++) {
		if (i == 0) {
			struct batch *b;

			assert_int_equal(have_read(&k, &have, &d), 0);
			b = batch_new(have.generation);
			assert_non_null(b);
			assert_int_equal(encode_added_elements(b, s), 0);
			assert_int_equal(batch_send(b, &k, true, &d), 0);
			batch_free(b);
		}
		model_free(&m);
		build(&m);
		assert_int_equal(sync_table(&k, &m, false, &have, &d), 0);
		model_free(&m);
		assert_int_equal(sync_read(&k, &have, &m, &d), 0);
		assert_int_equal(model_find_set(&m, "bypass4")->n_elements, 1);
		assert_string_equal(model_find_set(&m, "bypass4")->elements[0].comment, "why");
	}
	assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
	model_free(&m);
	model_free(&with);
	kernel_close(&k);
}

static void spoil_chain(struct model *m)
{
	m->chains[0].priority = -400; /* before conntrack */
}

static void spoil_rule(struct model *m)
{
	struct chain *guard = &m->chains[2];

	guard->rules[0].exprs[guard->rules[0].n_exprs - 1].kind = EXPR_REDIRECT;
}

static void spoil_element(struct model *m)
{
	m->sets[0].elements[3] = m->sets[0].elements[2];
	m->sets[0].elements[3].first[1]++;
}

static void spoil_set(struct model *m)
{
	assert_non_null(model_add_set(m, m->sets[0].name, SET_IPV6));
}

static void spoil_payload(struct model *m)
{
	struct rule *r = &m->chains[0].rules[m->chains[0].n_rules - 3];

	r->exprs[2].len = 100; /* more than the registers hold */
}

/* Each error names its part, and the table that was there stays. */
static void test_errors_name_their_part(void **state)
{
	static const struct {
		void (*spoil)(struct model *m);
		int result;
		const char *text;
	} cases[] = {
		{spoil_chain, -EOPNOTSUPP, "chain output:"},
		{spoil_rule, -EOPNOTSUPP,
		 "rule \"direct connection to the redirect port\" of chain guard:"},
		{spoil_element, 0, "element 100.65.0.0-100.127.255.255 of set special4:"},
		{spoil_set, 0, "set special4:"},
		{spoil_payload, 0, "rule \"live exception, IPv4 address\" of chain output:"},
	};
	struct have have;
	struct kernel k;
	struct diag d;

	(void)state;
	open_kernel(&k);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct model good, bad;
		int r;

		build(&good);
		assert_int_equal(sync_table(&k, &good, false, &have, &d), 0);
		build(&bad);
		cases[i].spoil(&bad);
		r = sync_table(&k, &bad, false, &have, &d);
		if (r >= 0)
			fail_msg("accepted: %s", cases[i].text);
		if (cases[i].result != 0)
			assert_int_equal(r, cases[i].result);
		if (strstr(d.text, cases[i].text) == NULL)
			fail_msg("no \"%s\" in: %s", cases[i].text, d.text);
		assert_int_equal(have_read(&k, &have, &d), 0);
		assert_int_equal(have.ports.list[0], 1081);
		model_free(&good);
		model_free(&bad);
	}
	assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
	kernel_close(&k);
}

static int send_model(struct kernel *k, uint32_t generation, struct diag *d)
{
	struct batch *b = batch_new(generation);
	struct model m;
	int r;

	build(&m);
	assert_non_null(b);
	assert_int_equal(encode_model(b, &m), 0);
	r = batch_send(b, k, true, d);
	batch_free(b);
	model_free(&m);
	return r;
}

/* A batch built on what was read before somebody else's change is refused as a whole. */
static void test_stale_generation(void **state)
{
	struct have before, after;
	struct kernel k;
	struct diag d;

	(void)state;
	open_kernel(&k);
	assert_int_equal(have_read(&k, &before, &d), 0);
	assert_false(before.present);
	assert_int_equal(send_model(&k, before.generation + 1, &d), -ERESTART);
	assert_int_equal(have_read(&k, &after, &d), 0);
	assert_false(after.present);
	assert_int_equal(after.generation, before.generation);
	assert_int_equal(send_model(&k, before.generation, &d), 0);
	assert_int_equal(have_read(&k, &after, &d), 0);
	assert_true(after.present);
	assert_int_not_equal(after.generation, before.generation);
	assert_int_equal(sync_table(&k, NULL, false, &after, &d), 0);
	kernel_close(&k);
}

static void test_foreign_table(void **state)
{
	static const char *const comments[] = {"", "transocks", "not transocks-rules "};
	struct kernel k;

	(void)state;
	open_kernel(&k);
	for (size_t i = 0; i < ARRAY_LEN(comments); i++) {
		struct have have;
		struct model m;
		struct diag d;
		struct batch *b;

		build(&m);
		assert_int_equal(have_read(&k, &have, &d), 0);
		b = batch_new(have.generation);
		assert_non_null(b);
		snprintf(m.comment, sizeof(m.comment), "%s", comments[i]);
		if (have.present)
			assert_int_equal(encode_removal(b), 0);
		assert_int_equal(encode_model(b, &m), 0);
		assert_int_equal(batch_send(b, &k, true, &d), 0);
		batch_free(b);

		assert_int_equal(sync_table(&k, &m, false, &have, &d), -EEXIST);
		assert_non_null(strstr(d.text, comments[i]));
		assert_int_equal(sync_table(&k, NULL, false, &have, &d), -EEXIST);
		assert_int_equal(sync_table(&k, NULL, true, &have, &d), -EEXIST);
		assert_true(have.present);
		assert_false(have.ours);
		model_free(&m);
	}
	kernel_close(&k);
}

static int give_up(const struct nlmsghdr *h, void *ctx)
{
	(void)h;
	(void)ctx;
	errno = EINTR; /* as for a list that changes under us */
	return MNL_CB_ERROR;
}

/* The next question gets its own answer, not what is left of this one. */
static void give_up_reading(struct kernel *k)
{
	char buf[KERNEL_MESSAGE_MAX] = {0};
	struct nlmsghdr *h = kernel_question(k, buf, NFT_MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP);

	assert_int_equal(kernel_ask(k, h, give_up, NULL), -ERESTART);
}

/* Adds lists of rules so long that the kernel answers with several pieces. */
static void test_long_answers(void **state)
{
	struct have have;
	struct kernel k;
	struct model m;
	struct diag d;

	(void)state;
	open_kernel(&k);
	build(&m);
	assert_int_equal(have_read(&k, &have, &d), 0);
	if (have.present) { /* a foreign one, from the test before */
		struct batch *b = batch_new(have.generation);

		assert_int_equal(encode_removal(b), 0);
		assert_int_equal(batch_send(b, &k, true, &d), 0);
		batch_free(b);
	}
	for (size_t i = 0; i < m.n_chains; i++) {
		struct chain *c = &m.chains[i];

		for (int n = 0; n < 200; n++) {
			struct rule *r = chain_add_rule(c);

			assert_non_null(r);
			strcpy(r->comment, "one of many");
			assert_non_null(rule_add_expr(r, EXPR_RETURN));
		}
	}
	assert_int_equal(sync_table(&k, &m, false, &have, &d), 0);
	give_up_reading(&k);
	give_up_reading(&k);
	assert_int_equal(have_read(&k, &have, &d), 0);
	assert_int_equal(have.ports.n, 1);
	assert_int_equal(sync_table(&k, NULL, false, &have, &d), 0);
	model_free(&m);
	kernel_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_install_and_remove),
		cmocka_unit_test(test_every_option),
		cmocka_unit_test(test_many_elements),
		cmocka_unit_test(test_one_of_many),
		cmocka_unit_test(test_live_elements_are_kept),
		cmocka_unit_test(test_errors_name_their_part),
		cmocka_unit_test(test_stale_generation),
		cmocka_unit_test(test_foreign_table),
		cmocka_unit_test(test_long_answers),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
