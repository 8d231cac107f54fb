/* SPDX-License-Identifier: MIT */
#include "rulemgr/leaks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/trace.h"

/* Offset in the TCP header. */
#define TCP_SEQUENCE   4
#define LEAKS_TRIES    10
#define LEAKS_NAME_MAX 256

/* The first rule found. */
struct leak {
	bool forwarded; /* the probe comes in by an interface */
	bool sends;     /* else it writes the number */
	uint32_t family;
	char table[LEAKS_NAME_MAX], chain[LEAKS_NAME_MAX];
	uint64_t handle; /* 0: none */
};

static bool expr_sends(const struct nftnl_expr *e)
{
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);

	return strcmp(name, "dup") == 0 || strcmp(name, "fwd") == 0;
}

/* Where rules have written other ports into the probe, its sequence number alone is left to know it by. */
static bool expr_writes_number(const struct nftnl_expr *e)
{
	uint32_t number = TCP_SEQUENCE, first, end;

	if (strcmp(nftnl_expr_get_str(e, NFTNL_EXPR_NAME), "payload") != 0 ||
	    !nftnl_expr_is_set(e, NFTNL_EXPR_PAYLOAD_SREG) ||
	    nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_BASE) != NFT_PAYLOAD_TRANSPORT_HEADER)
		return false;
	first = nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET);
	end = first + nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_LEN);
	return first < number + sizeof(uint32_t) && end > number;
}

static bool rule_leaks(struct leak *l, const struct nftnl_rule *rule)
{
	bool ahead = l->forwarded && nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY) == NFPROTO_NETDEV;
	bool leaks = false;
	struct nftnl_expr_iter *exprs = nftnl_expr_iter_create(rule);
	struct nftnl_expr *e;

	while (exprs != NULL && !leaks && (e = nftnl_expr_iter_next(exprs)) != NULL) {
		l->sends = ahead && expr_sends(e);
		leaks = l->sends || expr_writes_number(e);
	}
	if (exprs != NULL)
		nftnl_expr_iter_destroy(exprs);
	return leaks;
}

static int read_rule(const struct nlmsghdr *h, void *ctx)
{
	struct leak *l = ctx;
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (rule == NULL) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	if (l->handle == 0 && nftnl_rule_nlmsg_parse(h, rule) == 0 && rule_leaks(l, rule)) {
		l->family = nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY);
		snprintf(l->table, sizeof(l->table), "%s",
			 nftnl_rule_get_str(rule, NFTNL_RULE_TABLE));
		snprintf(l->chain, sizeof(l->chain), "%s",
			 nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
		l->handle = nftnl_rule_get_u64(rule, NFTNL_RULE_HANDLE);
	}
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

int leaks_find(struct kernel *k, bool forwarded, struct diag *d)
{
	struct leak l = {.forwarded = forwarded};
	char buf[KERNEL_MESSAGE_MAX] = {0};
	int r = -ERESTART;

	for (int try = 0; r == -ERESTART && try < LEAKS_TRIES; try++)
		r = kernel_ask(k,
			       kernel_question(k, buf, NFT_MSG_GETRULE, NFPROTO_UNSPEC, NLM_F_DUMP),
			       read_rule, &l);
	if (r < 0) {
		r = r == -ERESTART ? -EBUSY : r;
		return diag_set(d, -r, NULL, 0, "cannot list the rules of this host: %s",
				strerror(-r));
	}
	if (l.handle == 0)
		return 0;
	return diag_set(d, EPROTO, NULL, 0,
			"the probe could leave this host, by %s in rule handle %" PRIu64
			" of chain %s, table %s %s",
			l.sends ? "dup or fwd" : "what is written into its sequence number",
			l.handle, l.chain, step_family_name((uint8_t)l.family), l.table);
}
