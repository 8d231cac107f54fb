/* SPDX-License-Identifier: MIT */
#include "rulemgr/drain.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "rulemgr/gate.h"
#include "rulemgr/want.h"
#include "tests/unit/wants.h"

/* Where the drain rule comes, by the comment of the rule in front of it ("": it is the first); NULL: no such rule
 * in the chain. */
struct expected {
	const char *chain, *before;
};

static void check(const struct want *w, const struct expected *expected, int n)
{
	struct model m;

	assert_int_equal(want_build(w, &m), 0);
	assert_false(drain_is_on(&m));
	assert_true(drain_is_over(&m));
	assert_int_equal(drain_add(&m), n);
	assert_true(drain_is_on(&m));
	assert_false(drain_is_over(&m));
	assert_int_equal(drain_add(&m), 0);
	for (; expected->chain != NULL; expected++) {
		const struct chain *c = model_find_chain(&m, expected->chain);
		const struct rule *r;

		assert_non_null(c);
		r = gate_find(c, DRAIN_COMMENT);
		if (expected->before == NULL) {
			assert_null(r);
			continue;
		}
		assert_non_null(r);
		assert_int_equal(r->exprs[r->n_exprs - 1].kind, EXPR_RETURN);
		assert_int_equal(r->exprs[r->n_exprs - 2].kind, EXPR_COUNTER);
		assert_string_equal(r == c->rules ? "" : r[-1].comment, expected->before);
		gate_remove(model_find_chain(&m, expected->chain), DRAIN_COMMENT);
		assert_false(drain_is_on(&m));
	}
	model_free(&m);
}

static void test_redirect(void **state)
{
	static const struct expected expected[] = {
		{"output", ""}, {"prerouting", ""}, {"guard", NULL}, {NULL, NULL}};
	struct redirect options;
	struct want w = want_default(&options);

	(void)state;
	want_add_gateway(&w, "eth1");
	check(&w, expected, 2);
}

static void test_tproxy(void **state)
{
	static const struct expected expected[] = {
		{"output", "of a connection taken before"},
		{"prerouting", "of a connection taken before"},
		{"guard", NULL},
		{NULL, NULL},
	};
	struct redirect options;
	struct want w = want_default(&options);

	(void)state;
	w.mode = REDIRECT_MODE_TPROXY;
	check(&w, expected, 2);
	w.tproxy_mark.mask = UINT32_MAX;
	check(&w, expected, 2);
}

static void test_quic(void **state)
{
	static const struct expected expected[] = {
		{"output", ""},       {"prerouting", ""}, {"quic_output", ""},
		{"quic_forward", ""}, {"guard", NULL},    {NULL, NULL},
	};
	struct redirect options;
	struct want w = want_everything(&options);

	(void)state;
	check(&w, expected, 4);
}

static void test_nothing_taken(void **state)
{
	struct model m = {0};

	(void)state;
	assert_non_null(model_add_chain(&m, "output"));
	assert_false(drain_is_on(&m));
	assert_false(drain_is_over(&m));
	assert_int_equal(drain_add(&m), 0);
	model_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redirect),
		cmocka_unit_test(test_tproxy),
		cmocka_unit_test(test_quic),
		cmocka_unit_test(test_nothing_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
