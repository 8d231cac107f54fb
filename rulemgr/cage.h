/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The table around a probe: its first chain asks the kernel to trace the probe, its last drops it
 * before it can leave this host, or arrive at a program of it. The table belongs to its netlink socket (NFT_TABLE_F_OWNER, kernel
 * 5.12): it goes with the descriptor, however this process ends. One owner.
 */
#include "rulemgr/kernel.h"
#include "rulemgr/probe.h"

#define CAGE_TABLE_MAX 32
/* The chain that begins the trace anew where the probe comes in by the loopback interface. */
#define CAGE_LOCAL_CHAIN "local"
/* The one where connection tracking has just seen it. */
#define CAGE_TRACKED_CHAIN "tracked"

enum cage_end {
	CAGE_ALL,       /* nothing of the probe goes further than its first last hook */
	CAGE_ARRIVE,    /* what goes over the loopback interface ends behind all rules for input */
	CAGE_BUT_LOCAL, /* what goes over the loopback interface may arrive */
};

struct cage {
	struct kernel kernel;
	char table[CAGE_TABLE_MAX]; /* of family inet */
};

/* Puts the table in, for a probe that is open. 0, or a negative errno with `d` filled. */
int cage_open(struct cage *c, const struct probe *p, enum cage_end end, struct diag *d);
/* A zeroed or closed cage is fine. Close the probe first. */
void cage_close(struct cage *c);
