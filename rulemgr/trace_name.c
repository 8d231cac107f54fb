/* SPDX-License-Identifier: MIT */
/* The part of trace.h that asks the ruleset what the handles in a trace stand for. */
#include "rulemgr/trace.h"

#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/udata.h"

/* The list comes chain by chain. */
struct naming {
	struct trace *trace;
	uint8_t family;
	char table[TRACE_NAME_MAX], chain[TRACE_NAME_MAX]; /* of the rule before */
	unsigned position;
};

static bool is_of(const struct step *s, uint32_t family, const char *table, const char *chain)
{
	return s->family == family && strcmp(s->table, table) == 0 && strcmp(s->chain, chain) == 0;
}

static enum step_effect effect_of(const struct nftnl_expr *e, const char *name)
{
	if (strcmp(name, "redir") == 0)
		return EFFECT_REDIRECT;
	if (strcmp(name, "tproxy") == 0)
		return EFFECT_TPROXY;
	if (strcmp(name, "reject") == 0)
		return EFFECT_REJECT;
	if (strcmp(name, "meta") == 0 && nftnl_expr_is_set(e, NFTNL_EXPR_META_SREG) &&
	    nftnl_expr_get_u32(e, NFTNL_EXPR_META_KEY) == NFT_META_MARK)
		return EFFECT_MARK;
	return EFFECT_NONE;
}

static void name_effects(struct step *s, const struct nftnl_rule *rule)
{
	struct nftnl_expr_iter *exprs = nftnl_expr_iter_create(rule);
	struct nftnl_expr *e;

	while (exprs != NULL && (e = nftnl_expr_iter_next(exprs)) != NULL) {
		const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
		enum step_effect effect = effect_of(e, name);

		/* `tproxy` and `meta mark set` stand in one rule: what comes of it is the former. */
		if (effect != EFFECT_NONE && s->effect != EFFECT_TPROXY)
			s->effect = effect;
		if (strcmp(name, "lookup") == 0)
			snprintf(s->set, sizeof(s->set), "%s",
				 nftnl_expr_get_str(e, NFTNL_EXPR_LOOKUP_SET));
	}
	if (exprs != NULL)
		nftnl_expr_iter_destroy(exprs);
}

static void name_step(struct step *s, const struct nftnl_rule *rule, unsigned position)
{
	uint32_t len = 0;
	const void *data = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA, &len);
	const char *comment =
		data != NULL ? udata_find_string(data, len, NFTNL_UDATA_RULE_COMMENT) : NULL;

	s->position = position;
	snprintf(s->comment, sizeof(s->comment), "%s", comment != NULL ? comment : "");
	name_effects(s, rule);
}

/* `meta nftrace set 0` */
static bool rule_hides(const struct nftnl_rule *rule)
{
	struct nftnl_expr_iter *exprs = nftnl_expr_iter_create(rule);
	struct nftnl_expr *e;
	bool hides = false, zero = false;

	while (exprs != NULL && !hides && (e = nftnl_expr_iter_next(exprs)) != NULL) {
		const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
		uint32_t len = 0;
		const uint8_t *data;

		if (strcmp(name, "immediate") == 0) {
			data = nftnl_expr_get(e, NFTNL_EXPR_IMM_DATA, &len);
			zero = data != NULL && len > 0 && data[0] == 0;
		}
		hides = zero && strcmp(name, "meta") == 0 &&
			nftnl_expr_is_set(e, NFTNL_EXPR_META_SREG) &&
			nftnl_expr_get_u32(e, NFTNL_EXPR_META_KEY) == NFT_META_NFTRACE;
	}
	if (exprs != NULL)
		nftnl_expr_iter_destroy(exprs);
	return hides;
}

static void name_hider(struct naming *n, const struct nftnl_rule *rule)
{
	struct step *s = &n->trace->hidden_by;

	if (s->table[0] != '\0' || !rule_hides(rule))
		return;
	*s = (struct step){.kind = STEP_RULE, .family = n->family};
	memcpy(s->table, n->table, sizeof(s->table));
	memcpy(s->chain, n->chain, sizeof(s->chain));
	name_step(s, rule, n->position);
}

static void name_rule(struct naming *n, const struct nftnl_rule *rule)
{
	uint32_t family = nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY);
	const char *table = nftnl_rule_get_str(rule, NFTNL_RULE_TABLE);
	const char *chain = nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN);
	uint64_t handle = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE);

	if (table == NULL || chain == NULL)
		return;
	if (family != n->family || strcmp(table, n->table) != 0 || strcmp(chain, n->chain) != 0)
		n->position = 0;
	n->family = (uint8_t)family;
	snprintf(n->table, sizeof(n->table), "%s", table);
	snprintf(n->chain, sizeof(n->chain), "%s", chain);
	n->position++;
	name_hider(n, rule);
	for (size_t i = 0; i < n->trace->n_steps; i++) {
		struct step *s = &n->trace->steps[i];

		if (s->kind == STEP_RULE && s->handle == handle && is_of(s, family, table, chain))
			name_step(s, rule, n->position);
	}
}

static int read_rule(const struct nlmsghdr *h, void *ctx)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (rule == NULL) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	/* What libnftnl does not understand is somebody else's, and stays without a name. */
	if (nftnl_rule_nlmsg_parse(h, rule) == 0)
		name_rule(ctx, rule);
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

static void name_chain(struct trace *t, const struct nftnl_chain *c)
{
	uint32_t family = nftnl_chain_get_u32(c, NFTNL_CHAIN_FAMILY);
	const char *table = nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE);
	const char *name = nftnl_chain_get_str(c, NFTNL_CHAIN_NAME);

	if (table == NULL || name == NULL || !nftnl_chain_is_set(c, NFTNL_CHAIN_HOOKNUM))
		return;
	for (size_t i = 0; i < t->n_steps; i++) {
		struct step *s = &t->steps[i];

		if (!is_of(s, family, table, name))
			continue;
		s->at_hook = true;
		s->hook = nftnl_chain_get_u32(c, NFTNL_CHAIN_HOOKNUM);
		s->priority = nftnl_chain_get_s32(c, NFTNL_CHAIN_PRIO);
	}
}

static int read_chain(const struct nlmsghdr *h, void *ctx)
{
	struct naming *n = ctx;
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (c == NULL) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	if (nftnl_chain_nlmsg_parse(h, c) == 0)
		name_chain(n->trace, c);
	nftnl_chain_free(c);
	return MNL_CB_OK;
}

static int list(struct kernel *k, uint16_t type, mnl_cb_t fn, struct naming *n)
{
	char buf[KERNEL_MESSAGE_MAX] = {0};

	return kernel_ask(k, kernel_question(k, buf, type, NFPROTO_UNSPEC, NLM_F_DUMP), fn, n);
}

int trace_name(struct trace *t, struct kernel *k, struct diag *d)
{
	int r = -ERESTART;

	for (int try = 0; r == -ERESTART && try < 10; try++) {
		struct naming n = {.trace = t};

		t->hidden_by = (struct step){.table = ""};
		r = list(k, NFT_MSG_GETCHAIN, read_chain, &n);
		if (r == 0)
			r = list(k, NFT_MSG_GETRULE, read_rule, &n);
	}
	if (r == 0)
		return 0;
	r = r == -ERESTART ? -EBUSY : r;
	return diag_set(d, -r, NULL, 0, "cannot list the rules of this host: %s", strerror(-r));
}
