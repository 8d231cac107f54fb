/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where a redirected connection was going before netfilter changed its destination.
 */
#include "policy/addr.h"

/* `fd` was accepted on a listener at `listener`. 0 with *dest; -ENOENT: it was not redirected, the client
 * connected to us itself; another -errno if the kernel does not tell. Sources: SO_ORIGINAL_DST
 * (nf_conntrack_proto.c), IP6T_SO_ORIGINAL_DST. */
int origdst_get(int fd, const struct addr *listener, struct addr *dest);
