/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What becomes of a connection, asked of the kernel by iptables alone: a probe is sent in a cage
 * (iptables_cage.h), and what counts it there has seen where it was going; the counters of our own rules tell which
 * of them it has met. Others may come by at that moment, so it is asked again until one rule is left that has counted
 * each time. Blocking; one thread.
 */
#include "rulemgr/iptables_cage.h"
#include "rulemgr/verdict.h"

struct iptables_answer {
	enum verdict verdict; /* TAKEN, LEFT, NO_ROUTE, LOST */
	struct addr arrives;  /* TAKEN: at which address of this host; by TPROXY its destination */
	char rule
		[MODEL_COMMENT_MAX]; /* the comment of the rule of ours that decided; "": none, or not known */
	char why[512];               /* one sentence, without a full stop */
};

/* Opens the probe, sends it, and takes it away. 0, or a negative errno with `d` filled; -ENOENT: nothing of ours is
 * installed for its family. */
int iptables_ask(struct probe *p, struct iptables_answer *a, struct diag *d);

/* Makes of *m, which is empty, a model with the set of gateway interfaces. 0 or -ENOMEM. */
int iptables_gateways(const struct iptables_have *have, struct model *m);
