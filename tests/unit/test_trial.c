/* SPDX-License-Identifier: MIT */
#include "rulemgr/trial.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "rulemgr/diff.h"
#include "rulemgr/want.h"
#include "tests/unit/wants.h"

static struct redirect options[2];

static struct model build(const struct want *w, const char *comment)
{
	struct model m;

	assert_int_equal(want_build(w, &m), 0);
	snprintf(m.comment, sizeof(m.comment), "%s", comment);
	return m;
}

static void assert_same_sets(const struct model *a, const struct model *b)
{
	assert_int_equal(a->n_sets, b->n_sets);
	for (size_t i = 0; i < a->n_sets; i++) {
		const struct set *s = &a->sets[i], *t = &b->sets[i];

		assert_string_equal(s->name, t->name);
		assert_string_equal(s->comment, t->comment);
		assert_int_equal(s->type, t->type);
		assert_int_equal(s->n_elements, t->n_elements);
		if (s->n_elements > 0)
			assert_memory_equal(s->elements, t->elements,
					    s->n_elements * sizeof(*s->elements));
	}
}

static void assert_same(const struct model *a, const struct model *b)
{
	assert_string_equal(a->comment, b->comment);
	assert_same_sets(a, b);
	assert_int_equal(a->n_chains, b->n_chains);
	for (size_t i = 0; i < a->n_chains; i++) {
		const struct chain *c = &a->chains[i], *d = &b->chains[i];

		assert_string_equal(c->name, d->name);
		assert_int_equal(c->priority, d->priority);
		assert_int_equal(c->n_rules, d->n_rules);
		for (size_t k = 0; k < c->n_rules; k++) {
			assert_string_equal(c->rules[k].comment, d->rules[k].comment);
			assert_int_equal(c->rules[k].n_exprs, d->rules[k].n_exprs);
			for (size_t e = 0; e < c->rules[k].n_exprs; e++)
				assert_true(
					expr_equal(&c->rules[k].exprs[e], &d->rules[k].exprs[e]));
		}
	}
}

/* A table on trial falls apart into the two that it was made of. */
static void check(const struct want *one, const struct want *other)
{
	for (int previous = 0; previous < 2; previous++) {
		struct model new = build(one, "new"), old = build(other, "old");
		struct model same = previous ? build(other, "old") : build(one, "new");

		assert_null(trial_find_unknown(&old));
		assert_false(trial_is_on(&new));
		assert_int_equal(trial_begin(&new, &old, 60000), 0);
		model_free(&old);
		assert_true(trial_is_on(&new));
		assert_false(trial_is_over(&new));
		for (size_t i = 0; i < new.n_chains; i++)
			assert_true(trial_is_previous(new.chains[i].name) ==
				    (trial_find_gate(&new.chains[i]) == NULL));
		if (previous)
			assert_true(trial_keep_previous(&new));
		else
			trial_keep_new(&new);
		assert_same(&new, &same);
		model_free(&new);
		model_free(&same);
	}
}

static void test_there_and_back(void **state)
{
	struct want small = want_default(&options[0]), large = want_everything(&options[1]);

	(void)state;
	check(&small, &large);
	check(&large, &small);
	check(&large, &large);
	small.mode = REDIRECT_MODE_TPROXY;
	check(&small, &small);
}

static void test_nothing_before(void **state)
{
	struct want w = want_default(&options[0]);
	struct model m = build(&w, "new"), none = {.comment = ""};

	(void)state;
	assert_int_equal(trial_begin(&m, &none, 1000), 0);
	assert_int_equal(model_find_set(&m, TRIAL_SET)->timeout_ms, 1000);
	model_find_set(&m, TRIAL_SET)->n_elements = 0;
	assert_true(trial_is_over(&m));
	assert_false(trial_keep_previous(&m));
	assert_int_equal(m.n_chains + m.n_sets, 0);
	model_free(&m);
}

/* Behind the rule that knows the flows taken before, or a trial would break those. */
static void test_gate_under_tproxy(void **state)
{
	struct want w = want_default(&options[0]);
	struct model m, none = {.comment = ""};
	const struct chain *c;

	(void)state;
	w.mode = REDIRECT_MODE_TPROXY;
	m = build(&w, "new");
	assert_int_equal(trial_begin(&m, &none, 1000), 0);
	for (int i = 0; i < 2; i++) {
		c = model_find_chain(&m, i == 0 ? "output" : "prerouting");
		assert_string_equal(trial_find_gate(c)[-1].comment, "of a connection taken before");
	}
	c = model_find_chain(&m, "guard");
	assert_ptr_equal(trial_find_gate(c), &c->rules[0]);
	model_free(&m);
}

static void test_possible(void **state)
{
	struct want w = want_default(&options[0]);
	struct model redirect = build(&w, ""), one, other;

	(void)state;
	w.mode = REDIRECT_MODE_TPROXY;
	one = build(&w, "");
	w.tproxy_mark.value = w.tproxy_mark.mask = 0x20;
	other = build(&w, "");
	assert_true(trial_is_possible(&redirect, &redirect));
	assert_true(trial_is_possible(&one, &one));
	assert_false(trial_is_possible(&one, &other));
	assert_false(trial_is_possible(&redirect, &one));
	assert_false(trial_is_possible(&one, &redirect));
	model_free(&redirect);
	model_free(&one);
	model_free(&other);
}

static void test_unknown(void **state)
{
	struct want w = want_default(&options[0]);
	struct model m = build(&w, "");

	(void)state;
	assert_null(trial_find_unknown(&m));
	m.n_others = 1;
	assert_non_null(trial_find_unknown(&m));
	assert_non_null(rule_add_expr(&model_find_chain(&m, "guard")->rules[0], EXPR_OTHER));
	assert_string_equal(trial_find_unknown(&m), "guard");
	m.sets[1].unlike = true;
	assert_string_equal(trial_find_unknown(&m), m.sets[1].name);
	m.sets[0].flags = 1;
	assert_string_equal(trial_find_unknown(&m), m.sets[0].name);
	model_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),    cmocka_unit_test(test_nothing_before),
		cmocka_unit_test(test_gate_under_tproxy), cmocka_unit_test(test_possible),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
