/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Rules of iptables on trial: until a moment the new ones decide, then the previous ones again, unless somebody
 * confirms. Pure.
 *
 * Both are there at once. The previous rules stay in the chains that they have; the new ones are in chains of the
 * same names behind IPTABLES_TRIAL. The first rule of each chain that packets come in by goes on to the new ones,
 * from one second to another (match time, of the kernel). So the way back needs no process: when the time is over,
 * or the clock is wrong, that rule matches no more.
 *
 * Where there were no rules before, the previous ones are the new ones, paused: flows that the trial has taken
 * live on, and new ones go direct.
 */
#include <time.h>

#include "rulemgr/iptables_text.h"

struct iptables_trial {
	bool on;            /* its rules are there, perhaps over */
	bool previous;      /* there are rules to go back to */
	int64_t start, end; /* the first and the last second, since 1970 */
};

/* What one family has. */
void iptables_trial_find(const struct iptables_text *t, struct iptables_trial *out);
/* Whether the new rules decide in the second `now`. */
bool iptables_trial_is_running(const struct iptables_trial *trial, int64_t now);

/* Why `want` cannot be tried in the place of `have`, or NULL. */
const char *iptables_trial_refusal(const struct iptables_text *have,
				   const struct iptables_text *want);

/* What is to be loaded so that `want` is on trial: for iptables_text_replace() without `exact`. A trial that is
 * there ends. `times` gives start and end. 0 or -ENOMEM. */
int iptables_trial_begin(const struct iptables_text *have, const struct iptables_text *want,
			 const struct iptables_trial *times, struct iptables_text *target);

/* The new rules alone (`tried`), or those before, under their own names, live exceptions included. Of text without a
 * trial all of it. 0 or -ENOMEM. */
int iptables_trial_half(const struct iptables_text *t, bool tried, struct iptables_text *half);
/* The same without live exceptions: for iptables_text_replace(), which leaves those that are there. */
int iptables_trial_keep(const struct iptables_text *t, bool tried, struct iptables_text *target);
