/* SPDX-License-Identifier: MIT */
#include "daemon/egress/guard.h"

static int guard_refuses(const struct dial_filter *f, const struct addr *to)
{
	const struct guard *g = container_of(f, struct guard, filter);

	return (int)acl_address(g->acl, to, own_addrs_get(g->own));
}

void guard_init(struct guard *g, const struct acl *acl, struct own_addrs *own)
{
	*g = (struct guard){.filter = {.refuses = guard_refuses}, .acl = acl, .own = own};
}
