/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A trial of rules of iptables (iptables_trial.h) in the kernel: how it begins and ends. One thread, blocking.
 */
#include "rulemgr/iptables_sync.h"

/* Installs on trial for `ms`, which are rounded up to a second. A trial that is on already ends with it: the rules
 * to go back to stay the same. *previous: there are such. Errors of iptables_install(); -EEXIST: what is there
 * could not be put back. */
int iptables_trial_install(const struct iptables_request *q, int64_t ms,
			   struct iptables_result *result, bool *previous, struct diag *d);

/* Makes the new rules those for good. -ENOENT: nothing is on trial; -ETIME: its time is over. Nothing is changed
 * then. */
int iptables_trial_confirm(bool dry_run, struct diag *d);

/* Puts back the previous rules after the time; without such, removes all. 0, also if no trial is there any more;
 * -EAGAIN: one is, and its time is not over; -EBUSY with *flows: that cuts so many, unless `cut`. */
int iptables_trial_end(bool cut, size_t *flows, struct diag *d);

/* How long it goes on, in milliseconds; 0: there is none, or its time is over. */
int64_t iptables_trial_left(const struct iptables_trial *trial);
