/* SPDX-License-Identifier: MIT */
#include "rulemgr/model.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <string.h>

size_t set_key_len(enum set_type type)
{
	return type == SET_IPV4 ? 4 : 16;
}

bool set_is_interval(enum set_type type)
{
	return type != SET_IFNAME;
}

bool key_increment(uint8_t *key, size_t len)
{
	while (len-- > 0) {
		if (++key[len] != 0)
			return true;
	}
	return false;
}

const char *element_format(const struct set *s, const struct element *e, char *out, size_t cap)
{
	int family = s->type == SET_IPV4 ? AF_INET : AF_INET6;
	char first[INET6_ADDRSTRLEN], last[INET6_ADDRSTRLEN];

	if (s->type == SET_IFNAME) {
		snprintf(out, cap, "%.*s", IFNAMSIZ, (const char *)e->first);
		return out;
	}
	inet_ntop(family, e->first, first, sizeof(first));
	inet_ntop(family, e->last, last, sizeof(last));
	snprintf(out, cap, "%s-%s", first, last);
	return out;
}

const char *chain_type_name(enum chain_type type)
{
	return type == CHAIN_NAT ? "nat" : "filter";
}

const char *chain_format_hook(const struct chain *c, char *out, size_t cap)
{
	static const char *const hooks[] = {
		[NF_INET_PRE_ROUTING] = "prerouting",
		[NF_INET_LOCAL_IN] = "input",
		[NF_INET_LOCAL_OUT] = "output",
	};

	snprintf(out, cap, "%s hook %s priority %d", chain_type_name(c->type), hooks[c->hook],
		 c->priority);
	return out;
}

const char *rule_verdict_name(const struct rule *r)
{
	switch (r->exprs[r->n_exprs - 1].kind) {
	case EXPR_REDIRECT:
		return "redirected";
	case EXPR_RESET:
		return "reset";
	default:
		return "left alone";
	}
}

void model_free(struct model *m)
{
	for (size_t i = 0; i < m->n_sets; i++)
		free(m->sets[i].elements);
	*m = (struct model){0};
}
