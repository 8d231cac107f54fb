/* SPDX-License-Identifier: MIT */
#include "rulemgr/gate.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

bool gate_chain_takes(const struct chain *c)
{
	for (size_t i = 0; c->type != CHAIN_PLAIN && i < c->n_rules; i++) {
		const struct rule *r = &c->rules[i];

		if (rule_redirect_port(r) != 0)
			return true;
		for (size_t k = 0; k < r->n_exprs; k++) {
			if (r->exprs[k].kind == EXPR_META_SET ||
			    (r->exprs[k].kind == EXPR_REJECT &&
			     r->exprs[k].key != NFT_REJECT_TCP_RST))
				return true;
		}
	}
	return false;
}

/* It marks packets because of their flow or of the socket that they belong to. */
static bool keeps_taken_flows(const struct rule *r)
{
	bool known = false;

	for (size_t i = 0; i < r->n_exprs; i++) {
		const struct expr *e = &r->exprs[i];

		if (i == 0 && e->kind == EXPR_CT && e->key == NFT_CT_MARK)
			known = true;
		if (e->kind == EXPR_SOCKET && e->key == NFT_SOCKET_TRANSPARENT)
			known = true;
		if (e->kind == EXPR_META_SET && known)
			return true;
	}
	return false;
}

const struct rule *gate_find_keeper(const struct chain *c)
{
	for (size_t i = c->n_rules; i-- > 0;) {
		if (keeps_taken_flows(&c->rules[i]))
			return &c->rules[i];
	}
	return NULL;
}

struct rule *gate_insert(struct chain *c, const char *comment)
{
	struct rule *last = chain_add_rule(c), *r;
	const struct rule *keeper;
	size_t at;

	if (last == NULL)
		return NULL;
	keeper = gate_find_keeper(c);
	at = keeper != NULL ? (size_t)(keeper - c->rules) + 1 : 0;
	r = &c->rules[at];
	memmove(r + 1, r, (c->n_rules - 1 - at) * sizeof(*r));
	*r = (struct rule){.handle = 0};
	snprintf(r->comment, sizeof(r->comment), "%s", comment);
	return r;
}

const struct rule *gate_find(const struct chain *c, const char *comment)
{
	for (size_t i = 0; i < c->n_rules; i++) {
		if (strcmp(c->rules[i].comment, comment) == 0)
			return &c->rules[i];
	}
	return NULL;
}

void gate_remove(struct chain *c, const char *comment)
{
	const struct rule *found = gate_find(c, comment);
	size_t at;

	if (found == NULL)
		return;
	at = (size_t)(found - c->rules);
	free(c->rules[at].exprs);
	c->n_rules--;
	memmove(&c->rules[at], &c->rules[at + 1], (c->n_rules - at) * sizeof(*c->rules));
}
