/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is looked at before anything is installed: what would cut traffic off is refused, with the remedy
 * (--force overrules that), after some seconds if a daemon that is starting may mend it, and what may surprise is a warning. Asks the kernel; changes nothing.
 */
#include "rulemgr/command.h"
#include "rulemgr/kernel.h"
#include "rulemgr/want.h"

/* `k` NULL: the rules are for iptables, and nf_tables is not asked. The exit code: 0, or r->error says what is refused. Warnings go to `r`. */
int preflight_run(struct kernel *k, const struct args *a, const struct want *w, struct report *r);
