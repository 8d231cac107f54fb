/* SPDX-License-Identifier: MIT */
#include "rulemgr/marks.h"

#include <errno.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/fib_rules.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "rulemgr/dump.h"
#include "rulemgr/model.h"
#include "rulemgr/route_item.h"

/* A list that changes while it is read is read again. */
#define READ_TRIES 10
/* nf_tables numbers registers of 16 bytes 1..4 and of 4 bytes 8..23. */
#define REGISTERS 24

struct search {
	uint32_t bits;
	struct mark_users *found;
};

static void add_user(struct search *s, const char *where, uint32_t bits)
{
	struct mark_users *all = s->found;

	for (size_t i = 0; i < all->n; i++) {
		if (strcmp(all->users[i].where, where) == 0) {
			all->users[i].bits |= bits;
			return;
		}
	}
	if (all->n == MARK_USERS_MAX)
		return;
	snprintf(all->users[all->n].where, sizeof(all->users[all->n].where), "%s", where);
	all->users[all->n++].bits = bits;
}

/* The first 32 bits of a value, 0 if it has none. */
static uint32_t expr_word(const struct nftnl_expr *e, uint16_t attribute)
{
	uint32_t len = 0, word = 0;
	const void *data = nftnl_expr_get(e, attribute, &len);

	if (data != NULL && len >= sizeof(word))
		memcpy(&word, data, sizeof(word));
	return word;
}

/* Which bits of the mark each register holds. */
struct registers {
	uint32_t mark[REGISTERS];
};

static uint32_t *reg(struct registers *r, const struct nftnl_expr *e, uint16_t attribute)
{
	uint32_t number = nftnl_expr_get_u32(e, attribute);

	return &r->mark[number < REGISTERS ? number : 0];
}

/* The bits of the mark that this expression tests. */
static uint32_t expr_tests(struct registers *r, const struct nftnl_expr *e)
{
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);

	if (strcmp(name, "meta") == 0 && nftnl_expr_is_set(e, NFTNL_EXPR_META_DREG)) {
		bool mark = nftnl_expr_get_u32(e, NFTNL_EXPR_META_KEY) == NFT_META_MARK;

		*reg(r, e, NFTNL_EXPR_META_DREG) = mark ? UINT32_MAX : 0;
	} else if (strcmp(name, "payload") == 0 && nftnl_expr_is_set(e, NFTNL_EXPR_PAYLOAD_DREG)) {
		*reg(r, e, NFTNL_EXPR_PAYLOAD_DREG) = 0;
	} else if (strcmp(name, "ct") == 0 && nftnl_expr_is_set(e, NFTNL_EXPR_CT_DREG)) {
		*reg(r, e, NFTNL_EXPR_CT_DREG) = 0;
	} else if (strcmp(name, "bitwise") == 0) {
		uint32_t from = *reg(r, e, NFTNL_EXPR_BITWISE_SREG);

		*reg(r, e, NFTNL_EXPR_BITWISE_DREG) = from & expr_word(e, NFTNL_EXPR_BITWISE_MASK);
	} else if (strcmp(name, "cmp") == 0) {
		return *reg(r, e, NFTNL_EXPR_CMP_SREG);
	} else if (strcmp(name, "range") == 0) {
		return *reg(r, e, NFTNL_EXPR_RANGE_SREG);
	} else if (strcmp(name, "lookup") == 0) {
		return *reg(r, e, NFTNL_EXPR_LOOKUP_SREG);
	} else if (strcmp(name, "match") == 0) { /* of iptables-nft */
		const char *match = nftnl_expr_get_str(e, NFTNL_EXPR_MT_NAME);
		uint32_t len = 0;
		const struct xt_mark_mtinfo1 *info = nftnl_expr_get(e, NFTNL_EXPR_MT_INFO, &len);

		if (match != NULL && strcmp(match, "mark") == 0 && info != NULL &&
		    len >= sizeof(*info))
			return info->mask;
	}
	return 0;
}

static uint32_t rule_tests(const struct nftnl_rule *rule)
{
	struct nftnl_expr_iter *exprs = nftnl_expr_iter_create(rule);
	struct registers registers = {0};
	struct nftnl_expr *e;
	uint32_t bits = 0;

	while (exprs != NULL && (e = nftnl_expr_iter_next(exprs)) != NULL)
		bits |= expr_tests(&registers, e);
	if (exprs != NULL)
		nftnl_expr_iter_destroy(exprs);
	return bits;
}

static const char *family_name(uint32_t family)
{
	switch (family) {
	case NFPROTO_INET:
		return "inet";
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	default:
		return NULL; /* sees none of our packets, or not as we do */
	}
}

static void look_at_rule(struct search *s, const struct nftnl_rule *rule)
{
	const char *family = family_name(nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY));
	const char *table = nftnl_rule_get_str(rule, NFTNL_RULE_TABLE);
	const char *chain = nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN);
	uint32_t bits;
	char where[128];

	if (family == NULL || table == NULL || chain == NULL ||
	    (strcmp(family, "inet") == 0 && strcmp(table, MODEL_TABLE) == 0))
		return;
	bits = rule_tests(rule) & s->bits;
	snprintf(where, sizeof(where), "a rule in table %s %.40s, chain %.40s,", family, table,
		 chain);
	if (bits != 0)
		add_user(s, where, bits);
}

static int read_rule(const struct nlmsghdr *h, void *ctx)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (rule == NULL) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	/* A rule that the library cannot read is none that we could judge. */
	if (nftnl_rule_nlmsg_parse(h, rule) >= 0)
		look_at_rule(ctx, rule);
	nftnl_rule_free(rule);
	return MNL_CB_OK;
}

static int read_policy_rule(const struct nlmsghdr *h, void *ctx)
{
	struct search *s = ctx;
	struct route_item rule;
	char where[64];

	if (!route_item_read(&rule, h) || !rule.is_rule || route_item_is_ours(&rule) ||
	    (rule.mark.mask & s->bits) == 0)
		return MNL_CB_OK;
	snprintf(where, sizeof(where), "`ip %srule` %u", rule.family == AF_INET6 ? "-6 " : "",
		 rule.priority);
	add_user(s, where, rule.mark.mask & s->bits);
	return MNL_CB_OK;
}

static int read_policy_rules(uint8_t family, struct search *s)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct fib_rule_hdr)] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(h, sizeof(*rule));
	int r;

	h->nlmsg_type = RTM_GETRULE;
	rule->family = family;
	r = dump_read(NETLINK_ROUTE, h, read_policy_rule, s);
	return r == -EAFNOSUPPORT || r == -EOPNOTSUPP ? 0 : r; /* a kernel without it */
}

static int read_rules(struct kernel *k, struct search *s)
{
	char buf[KERNEL_MESSAGE_MAX] = {0};
	int r = -ERESTART;

	for (int i = 0; r == -ERESTART && i < READ_TRIES; i++) {
		s->found->n = 0;
		r = kernel_ask(k,
			       kernel_question(k, buf, NFT_MSG_GETRULE, NFPROTO_UNSPEC, NLM_F_DUMP),
			       read_rule, s);
	}
	return r;
}

int mark_users_read(struct kernel *k, uint32_t bits, struct mark_users *all, struct diag *d)
{
	struct mark_users found = {.n = 0};
	struct search s = {.bits = bits, .found = &found};
	int r = read_rules(k, &s);

	if (r == 0)
		r = read_policy_rules(AF_INET, &s);
	if (r == 0)
		r = read_policy_rules(AF_INET6, &s);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot list the rules of this host: %s",
				strerror(-r));
	*all = found;
	return 0;
}
