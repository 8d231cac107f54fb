/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The flows that our redirect carries, from the kernel's connection tracking. One thread, blocking.
 */
#include "rulemgr/flows.h"

/* TCP flows that were redirected to one of the ports of `have` on this host and have not ended:
 * entries in TIME_WAIT or CLOSE do not count. Adds them to *f. 0, or a negative errno with `d` filled
 * (the kernel may lack conntrack over netlink: CONFIG_NF_CT_NETLINK). */
int conntrack_read_redirected(const struct have *have, struct flows *f, struct diag *d);

/* Removes the entries of all flows that were redirected so, ended or not, and no others; to be called when no rule
 * of ours is left, or a live flow would make another entry. *n is how many, also after an error. */
int conntrack_remove_redirected(const struct have *have, size_t *n, struct diag *d);

/* Removes the entry of the flow that began like this, if there is one. 0 or a negative errno. */
int conntrack_remove_flow(const struct flow *f);
