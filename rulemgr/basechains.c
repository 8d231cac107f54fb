/* SPDX-License-Identifier: MIT */
#include "rulemgr/basechains.h"

#include <errno.h>
#include <libnftnl/chain.h>
#include <string.h>

#include "rulemgr/model.h"

/* A list that changes while it is read is read again. */
#define READ_TRIES 10

void base_chains_free(struct base_chains *all)
{
	free(all->chains);
	*all = (struct base_chains){0};
}

struct base_chain *base_chains_add(struct base_chains *all)
{
	/* Few: hosts have some ten. */
	struct base_chain *larger = reallocarray(all->chains, all->n + 1, sizeof(*larger));

	if (larger == NULL)
		return NULL;
	all->chains = larger;
	larger[all->n] = (struct base_chain){0};
	return &larger[all->n++];
}

static bool is_wanted(const struct nftnl_chain *n)
{
	uint32_t family = nftnl_chain_get_u32(n, NFTNL_CHAIN_FAMILY);

	return nftnl_chain_is_set(n, NFTNL_CHAIN_HOOKNUM) &&
	       nftnl_chain_is_set(n, NFTNL_CHAIN_TABLE) &&
	       nftnl_chain_is_set(n, NFTNL_CHAIN_NAME) &&
	       nftnl_chain_get_u32(n, NFTNL_CHAIN_HOOKNUM) <= NF_INET_POST_ROUTING &&
	       (family == NFPROTO_IPV4 || family == NFPROTO_IPV6 || family == NFPROTO_INET);
}

static int base_chain_fill(struct base_chains *all, const struct nftnl_chain *n)
{
	const char *type = nftnl_chain_get_str(n, NFTNL_CHAIN_TYPE);
	struct base_chain *c = base_chains_add(all);

	if (c == NULL)
		return -ENOMEM;
	c->family = (uint8_t)nftnl_chain_get_u32(n, NFTNL_CHAIN_FAMILY);
	c->hook = (uint8_t)nftnl_chain_get_u32(n, NFTNL_CHAIN_HOOKNUM);
	c->priority = nftnl_chain_get_s32(n, NFTNL_CHAIN_PRIO);
	c->nat = type != NULL && strcmp(type, "nat") == 0;
	c->drops = nftnl_chain_is_set(n, NFTNL_CHAIN_POLICY) &&
		   nftnl_chain_get_u32(n, NFTNL_CHAIN_POLICY) == NF_DROP;
	/* Nobody can jump to a base chain, so all that uses it is its rules. */
	c->n_rules = nftnl_chain_get_u32(n, NFTNL_CHAIN_USE);
	snprintf(c->table, sizeof(c->table), "%s", nftnl_chain_get_str(n, NFTNL_CHAIN_TABLE));
	snprintf(c->name, sizeof(c->name), "%s", nftnl_chain_get_str(n, NFTNL_CHAIN_NAME));
	c->ours = c->family == NFPROTO_INET && strcmp(c->table, MODEL_TABLE) == 0;
	return 0;
}

static int read_chain(const struct nlmsghdr *h, void *ctx)
{
	struct nftnl_chain *n = nftnl_chain_alloc();
	int r = 0;

	if (n == NULL)
		r = -ENOMEM;
	else if (nftnl_chain_nlmsg_parse(h, n) < 0)
		r = -EBADMSG;
	else if (is_wanted(n))
		r = base_chain_fill(ctx, n);
	nftnl_chain_free(n);
	if (r == 0)
		return MNL_CB_OK;
	errno = -r;
	return MNL_CB_ERROR;
}

static int compare(const void *a, const void *b)
{
	const struct base_chain *x = a, *y = b;

	if (x->hook != y->hook)
		return (int)x->hook - (int)y->hook;
	return (x->priority > y->priority) - (x->priority < y->priority);
}

static int read_all(struct kernel *k, struct base_chains *all)
{
	char buf[KERNEL_MESSAGE_MAX] = {0};
	int r = k != NULL ? -ERESTART : 0;

	for (int i = 0; r == -ERESTART && i < READ_TRIES; i++) {
		base_chains_free(all);
		r = kernel_ask(
			k, kernel_question(k, buf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP),
			read_chain, all);
	}
	if (r == 0)
		r = legacy_chains_add(all, NFPROTO_IPV4);
	if (r == 0)
		r = legacy_chains_add(all, NFPROTO_IPV6);
	return r;
}

int base_chains_read(struct kernel *k, struct base_chains *all, struct diag *d)
{
	struct base_chains found = {0};
	int r = read_all(k, &found);

	if (r < 0) {
		base_chains_free(&found);
		return diag_set(d, -r, NULL, 0, "cannot list the chains of this host: %s",
				strerror(-r));
	}
	if (found.n > 0)
		qsort(found.chains, found.n, sizeof(*found.chains), compare);
	*all = found;
	return 0;
}

bool base_chain_sees(const struct base_chain *c, uint8_t family)
{
	return c->family == family || c->family == NFPROTO_INET;
}

const char *base_chain_format(const struct base_chain *c, char *out, size_t cap)
{
	snprintf(out, cap, "%s%s %.40s %.40s (priority %d)", c->legacy ? "iptables-legacy " : "",
		 c->family == NFPROTO_INET   ? "inet"
		 : c->family == NFPROTO_IPV4 ? "ip"
					     : "ip6",
		 c->table, c->name, c->priority);
	return out;
}

const char *base_chain_hook_name(uint8_t hook)
{
	static const char *const names[] = {"prerouting", "input", "forward", "output",
					    "postrouting"};

	BUG_ON(hook >= ARRAY_LEN(names));
	return names[hook];
}
