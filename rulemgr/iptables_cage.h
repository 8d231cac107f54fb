/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The cage of cage.h for hosts without nf_tables: a temporary chain of iptables that a probe (probe.h) meets last,
 * told by its source port. It counts what has become of the probe, and lets it leave this host in no case.
 *
 * Nothing removes rules of iptables when a process is killed: whoever puts in the next cage, or installs, does. So a
 * signal must not end the process in between. The lock of lock.h is held meanwhile. One owner, one thread, blocking.
 */
#include "rulemgr/iptables_sync.h"
#include "rulemgr/probe.h"

enum iptables_fate {
	IPTABLES_FATE_NONE,       /* it did not get so far */
	IPTABLES_FATE_REDIRECTED, /* to a port of ours */
	IPTABLES_FATE_MARKED,     /* for TPROXY, and routed to this host */
	IPTABLES_FATE_UNTOUCHED,  /* goes to where it wanted to go */
	IPTABLES_FATE_ELSEWHERE,  /* somebody else has translated it */
};

struct iptables_cage {
	int family; /* LISTENERS_IPV4, ... */
	int lock;   /* of lock_take() */
	bool open;
};

/* Around an open probe; `have` is what is there, from before. `local`: of this host, and what stays
 * within it may arrive; nothing is counted. 0, or a negative errno with `d` filled. */
int iptables_cage_open(struct iptables_cage *c, const struct probe *p,
		       const struct iptables_have *have, bool local, struct diag *d);
/* Where the probe was last, from what is there now; *arrives: where a redirected one goes. */
enum iptables_fate iptables_cage_fate(const struct iptables_cage *c,
				      const struct iptables_have *have, struct addr *arrives);
/* Close the probe first. A zeroed or closed cage is fine. 0, or a negative errno with `d` filled: something is left. */
int iptables_cage_close(struct iptables_cage *c, struct diag *d);
