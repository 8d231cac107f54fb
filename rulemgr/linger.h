/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Waits for the redirected flows to end while the table is drained, or the rules of iptables are paused. One thread, blocking.
 */
#include "rulemgr/flows.h"
#include "rulemgr/kernel.h"

enum linger_end {
	LINGER_DONE,   /* none is left */
	LINGER_TIME,   /* some are, and the time is over */
	LINGER_SIGNAL, /* SIGINT, SIGTERM or SIGHUP came */
	LINGER_GONE,   /* the rules are: with their daemon, or somebody has removed them */
};

struct lingered {
	enum linger_end end;
	int signal;         /* LINGER_SIGNAL: which */
	struct flows flows; /* that are left */
};

/* Holds SIGINT, SIGTERM and SIGHUP back, so that linger() finds them; for the rest of the process. */
void linger_hold_signals(void);

/* What a shell says of a process that a signal has ended, plus the number of the signal. */
#define EXIT_SIGNAL 128

/* For what is not to be left half done: holds them back, and looks whether one has been already. An exit code: 0, or
 * EXIT_SIGNAL and more with `d`: then nothing is to be begun. */
int linger_begin(struct diag *d);

/* `k` NULL: those of iptables. At most `ms`; 0: only looks. With `show` says on standard error how many are left, always in one line
 * on a terminal, else now and then. A signal that was held back ends it. 0 with *l; -ECANCELED: the
 * table takes new flows again; another negative errno. All with `d` filled. */
int linger(struct kernel *k, const struct have *have, int64_t ms, bool show, struct lingered *l,
	   struct diag *d);
