/* SPDX-License-Identifier: MIT */
#include "rulemgr/have.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/udata.h"

/* libnftnl does not always say why. */
static int unreadable(int err)
{
	errno = err;
	return MNL_CB_ERROR;
}

static void have_add_port(struct have *have, uint16_t port)
{
	for (size_t i = 0; i < have->n_ports; i++) {
		if (have->ports[i] == port)
			return;
	}
	if (have->n_ports < MODEL_PORTS_MAX)
		have->ports[have->n_ports++] = port;
}

/* The ports that the comment lists. */
static void have_add_earlier_ports(struct have *have)
{
	const char *at = strstr(have->comment, MODEL_COMMENT_EARLIER);
	unsigned port;
	int used;

	if (at == NULL)
		return;
	at += strlen(MODEL_COMMENT_EARLIER);
	while (sscanf(at, "%5u%n", &port, &used) == 1 && port <= UINT16_MAX) {
		have_add_port(have, (uint16_t)port);
		at += used;
	}
}

static int read_table(const struct nlmsghdr *h, void *ctx)
{
	struct have *have = ctx;
	struct nftnl_table *t = nftnl_table_alloc();
	const char *comment = NULL;
	uint32_t len = 0;
	const void *data;

	if (t == NULL)
		return unreadable(ENOMEM);
	if (nftnl_table_nlmsg_parse(h, t) < 0) {
		nftnl_table_free(t);
		return unreadable(EBADMSG);
	}
	have->present = true;
	data = nftnl_table_get_data(t, NFTNL_TABLE_USERDATA, &len);
	if (data != NULL)
		comment = udata_find_string(data, len, NFTNL_UDATA_TABLE_COMMENT);
	if (comment != NULL)
		snprintf(have->comment, sizeof(have->comment), "%s", comment);
	have->ours =
		strncmp(have->comment, MODEL_COMMENT_PREFIX, strlen(MODEL_COMMENT_PREFIX)) == 0;
	if (have->ours)
		have_add_earlier_ports(have);
	nftnl_table_free(t);
	return MNL_CB_OK;
}

/* A redirect takes its port from a register that the expression before it has loaded. */
static void read_redirect(struct have *have, struct nftnl_expr_iter *exprs)
{
	uint32_t loaded = 0, len;
	uint16_t wire = 0;
	struct nftnl_expr *e;

	while ((e = nftnl_expr_iter_next(exprs)) != NULL) {
		const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);

		if (strcmp(name, "immediate") == 0) {
			const void *data = nftnl_expr_get(e, NFTNL_EXPR_IMM_DATA, &len);

			if (data != NULL && len >= sizeof(wire)) {
				memcpy(&wire, data, sizeof(wire));
				loaded = nftnl_expr_get_u32(e, NFTNL_EXPR_IMM_DREG);
			}
		} else if (strcmp(name, "redir") == 0 && loaded != 0 &&
			   nftnl_expr_get_u32(e, NFTNL_EXPR_REDIR_REG_PROTO_MIN) == loaded) {
			have_add_port(have, ntohs(wire));
		}
	}
}

static int read_rule(const struct nlmsghdr *h, void *ctx)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();
	struct nftnl_expr_iter *exprs = NULL;
	const char *table;

	if (rule == NULL)
		return unreadable(ENOMEM);
	if (nftnl_rule_nlmsg_parse(h, rule) < 0) {
		nftnl_rule_free(rule);
		return unreadable(EBADMSG);
	}
	table = nftnl_rule_get_str(rule, NFTNL_RULE_TABLE);
	/* Old kernels list the rules of all tables, whatever was asked for. */
	if (table != NULL && strcmp(table, MODEL_TABLE) == 0)
		exprs = nftnl_expr_iter_create(rule);
	if (exprs != NULL) {
		read_redirect(ctx, exprs);
		nftnl_expr_iter_destroy(exprs);
	}
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

/* Asks about our table by name. */
static int have_ask(struct kernel *k, uint16_t type, uint16_t name_attribute, uint16_t flags,
		    mnl_cb_t fn, struct have *have)
{
	char buf[KERNEL_MESSAGE_MAX] = {0}; /* no stray bytes in the padding */
	struct nlmsghdr *h = kernel_question(k, buf, type, NFPROTO_INET, flags);

	mnl_attr_put_strz(h, name_attribute, MODEL_TABLE);
	return kernel_ask(k, h, fn, have);
}

int have_read(struct kernel *k, struct have *have, struct diag *d)
{
	struct have found = {0};
	int r = kernel_generation(k, &found.generation);

	if (r == 0)
		r = have_ask(k, NFT_MSG_GETTABLE, NFTA_TABLE_NAME, 0, read_table, &found);
	if (r == -ENOENT)
		r = 0;
	if (r == 0 && found.ours)
		r = have_ask(k, NFT_MSG_GETRULE, NFTA_RULE_TABLE, NLM_F_DUMP, read_rule, &found);
	if (r == 0)
		*have = found;
	else if (r != -ERESTART)
		diag_set(d, -r, NULL, 0, "cannot read table %s: %s", MODEL_TABLE_TEXT,
			 strerror(-r));
	return r;
}
