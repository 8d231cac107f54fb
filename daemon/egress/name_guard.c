/* SPDX-License-Identifier: MIT */
#include "daemon/egress/name_guard.h"

#include <string.h>

enum { LEADS_TO_SPECIAL = 1, LEADS_TO_OWN, LEADS_TO_REFUSED };

static bool guard_is_special(const struct prefix_list *anyway, const struct addr *to)
{
	struct prefix one = {.family = to->family, .len = (uint8_t)(addr_len(to) * 8)};

	for (size_t i = 0; i < anyway->n; i++) {
		if (prefix_contains(&anyway->prefixes[i], to))
			return false;
	}
	memcpy(one.ip, to->ip, sizeof(one.ip));
	return prefix_meets_special(&one);
}

static bool guard_rule_refuses(const struct name_guard *g, const struct addr *to)
{
	struct addr dest = *to;
	struct flow_facts facts = g->facts;
	struct rule_verdict v;

	dest.port = facts.port;
	facts.dest = &dest;
	rules_match(&g->conf->rules, &facts, &v);
	return v.action == RULE_REFUSE;
}

static int guard_refuses(const struct dial_filter *f, const struct addr *to)
{
	const struct name_guard *g = container_of(f, struct name_guard, filter);

	if (guard_is_special(&g->conf->redirect.redirect_anyway, to))
		return LEADS_TO_SPECIAL;
	if (prefix_set_contains(own_addrs_get(g->own), to))
		return LEADS_TO_OWN;
	return guard_rule_refuses(g, to) ? LEADS_TO_REFUSED : 0;
}

void name_guard_init(struct name_guard *g, const struct conf *conf, struct own_addrs *own,
		     const struct flow_facts *facts)
{
	*g = (struct name_guard){
		.filter = {.refuses = guard_refuses},
		.conf = conf,
		.own = own,
		.facts = *facts,
	};
}

const char *name_guard_text(int said)
{
	switch (said) {
	case LEADS_TO_SPECIAL:
		return "the name leads to a special-purpose address, which is not in "
		       "redirect.redirect_anyway";
	case LEADS_TO_OWN:
		return "the name leads to an address of this host";
	default:
		return "a rule refuses the address that the name leads to";
	}
}
