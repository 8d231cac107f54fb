/* SPDX-License-Identifier: MIT */
#include "daemon/egress/guard.h"

static int guard_refuses(const struct dial_filter *f, const struct addr *to)
{
	const struct guard *g = container_of(f, struct guard, filter);
	enum acl_verdict v = acl_address(g->acl, to, own_addrs_get(g->own));

	/* No interface has them. */
	if (v == ACL_ALLOWED && g->egress != NULL && egress_has(g->egress, to) &&
	    !prefix_set_contains(g->acl->anyway, to))
		v = ACL_OWN_ADDRESS;
	return (int)v;
}

void guard_init(struct guard *g, const struct acl *acl, struct own_addrs *own,
		const struct egress *egress)
{
	*g = (struct guard){
		.filter = {.refuses = guard_refuses}, .acl = acl, .own = own, .egress = egress};
}
