/* SPDX-License-Identifier: MIT */
#include "rulemgr/leaks.h"

#include <errno.h>
#include <inttypes.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define LEAKS_TRIES    10
#define LEAKS_NAME_MAX 256

/* The first rule found. */
struct leak {
	char table[LEAKS_NAME_MAX], chain[LEAKS_NAME_MAX];
	uint64_t handle; /* 0: none */
};

static bool rule_sends(const struct nftnl_rule *rule)
{
	struct nftnl_expr_iter *exprs = nftnl_expr_iter_create(rule);
	struct nftnl_expr *e;
	bool sends = false;

	while (exprs != NULL && !sends && (e = nftnl_expr_iter_next(exprs)) != NULL) {
		const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);

		sends = strcmp(name, "dup") == 0 || strcmp(name, "fwd") == 0;
	}
	if (exprs != NULL)
		nftnl_expr_iter_destroy(exprs);
	return sends;
}

static int read_rule(const struct nlmsghdr *h, void *ctx)
{
	struct leak *l = ctx;
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (rule == NULL) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	if (l->handle == 0 && nftnl_rule_nlmsg_parse(h, rule) == 0 && rule_sends(rule)) {
		snprintf(l->table, sizeof(l->table), "%s",
			 nftnl_rule_get_str(rule, NFTNL_RULE_TABLE));
		snprintf(l->chain, sizeof(l->chain), "%s",
			 nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
		l->handle = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE);
	}
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

int leaks_find(struct kernel *k, struct diag *d)
{
	struct leak l = {.handle = 0};
	char buf[KERNEL_MESSAGE_MAX] = {0};
	int r = -ERESTART;

	for (int try = 0; r == -ERESTART && try < LEAKS_TRIES; try++)
		r = kernel_ask(k,
			       kernel_question(k, buf, NFT_MSG_GETRULE, NFPROTO_NETDEV, NLM_F_DUMP),
			       read_rule, &l);
	if (r < 0) {
		r = r == -ERESTART ? -EBUSY : r;
		return diag_set(d, -r, NULL, 0, "cannot list the rules of this host: %s",
				strerror(-r));
	}
	if (l.handle == 0)
		return 0;
	return diag_set(d, EPROTO, NULL, 0,
			"the probe could leave this host, by dup or fwd in rule handle %" PRIu64
			" of chain %s, table netdev %s",
			l.handle, l.chain, l.table);
}
