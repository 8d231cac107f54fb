/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The ports that our rules redirect to, and those before them: flows that were redirected there live on, and flush
 * must be able to count them. The comment of the table remembers the earlier ones, the latest first. Values; pure.
 */
#include "rulemgr/model.h"

struct ports {
	uint16_t list[MODEL_PORTS_MAX]; /* of the rules that are there, then earlier ones */
	size_t n;
};

/* Where the rules redirect to, then what the comment remembers, as far as there is room. */
struct ports ports_of(const struct model *m);

/* Makes the comment remember those that no rule of `m` redirects to; what else it says stays. */
void ports_remember(struct model *m, const struct ports *p);
