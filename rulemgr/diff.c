/* SPDX-License-Identifier: MIT */
#include "rulemgr/diff.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "policy/redirect.h"
#include "rulemgr/carry.h"
#include "rulemgr/drain.h"
#include "rulemgr/meaning.h"
#include "rulemgr/trial.h"

/* What is being compared; `failed` when memory has run out. */
struct compare {
	struct diff diff;
	struct difference spare;
	bool failed;
};

static struct difference *add(struct compare *c, enum diff_kind kind, enum diff_object object,
			      const char *name)
{
	struct difference *items = model_grow(c->diff.items, c->diff.n, sizeof(*items));
	struct difference *d = &c->spare;

	if (items == NULL) {
		c->failed = true;
	} else {
		c->diff.items = items;
		d = &items[c->diff.n++];
	}
	*d = (struct difference){.kind = kind, .object = object, .property = ""};
	snprintf(d->name, sizeof(d->name), "%s", name);
	return d;
}

static void set_values(struct difference *d, const char *property, const char *want,
		       const char *have)
{
	d->property = property;
	snprintf(d->want, sizeof(d->want), "%s", want);
	snprintf(d->have, sizeof(d->have), "%s", have);
}

/* Two texts of the object `name`, if they are not the same. */
static void compare_texts(struct compare *c, enum diff_object object, const char *name,
			  const char *property, const char *want, const char *have)
{
	if (strcmp(want, have) != 0)
		set_values(add(c, DIFF_ALTERED, object, name), property, want, have);
}

static void compare_flags(struct compare *c, enum diff_object object, const char *name,
			  uint32_t want, uint32_t have)
{
	char texts[2][16];

	snprintf(texts[0], sizeof(texts[0]), "0x%x", want);
	snprintf(texts[1], sizeof(texts[1]), "0x%x", have);
	compare_texts(c, object, name, "flags", texts[0], texts[1]);
}

static const char *table_policy(const struct model *m)
{
	return redirect_down_words[(m->flags & NFT_TABLE_F_OWNER) != 0 ? REDIRECT_DOWN_OPEN
								       : REDIRECT_DOWN_CLOSED];
}

/* The ports of earlier tables come and go with each install. */
static void compare_heads(struct compare *c, const struct model *want, const struct model *have)
{
	char texts[2][MODEL_COMMENT_MAX];
	const char *comments[2] = {want->comment, have->comment};

	for (int i = 0; i < 2; i++) {
		char *earlier;

		snprintf(texts[i], sizeof(texts[i]), "%s", comments[i]);
		earlier = strstr(texts[i], MODEL_COMMENT_EARLIER);
		if (earlier != NULL)
			*earlier = '\0';
	}
	compare_texts(c, DIFF_TABLE, "", "comment", texts[0], texts[1]);
	/* In the word of the option: whether a socket owns it. */
	compare_texts(c, DIFF_TABLE, "", "when_daemon_down", table_policy(want),
		      table_policy(have));
	if (have->n_others > 0) {
		snprintf(texts[0], sizeof(texts[0]), "%zu", have->n_others);
		set_values(add(c, DIFF_ALTERED, DIFF_TABLE, ""), "other objects", "0", texts[0]);
	}
	compare_flags(c, DIFF_TABLE, "", want->flags & ~(uint32_t)NFT_TABLE_F_OWNER,
		      have->flags & ~(uint32_t)NFT_TABLE_F_OWNER);
}

static const char *set_type_text(const struct set *s, char *out, size_t cap)
{
	snprintf(out, cap, "%s%s", s->type == SET_OTHER ? "unknown" : set_types[s->type].name,
		 s->interval ? ", ranges" : "");
	return out;
}

static struct difference *add_element(struct compare *c, enum diff_kind kind, const struct set *s,
				      const struct element *e)
{
	struct difference *d = add(c, kind, DIFF_ELEMENT, s->name);

	element_format(s, e, d->element, sizeof(d->element));
	snprintf(d->comment, sizeof(d->comment), "%s", e->comment);
	return d;
}

static void compare_element(struct compare *c, const struct set *s, const struct element *want,
			    const struct element *have)
{
	char text[ELEMENT_TEXT_MAX];

	if (memcmp(want->last, have->last, s->key_len) != 0) {
		struct difference *d = add_element(c, DIFF_ALTERED, s, want);

		/* One that has been merged with another has lost its comment by that. */
		set_values(d, "range", d->element, element_format(s, have, text, sizeof(text)));
	} else if (strcmp(want->comment, have->comment) != 0) {
		set_values(add_element(c, DIFF_ALTERED, s, want), "comment", want->comment,
			   have->comment);
	}
}

/* Both are sorted. */
static void compare_elements(struct compare *c, const struct set *want, const struct set *have)
{
	size_t i = 0, k = 0;

	while (i < want->n_elements || k < have->n_elements) {
		const struct element *w = &want->elements[i], *h = &have->elements[k];
		int order;

		if (i == want->n_elements)
			order = 1;
		else if (k == have->n_elements)
			order = -1;
		else
			order = element_compare(want, w, h);
		if (order < 0)
			add_element(c, DIFF_MISSING, want, w);
		else if (order == 0)
			compare_element(c, want, w, h);
		else if (!element_is_carried(have, h))
			add_element(c, DIFF_EXTRA, have, h);
		i += order <= 0;
		k += order >= 0;
	}
}

static void compare_sets(struct compare *c, const struct model *want, const struct model *have)
{
	char texts[2][64];

	for (size_t i = 0; i < want->n_sets; i++) {
		const struct set *w = &want->sets[i], *h = model_find_set(have, w->name);

		if (h == NULL) {
			add(c, DIFF_MISSING, DIFF_SET, w->name);
			continue;
		}
		compare_texts(c, DIFF_SET, w->name, "type",
			      set_type_text(w, texts[0], sizeof(texts[0])),
			      set_type_text(h, texts[1], sizeof(texts[1])));
		compare_flags(c, DIFF_SET, w->name, w->flags, h->flags);
		compare_texts(c, DIFF_SET, w->name, "comment", w->comment, h->comment);
		if (!set_is_live(w->name) && w->type == h->type && w->interval == h->interval)
			compare_elements(c, w, h);
	}
	for (size_t i = 0; i < have->n_sets; i++) {
		if (model_find_set(want, have->sets[i].name) == NULL)
			add(c, DIFF_EXTRA, DIFF_SET, have->sets[i].name);
	}
}

static struct difference *add_rule(struct compare *c, enum diff_kind kind,
				   const struct chain *chain, const struct rule *r, size_t number)
{
	struct difference *d = add(c, kind, DIFF_RULE, chain->name);

	d->number = number;
	snprintf(d->comment, sizeof(d->comment), "%s", r->comment);
	return d;
}

static bool same_expressions(const struct rule *a, const struct rule *b)
{
	if (a->n_exprs != b->n_exprs)
		return false;
	for (size_t i = 0; i < a->n_exprs; i++) {
		if (!expr_equal(&a->exprs[i], &b->exprs[i]))
			return false;
	}
	return true;
}

static bool same_comment(const struct rule *a, const struct rule *b)
{
	return strcmp(a->comment, b->comment) == 0;
}

static bool same_rule(const struct rule *a, const struct rule *b)
{
	return same_comment(a, b) && same_expressions(a, b);
}

static void expressions_format(const struct rule *r, char *out, size_t cap)
{
	char text[EXPR_TEXT_MAX];
	struct strbuf sb;

	strbuf_init(&sb, out, cap);
	for (size_t i = 0; i < r->n_exprs; i++)
		strbuf_printf(&sb, "%s%s", i > 0 ? ", " : "",
			      expr_format(&r->exprs[i], text, sizeof(text)));
}

/* Two expressions of one place that are not equal. A mark has two, which are told once. */
static void compare_expressions(struct compare *c, const struct chain *chain,
				const struct rule *want, const struct rule *have, size_t i,
				size_t number)
{
	char texts[2][EXPR_TEXT_MAX], told[MEANING_TEXT_MAX];
	const char *property = expr_meaning(want, i, texts[0]);
	const char *other = expr_meaning(have, i, texts[1]);

	if (property == NULL || other == NULL || strcmp(property, other) != 0 ||
	    strcmp(texts[0], texts[1]) == 0) {
		property = "expression";
		expr_format(&want->exprs[i], texts[0], sizeof(texts[0]));
		expr_format(&have->exprs[i], texts[1], sizeof(texts[1]));
	} else if (i > 0 && !expr_equal(&want->exprs[i - 1], &have->exprs[i - 1]) &&
		   expr_meaning(want, i - 1, told) != NULL && strcmp(told, texts[0]) == 0) {
		return;
	}
	set_values(add_rule(c, DIFF_ALTERED, chain, want, number), property, texts[0], texts[1]);
}

static void compare_rules(struct compare *c, const struct chain *chain, const struct rule *want,
			  const struct rule *have, size_t number)
{
	if (!same_comment(want, have))
		set_values(add_rule(c, DIFF_ALTERED, chain, want, number), "comment", want->comment,
			   have->comment);
	if (want->n_exprs != have->n_exprs) {
		struct difference *d = add_rule(c, DIFF_ALTERED, chain, want, number);

		d->property = "expressions";
		expressions_format(want, d->want, sizeof(d->want));
		expressions_format(have, d->have, sizeof(d->have));
		return;
	}
	for (size_t i = 0; i < want->n_exprs; i++) {
		if (!expr_equal(&want->exprs[i], &have->exprs[i]))
			compare_expressions(c, chain, want, have, i, number);
	}
}

/* Which rule of the kernel's chain each wanted rule has become: its index + 1, or 0; and how. */
struct match {
	size_t *of_want; /* n_rules of want */
	bool *taken;     /* n_rules of have */
	bool *in_place;  /* n_rules of want: the same rule, and in the same order */
};

static void match_free(struct match *m)
{
	free(m->of_want);
	free(m->taken);
	free(m->in_place);
}

static int match_init(struct match *m, const struct chain *want, const struct chain *have)
{
	m->of_want = calloc(want->n_rules + 1, sizeof(*m->of_want));
	m->in_place = calloc(want->n_rules + 1, sizeof(*m->in_place));
	m->taken = calloc(have->n_rules + 1, sizeof(*m->taken));
	if (m->of_want != NULL && m->in_place != NULL && m->taken != NULL)
		return 0;
	match_free(m);
	return -ENOMEM;
}

/* The longest sequence of rules that both have in the same order. */
static int match_in_order(struct match *m, const struct chain *want, const struct chain *have)
{
	size_t width = have->n_rules + 1, i = 0, k = 0;
	/* len[i][k]: of what is behind want rule i and have rule k */
	uint32_t *len = calloc((want->n_rules + 1) * width, sizeof(*len));

	if (len == NULL)
		return -ENOMEM;
	for (i = want->n_rules; i-- > 0;) {
		for (k = have->n_rules; k-- > 0;) {
			uint32_t skip_want = len[(i + 1) * width + k];
			uint32_t skip_have = len[i * width + k + 1];
			uint32_t best = skip_want > skip_have ? skip_want : skip_have;

			if (same_rule(&want->rules[i], &have->rules[k]))
				best = len[(i + 1) * width + k + 1] + 1;
			len[i * width + k] = best;
		}
	}
	for (i = 0, k = 0; i < want->n_rules && k < have->n_rules;) {
		if (same_rule(&want->rules[i], &have->rules[k])) {
			m->of_want[i] = k + 1;
			m->in_place[i] = true;
			m->taken[k] = true;
			i++;
			k++;
		} else if (len[(i + 1) * width + k] >= len[i * width + k + 1]) {
			i++;
		} else {
			k++;
		}
	}
	free(len);
	return 0;
}

/* What is left finds a partner by ever weaker likeness. */
static void match_rest(struct match *m, const struct chain *want, const struct chain *have)
{
	bool (*const alike[])(const struct rule *, const struct rule *) = {same_rule, same_comment,
									   same_expressions};

	for (size_t way = 0; way < ARRAY_LEN(alike); way++) {
		for (size_t i = 0; i < want->n_rules; i++) {
			for (size_t k = 0; k < have->n_rules && m->of_want[i] == 0; k++) {
				if (m->taken[k] || !alike[way](&want->rules[i], &have->rules[k]))
					continue;
				m->of_want[i] = k + 1;
				m->taken[k] = true;
			}
		}
	}
}

static void compare_chain_rules(struct compare *c, const struct chain *want,
				const struct chain *have)
{
	struct match m;

	if (match_init(&m, want, have) < 0) {
		c->failed = true;
		return;
	}
	c->failed |= match_in_order(&m, want, have) < 0;
	match_rest(&m, want, have);
	for (size_t i = 0; i < want->n_rules; i++) {
		const struct rule *w = &want->rules[i];
		size_t number = m.of_want[i];

		if (number == 0)
			add_rule(c, DIFF_MISSING, want, w, i + 1);
		else if (!same_rule(w, &have->rules[number - 1]))
			compare_rules(c, want, w, &have->rules[number - 1], number);
		else if (!m.in_place[i])
			add_rule(c, DIFF_MOVED, want, w, number);
	}
	for (size_t k = 0; k < have->n_rules; k++) {
		if (!m.taken[k])
			add_rule(c, DIFF_EXTRA, have, &have->rules[k], k + 1);
	}
	match_free(&m);
}

static void compare_chains(struct compare *c, const struct model *want, const struct model *have)
{
	char texts[2][64];

	for (size_t i = 0; i < want->n_chains; i++) {
		const struct chain *w = &want->chains[i], *h = model_find_chain(have, w->name);

		if (h == NULL) {
			add(c, DIFF_MISSING, DIFF_CHAIN, w->name);
			continue;
		}
		compare_texts(c, DIFF_CHAIN, w->name, "hook",
			      chain_format_hook(w, texts[0], sizeof(texts[0])),
			      chain_format_hook(h, texts[1], sizeof(texts[1])));
		compare_texts(c, DIFF_CHAIN, w->name, "policy", w->drop ? "drop" : "accept",
			      h->drop ? "drop" : "accept");
		compare_texts(c, DIFF_CHAIN, w->name, "comment", w->comment, h->comment);
		compare_chain_rules(c, w, h);
	}
	for (size_t i = 0; i < have->n_chains; i++) {
		if (model_find_chain(want, have->chains[i].name) == NULL)
			add(c, DIFF_EXTRA, DIFF_CHAIN, have->chains[i].name);
	}
}

int diff_models(const struct model *want, const struct model *have, struct diff *d)
{
	struct compare c = {.failed = false};

	compare_heads(&c, want, have);
	compare_sets(&c, want, have);
	compare_chains(&c, want, have);
	if (c.failed) {
		diff_free(&c.diff);
		return -ENOMEM;
	}
	*d = c.diff;
	return 0;
}

const char *difference_cause(const struct difference *d)
{
	if (d->kind != DIFF_EXTRA)
		return NULL;
	if (d->object == DIFF_RULE && strcmp(d->comment, DRAIN_COMMENT) == 0)
		return "flush";
	if ((d->object == DIFF_RULE && trial_owns_rule(d->comment)) ||
	    (d->object != DIFF_ELEMENT &&
	     (strcmp(d->name, TRIAL_SET) == 0 || trial_is_previous(d->name))))
		return "install --confirm";
	return NULL;
}

void diff_free(struct diff *d)
{
	free(d->items);
	*d = (struct diff){0};
}
