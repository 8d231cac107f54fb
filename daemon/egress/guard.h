/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Stands between usocksd's resolver and its dial: no address is connected to that the access control refuses, also
 * not where a name leads to it. One for each view of the configuration; same thread as its loop.
 */
#include "daemon/egress/egress.h"
#include "daemon/net/dial.h"
#include "daemon/net/own_addrs.h"
#include "policy/acl.h"

struct guard {
	struct dial_filter filter; /* for the dial; what it says is an enum acl_verdict */
	const struct acl *acl;
	struct own_addrs *own;
	const struct egress *egress; /* NULL: transocksd */
};

/* All must live as long as it is used. */
void guard_init(struct guard *g, const struct acl *acl, struct own_addrs *own,
		const struct egress *egress);
