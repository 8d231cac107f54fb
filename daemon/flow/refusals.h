/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Which of the flows that were turned away get a line in the log. Anybody can send such ones, at any rate, and a port scan
 * must not fill the disk: of each reason REFUSALS_BURST lines are written as they come, further ones one a second.
 * The others are counted and told together, so that the sum of all lines stays exact. A flow that has named its
 * destination, and has not come at a bad moment for that, is not concerned. One for each worker, on its thread.
 */
#include "daemon/core/loop.h"
#include "daemon/flow/why.h"

#define REFUSALS_BURST 20

struct refusals {
	struct loop *loop;
	struct timer timer; /* set while the last second's are not forgotten */
	struct refusal {
		unsigned n_said;   /* less one a second */
		uint64_t n_unsaid; /* since that was last told */
	} of[WHY_COUNT];
};

void refusals_init(struct refusals *r, struct loop *loop);
/* Tells what is left to be told; nothing comes after that. */
void refusals_end(struct refusals *r);

/* Whether it belongs to a phase in which flows are turned away. */
bool refusals_concern(enum why why);
/* Whether this one gets a line; it is counted if not. */
bool refusals_say(struct refusals *r, enum why why);
