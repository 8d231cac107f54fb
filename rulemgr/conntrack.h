/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Counts the flows that our redirect carries, from the kernel's connection tracking.
 */
#include "rulemgr/have.h"

/* TCP flows of both families that were redirected to one of the ports of `have` and have not ended:
 * entries in TIME_WAIT or CLOSE do not count. Writes *n. 0, or a negative errno with `d` filled
 * (the kernel may lack conntrack over netlink: CONFIG_NF_CT_NETLINK). */
int conntrack_count_redirected(const struct have *have, size_t *n, struct diag *d);
