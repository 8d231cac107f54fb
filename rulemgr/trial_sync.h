/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A trial (trial.h) in the kernel: how it begins and ends. Each step is one batch. One thread, blocking.
 */
#include "rulemgr/sync.h"
#include "rulemgr/trial.h"
#include "rulemgr/want.h"

struct trial_result {
	struct have have; /* before */
	bool previous;    /* there is a table to go back to */
};

/* Installs the table for `w` on trial for `ms`. A trial that is on already ends with it: its previous table is
 * the one to go back to. -EEXIST: what is there could not be put back; errors of sync_change(). */
int trial_install(struct kernel *k, const struct want *w, int64_t ms, bool dry_run,
		  struct trial_result *result, struct diag *d);

/* Makes the new table one for good. -ENOENT: nothing is on trial; -ETIME: its time is over. Nothing is changed
 * then. */
int trial_confirm(struct kernel *k, bool dry_run, struct diag *d);

/* Puts back the previous table after the time; without one, removes the table. 0, also if no trial is there any
 * more; -EAGAIN: one is, and its time is not over; -EBUSY: another transocks-rules is at work, or with *flows it has
 * flows that would be cut, unless `cut`. */
int trial_end(struct kernel *k, bool cut, size_t *flows, struct diag *d);
