/* SPDX-License-Identifier: MIT */
#include "rulemgr/drain.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/encode.h"
#include "rulemgr/gate.h"

static bool chain_is_open(const struct chain *c)
{
	return gate_chain_takes(c) && gate_find(c, DRAIN_COMMENT) == NULL;
}

bool drain_is_over(const struct model *m)
{
	for (size_t i = 0; i < m->n_chains; i++) {
		if (chain_is_open(&m->chains[i]))
			return true;
	}
	return false;
}

bool drain_is_on(const struct model *m)
{
	for (size_t i = 0; !drain_is_over(m) && i < m->n_chains; i++) {
		if (gate_chain_takes(&m->chains[i]))
			return true;
	}
	return false;
}

/* Under TPROXY a flow of this host passes two chains. One that the first has let pass to the second a moment ago must
 * be taken there; it comes in from the loopback interface, which is no gateway. */
static int skip_loopback(struct rule *r)
{
	static const char name[IFNAMSIZ] = "lo";
	struct expr *e = rule_add_expr(r, EXPR_META);

	if (e == NULL)
		return -ENOMEM;
	e->key = NFT_META_IIFNAME;
	e = rule_add_expr(r, EXPR_CMP);
	if (e == NULL)
		return -ENOMEM;
	e->key = NFT_CMP_NEQ;
	memcpy(e->value.bytes, name, sizeof(name));
	e->value.len = sizeof(name);
	return 0;
}

static int drain_add_rule(struct chain *c)
{
	struct rule *r = gate_insert(c, DRAIN_COMMENT);

	if (r == NULL)
		return -ENOMEM;
	if (c->type == CHAIN_FILTER && c->hook == NF_INET_PRE_ROUTING && skip_loopback(r) < 0)
		return -ENOMEM;
	if (rule_add_expr(r, EXPR_COUNTER) == NULL || rule_add_expr(r, EXPR_RETURN) == NULL)
		return -ENOMEM;
	return 0;
}

int drain_add(struct model *m)
{
	int n = 0;

	for (size_t i = 0; i < m->n_chains; i++) {
		struct chain *c = &m->chains[i];

		if (!chain_is_open(c))
			continue;
		if (drain_add_rule(c) < 0)
			return -ENOMEM;
		n++;
	}
	return n;
}

/* Those that the kernel does not have yet have no handle. */
static int drain_encode(struct batch *b, const struct model *m)
{
	int r = 0;

	for (size_t i = 0; i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		for (size_t k = 0; r == 0 && k < c->n_rules; k++) {
			if (c->rules[k].handle == 0)
				r = encode_inserted_rule(b, m, c, &c->rules[k],
							 k > 0 ? c->rules[k - 1].handle : 0);
		}
	}
	return r;
}

static int build_start(void *ctx, struct batch *b, const struct have *have, struct model *m,
		       struct diag *d)
{
	int r = have->present ? drain_add(m) : 0;

	(void)ctx;
	if (r > 0)
		r = drain_encode(b, m) < 0 ? -ENOMEM : 1;
	if (r < 0)
		diag_set(d, -r, NULL, 0, "cannot build the batch: %s", strerror(-r));
	return r;
}

int drain_start(struct kernel *k, struct have *have, struct diag *d)
{
	struct change change = {.build = build_start, .without_sets = true};

	return sync_change(k, &change, false, have, d);
}

static int build_finish(void *ctx, struct batch *b, const struct have *have, struct model *m,
			struct diag *d)
{
	bool *removed = ctx;
	int r;

	*removed = have->present;
	if (!have->present)
		return 0;
	if (drain_is_over(m))
		return diag_set(d, ECANCELED, NULL, 0,
				"table %s was installed again meanwhile: it stays",
				MODEL_TABLE_TEXT);
	r = encode_removal(b);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot build the batch: %s", strerror(-r));
	return 1;
}

int drain_finish(struct kernel *k, bool *removed, struct diag *d)
{
	struct change change = {.build = build_finish, .ctx = removed, .without_sets = true};
	struct have have;

	return sync_change(k, &change, false, &have, d);
}
