/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The addresses of this host's interfaces. They are read (getifaddrs(3)) at the start, and again at the first
 * question after the kernel has said by rtnetlink(7) that one came or went; where it cannot say so, at a
 * question when they are a second old. What a route of type "local" takes without an interface having it is not
 * among them. Same thread as its loop.
 */
#include "daemon/core/loop.h"
#include "policy/prefix_set.h"

struct own_addrs {
	struct prefix_set *set;
	struct loop *loop;
	struct source *news; /* NULL: the kernel does not tell */
	uint64_t read_ms;    /* when it was last tried to read them */
	bool stale, failed;
};

/* 0 or -errno with `d`. */
int own_addrs_init(struct own_addrs *o, struct loop *loop, struct diag *d);
/* Fine for one that is zero. */
void own_addrs_destroy(struct own_addrs *o);

/* Those of now; where they cannot be read, those that were known last. Valid until the next question. */
const struct prefix_set *own_addrs_get(struct own_addrs *o);
