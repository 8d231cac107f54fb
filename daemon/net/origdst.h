/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where a connection was going that netfilter brought to us: by REDIRECT, which changed its
 * destination, or by TPROXY, which did not.
 */
#include "policy/addr.h"

/* `fd` was accepted on a listener at `listener`. 0 with *dest; -ENOENT: it was not redirected, the client
 * connected to us itself; another -errno if the kernel does not tell. Sources: SO_ORIGINAL_DST
 * (nf_conntrack_proto.c), IP6T_SO_ORIGINAL_DST. */
int origdst_get(int fd, const struct addr *listener, struct addr *dest);

/* The same on a transparent listener, where the socket's own name is the answer; conntrack is
 * not asked. -ENOENT also for what REDIRECT brought. Source:
 * Documentation/networking/tproxy.rst. */
int origdst_get_transparent(int fd, const struct addr *listener, struct addr *dest);
