/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who else looks at bits of the packet mark: the rules of other nf_tables tables and the policy rules of
 * routing, without our own. Reads only. Rules of iptables-legacy are not looked at.
 */
#include "policy/mark.h"
#include "rulemgr/kernel.h"

struct mark_user {
	char where[128]; /* "a rule in table ip mangle, chain OUTPUT", "`ip rule` 100" */
	uint32_t bits;   /* of those asked for */
};

#define MARK_USERS_MAX 16

struct mark_users { /* one for each chain and each policy rule, as far as there is room */
	struct mark_user users[MARK_USERS_MAX];
	size_t n;
};

/* Who tests any of `bits`. 0, or a negative errno with `d` filled. */
int mark_users_read(struct kernel *k, uint32_t bits, struct mark_users *all, struct diag *d);
