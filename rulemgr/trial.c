/* SPDX-License-Identifier: MIT */
#include "rulemgr/trial.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <string.h>

#include "rulemgr/diff.h"
#include "rulemgr/gate.h"
#include "rulemgr/ports.h"

bool trial_is_on(const struct model *m)
{
	return model_find_set(m, TRIAL_SET) != NULL;
}

bool trial_is_over(const struct model *m)
{
	const struct set *s = model_find_set(m, TRIAL_SET);

	return s != NULL && s->n_elements == 0;
}

int64_t trial_left(const struct model *m)
{
	const struct set *s = model_find_set(m, TRIAL_SET);

	return s != NULL ? (int64_t)s->left_ms : 0;
}

bool trial_has_previous(const struct model *m)
{
	const struct set *s = model_find_set(m, TRIAL_SET);

	return s != NULL && s->comment[0] != '\0';
}

static bool rule_is_known(const struct rule *r)
{
	for (size_t i = 0; i < r->n_exprs; i++) {
		if (r->exprs[i].kind == EXPR_OTHER)
			return false;
	}
	return true;
}

static bool is_short(const char *name)
{
	return strlen(name) + sizeof(TRIAL_PREFIX) < MODEL_NAME_MAX;
}

const char *trial_find_unknown(const struct model *m)
{
	for (size_t i = 0; i < m->n_sets; i++) {
		const struct set *s = &m->sets[i];

		if (s->type == SET_OTHER || s->flags != 0 || s->unlike || !is_short(s->name))
			return s->name;
	}
	for (size_t i = 0; i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		if (c->type == CHAIN_PLAIN || !is_short(c->name))
			return c->name;
		for (size_t k = 0; k < c->n_rules; k++) {
			if (!rule_is_known(&c->rules[k]))
				return c->name;
		}
	}
	return m->n_others > 0 ? "a counter, a quota or the like" : NULL;
}

static const struct rule *find_keeper(const struct model *m)
{
	for (size_t i = 0; i < m->n_chains; i++) {
		const struct rule *r = gate_find_keeper(&m->chains[i]);

		if (r != NULL)
			return r;
	}
	return NULL;
}

bool trial_is_possible(const struct model *m, const struct model *previous)
{
	const struct rule *a = find_keeper(m), *b = find_keeper(previous);

	if (a == NULL || b == NULL)
		return a == b;
	if (a->n_exprs != b->n_exprs)
		return false;
	for (size_t i = 0; i < a->n_exprs; i++) {
		if (!expr_equal(&a->exprs[i], &b->exprs[i]))
			return false;
	}
	return true;
}

/* `negate`: turns everything away when the trial is over, else while it is on. */
static int add_gate(struct chain *c, bool negate)
{
	struct rule *r = gate_insert(c, negate ? TRIAL_GATE_NEW : TRIAL_GATE_PREVIOUS);
	struct expr *e = r != NULL ? rule_add_expr(r, EXPR_META) : NULL;

	if (e == NULL)
		return -ENOMEM;
	e->key = NFT_META_L4PROTO;
	e = rule_add_expr(r, EXPR_LOOKUP);
	if (e == NULL)
		return -ENOMEM;
	e->negate = negate;
	snprintf(e->name, sizeof(e->name), "%s", TRIAL_SET);
	if (rule_add_expr(r, EXPR_COUNTER) == NULL || rule_add_expr(r, EXPR_RETURN) == NULL)
		return -ENOMEM;
	return 0;
}

static void add_prefix(char *name)
{
	char old[MODEL_NAME_MAX];

	snprintf(old, sizeof(old), "%s", name);
	snprintf(name, MODEL_NAME_MAX, "%s%.*s", TRIAL_PREFIX,
		 (int)(MODEL_NAME_MAX - sizeof(TRIAL_PREFIX)), old);
}

bool trial_is_previous(const char *name)
{
	return strncmp(name, TRIAL_PREFIX, strlen(TRIAL_PREFIX)) == 0;
}

static void remove_prefix(char *name)
{
	size_t len = strlen(TRIAL_PREFIX);

	if (trial_is_previous(name))
		memmove(name, name + len, strlen(name) - len + 1);
}

/* The sets that its rules look at. */
static void rename_lookups(struct chain *c, void (*rename)(char *name))
{
	for (size_t i = 0; i < c->n_rules; i++) {
		for (size_t k = 0; k < c->rules[i].n_exprs; k++) {
			if (c->rules[i].exprs[k].kind == EXPR_LOOKUP)
				rename(c->rules[i].exprs[k].name);
		}
	}
}

static int add_trial_set(struct model *m, const char *comment, int64_t ms)
{
	/* The protocols that our chains look at. */
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
	struct set *s = model_add_set(m, TRIAL_SET, SET_PROTOCOL);

	if (s == NULL)
		return -ENOMEM;
	s->timeout_ms = (uint64_t)ms;
	/* The table has one comment, the new one's. */
	snprintf(s->comment, sizeof(s->comment), "%s", comment);
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		struct element e = {.first = {protocols[i]}, .last = {protocols[i]}};

		if (set_add_element(s, &e) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int move_sets(struct model *m, struct model *previous)
{
	for (size_t i = 0; i < previous->n_sets; i++) {
		struct set *from = &previous->sets[i], *to;

		to = model_add_set(m, from->name, from->type);
		if (to == NULL)
			return -ENOMEM;
		*to = *from;
		add_prefix(to->name);
		from->elements = NULL;
	}
	return 0;
}

static int move_chains(struct model *m, struct model *previous)
{
	for (size_t i = 0; i < previous->n_chains; i++) {
		struct chain *from = &previous->chains[i], *to;

		to = model_add_chain(m, from->name);
		if (to == NULL)
			return -ENOMEM;
		*to = *from;
		from->rules = NULL;
		from->n_rules = 0;
		add_prefix(to->name);
		rename_lookups(to, add_prefix);
		if (add_gate(to, false) < 0)
			return -ENOMEM;
	}
	return 0;
}

int trial_begin(struct model *m, struct model *previous, int64_t ms)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_chains; i++)
		r = add_gate(&m->chains[i], true);
	if (r == 0)
		r = move_sets(m, previous);
	if (r == 0)
		r = move_chains(m, previous);
	if (r == 0)
		r = add_trial_set(m, previous->comment, ms);
	return r;
}

static void chain_clear(struct chain *c)
{
	for (size_t i = 0; i < c->n_rules; i++)
		free(c->rules[i].exprs);
	free(c->rules);
}

/* Of the two halves one, without the gates and the set of the trial. */
static void keep(struct model *m, bool previous)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_sets; i++) {
		struct set s = m->sets[i];

		if (trial_is_previous(s.name) == previous && strcmp(s.name, TRIAL_SET) != 0)
			m->sets[n++] = s;
		else
			free(s.elements);
	}
	m->n_sets = n;
	n = 0;
	for (size_t i = 0; i < m->n_chains; i++) {
		struct chain c = m->chains[i];

		if (trial_is_previous(c.name) != previous) {
			chain_clear(&c);
			continue;
		}
		gate_remove(&c, previous ? TRIAL_GATE_PREVIOUS : TRIAL_GATE_NEW);
		m->chains[n++] = c;
	}
	m->n_chains = n;
}

void trial_keep_new(struct model *m)
{
	keep(m, false);
}

bool trial_keep_previous(struct model *m)
{
	const struct set *s = model_find_set(m, TRIAL_SET);
	struct ports ports = ports_of(m);

	if (s != NULL)
		snprintf(m->comment, sizeof(m->comment), "%s", s->comment);
	keep(m, true);
	for (size_t i = 0; i < m->n_sets; i++)
		remove_prefix(m->sets[i].name);
	for (size_t i = 0; i < m->n_chains; i++) {
		remove_prefix(m->chains[i].name);
		rename_lookups(&m->chains[i], remove_prefix);
	}
	if (m->comment[0] == '\0')
		return false;
	ports_remember(m, &ports); /* flows that the new table has taken live on */
	return true;
}

const struct rule *trial_find_gate(const struct chain *c)
{
	return gate_find(c, TRIAL_GATE_NEW);
}

bool trial_owns_rule(const char *comment)
{
	return strcmp(comment, TRIAL_GATE_NEW) == 0 || strcmp(comment, TRIAL_GATE_PREVIOUS) == 0;
}
