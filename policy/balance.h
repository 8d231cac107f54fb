/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * In which order the members of a group are tried. Pure: what changes with time (who is usable, how many flows
 * there are) comes in with the candidates.
 */
#include <stddef.h>
#include <stdint.h>

#include "policy/upstream.h"

/* Of one that is not returning slowly: its configured weight times this, so that there is room below. */
#define BALANCE_WEIGHT_UNIT 256
/* 1000, the largest that can be configured, times that. */
#define BALANCE_WEIGHT_MAX (1000 * BALANCE_WEIGHT_UNIT)

/* One member of a group at this moment. */
struct candidate {
	size_t index; /* in conf.upstreams */
	uint64_t
		identity; /* a hash of its name: the same in every process and after every reload */
	uint32_t
		weight; /* configured, less what a slow return takes; 0: only when nobody else is left */
	uint32_t flows;     /* live ones, for GROUP_LEAST_FLOWS */
	uint64_t rank, tie; /* balance_order()'s own */
};

/* Puts candidates[0..n) into the order of trying. `client` is who asks (GROUP_HASH_CLIENT: by its address alone, so
 * that losing one of N moves only its own clients), `turn` a counter that the caller increments
 * (GROUP_ROUND_ROBIN, ties of GROUP_LEAST_FLOWS). Members of weight 0 come last, in their order. Weights count in
 * proportion to each other and are BALANCE_WEIGHT_MAX at most. Allocates nothing. */
void balance_order(enum group_choose choose, struct candidate *candidates, size_t n,
		   const struct addr *client, uint64_t turn);

uint64_t balance_identity(const char *name);
