/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The process that `install --confirm` leaves behind, to tidy up after a trial that nobody has confirmed. The
 * way back does not depend on it (trial.h).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"

/* Ends a trial whose time is over. 0, also if there is none any more; -EAGAIN: it is not over; -EBUSY with *flows:
 * flows would be cut, unless `cut`. `control` as in struct kernel. */
typedef int watcher_end_fn(const char *control, bool cut, size_t *flows, struct diag *d);
watcher_end_fn watcher_end_table, watcher_end_iptables;

/* Starts it, in a session of its own and without the descriptors of this process, for a trial that ends in `ms`.
 * 0, or a negative errno with `d` filled. */
int watcher_start(int64_t ms, watcher_end_fn *end, const char *control, struct diag *d);
