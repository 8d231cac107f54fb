/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who is at the other end of a connection within this host, from the kernel's socket list.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "policy/addr.h"
#include "policy/diag.h"

struct peer {
	bool accepted; /* a program has taken it out of its listener's queue; else `uid` is not known */
	uid_t uid;
};

/* The socket whose own address is `local` and whose peer is `remote`. 0; -ENOENT: there is none; another
 * negative errno. */
int peer_find(const struct addr *local, const struct addr *remote, struct peer *out);
