/* SPDX-License-Identifier: MIT */
#include "rulemgr/have.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/decode.h"

static bool rule_has(const struct rule *r, enum expr_kind kind)
{
	for (size_t i = 0; i < r->n_exprs; i++) {
		if (r->exprs[i].kind == kind)
			return true;
	}
	return false;
}

static void have_summarize(struct have *have, const struct decode *decoded)
{
	const struct model *m = &decoded->model;

	have->present = decoded->has_table;
	have->owner = m->owner;
	snprintf(have->comment, sizeof(have->comment), "%s", m->comment);
	have->ours =
		strncmp(have->comment, MODEL_COMMENT_PREFIX, strlen(MODEL_COMMENT_PREFIX)) == 0;
	if (!have->ours)
		return;
	have->ports = ports_of(m);
	for (size_t i = 0; i < m->n_chains; i++) {
		for (size_t k = 0; k < m->chains[i].n_rules; k++) {
			const struct rule *r = &m->chains[i].rules[k];

			have->transparent |= rule_has(r, EXPR_TPROXY);
		}
	}
}

static int read_message(const struct nlmsghdr *h, void *ctx)
{
	int r = decode_message(ctx, h);

	if (r == 0)
		return MNL_CB_OK;
	errno = -r;
	return MNL_CB_ERROR;
}

/* A question about our table; `set` names one of its sets where the question is about elements. */
static int have_ask(struct kernel *k, uint16_t type, uint16_t table_attribute, uint16_t flags,
		    const char *set, struct decode *decoded)
{
	char buf[1024] = {0}; /* no stray bytes in the padding */
	struct nlmsghdr *h = kernel_question(k, buf, type, NFPROTO_INET, flags);

	mnl_attr_put_strz(h, table_attribute, MODEL_TABLE);
	if (set != NULL)
		mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
	return kernel_ask(k, h, read_message, decoded);
}

static int have_read_sets(struct kernel *k, struct decode *decoded)
{
	int r = have_ask(k, NFT_MSG_GETSET, NFTA_SET_TABLE, NLM_F_DUMP, NULL, decoded);

	for (size_t i = 0; r == 0 && i < decoded->model.n_sets; i++)
		r = have_ask(k, NFT_MSG_GETSETELEM, NFTA_SET_ELEM_LIST_TABLE, NLM_F_DUMP,
			     decoded->model.sets[i].name, decoded);
	return r;
}

/* All of it; without the sets where those are not asked for. */
static int have_decode(struct kernel *k, bool sets, struct decode *decoded)
{
	int r = have_ask(k, NFT_MSG_GETTABLE, NFTA_TABLE_NAME, 0, NULL, decoded);

	if (r == -ENOENT)
		return 0;
	if (!sets)
		decoded->in_use = 0;
	if (r == 0 && sets)
		r = have_read_sets(k, decoded);
	if (r == 0)
		r = have_ask(k, NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, NLM_F_DUMP, NULL, decoded);
	if (r == 0)
		r = have_ask(k, NFT_MSG_GETRULE, NFTA_RULE_TABLE, NLM_F_DUMP, NULL, decoded);
	return r;
}

static int have_read_parts(struct kernel *k, bool sets, struct have *have, struct decode *decoded)
{
	struct have found = {0};
	uint32_t after;
	int r = kernel_generation(k, &found.generation);

	if (r == 0)
		r = have_decode(k, sets, decoded);
	if (r == 0)
		r = kernel_generation(k, &after);
	else if (r == -ENOENT) /* gone since the table was read */
		r = -ERESTART;
	if (r == 0 && after != found.generation)
		r = -ERESTART;
	if (r < 0)
		return r;
	have_summarize(&found, decoded);
	*have = found;
	return 0;
}

static int have_explain(int err, struct diag *d)
{
	if (err < 0 && err != -ERESTART)
		diag_set(d, -err, NULL, 0, "cannot read table %s: %s", MODEL_TABLE_TEXT,
			 strerror(-err));
	return err;
}

static int have_read_decoded(struct kernel *k, bool sets, struct have *have, struct model *m,
			     struct diag *d)
{
	struct decode decoded = {0};
	int r = have_read_parts(k, sets, have, &decoded);

	if (r == 0)
		r = decode_finish(&decoded, m);
	decode_free(&decoded);
	return have_explain(r, d);
}

int have_read_model(struct kernel *k, struct have *have, struct model *m, struct diag *d)
{
	return have_read_decoded(k, true, have, m, d);
}

int have_read_chains(struct kernel *k, struct have *have, struct model *m, struct diag *d)
{
	return have_read_decoded(k, false, have, m, d);
}

int have_read(struct kernel *k, struct have *have, struct diag *d)
{
	struct model m;
	int r = have_read_chains(k, have, &m, d);

	if (r == 0)
		model_free(&m);
	return r;
}
