/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Drain mode: new flows go direct at once, live ones go on. One more rule in each chain that takes flows lets
 * everything return; the rules behind it must stay, because an empty chain holds no connection
 * tracking, and without that the kernel stops translating the live flows.
 */
#include "rulemgr/sync.h"

#define DRAIN_COMMENT "draining: new flows go direct"

/* Whether every chain that takes flows is drained; false where there is none. Pure. */
bool drain_is_on(const struct model *m);
/* Whether some chain takes new flows: the drain has not begun, or somebody has installed again. Pure. */
bool drain_is_over(const struct model *m);

/* Adds the rules that are missing. The number of them, or -ENOMEM. Pure. */
int drain_add(struct model *m);

/* Turns it on in the kernel; twice is fine. Without a table there is nothing to do, and have->present
 * says so. Errors of sync_change(). */
int drain_start(struct kernel *k, struct have *have, struct diag *d);

/* Removes the table, if it is still drained. *removed: false where it has gone already. -ECANCELED: somebody has
 * installed it again, and it stays; errors of sync_change(). */
int drain_finish(struct kernel *k, bool *removed, struct diag *d);
