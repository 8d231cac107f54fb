/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Looks after usocksd's own addresses when there are no flows: whether each of them can be bound, and whether the
 * interface is there, at the beginning, every five seconds, and every second while something is missing; and what
 * the blocklist says of them (dnsbl.h). On the main thread's loop.
 */
#include "daemon/core/loop.h"
#include "daemon/egress/egress.h"

struct egress_watch;

/* Looks at once. A reference to `e` is taken. *out is NULL where there is nothing to look after. 0 or -errno with `d`. */
int egress_watch_new(struct loop *loop, struct egress *e, struct egress_watch **out,
		     struct diag *d);
/* NULL is fine. */
void egress_watch_free(struct egress_watch *w);
