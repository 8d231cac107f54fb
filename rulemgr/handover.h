/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What becomes of the live flows when one table takes the place of another. REDIRECT flows live by NAT, which the
 * kernel ends with the last chain that does any; TPROXY flows live by the rule that knows them and by the route of
 * its mark. So another mode or mark would cut them. One thread, blocking.
 */
#include "rulemgr/command.h"
#include "rulemgr/kernel.h"
#include "rulemgr/want.h"

/* What refuses, and what --force warns of: another `what` would cut `n` flows. */
void handover_say(const char *what, size_t n, struct diag *d);

/* Refuses (with --force: warns) where the table `m` for `w` would not carry on live flows of the one that is there. An
 * exit code; r->error says why it is not 0. */
int handover_check(struct kernel *k, const struct args *a, const struct want *w,
		   const struct model *m, struct report *r);
