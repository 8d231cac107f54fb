/* SPDX-License-Identifier: MIT */
/*
 * Each way to choose gives every candidate a rank; the lowest goes first.
 */
#include "policy/balance.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

/* Behind all others. */
#define RANK_LAST UINT64_MAX

/* Stable across processes, machines and releases: no seed, and XXH3 is fixed since 0.8.0. */
uint64_t balance_identity(const char *name)
{
	return XXH3_64bits(name, strlen(name));
}

/* Numbers above zero are in the order of their bits (IEEE 754). */
static uint64_t rank_of_double(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* Highest random weight (Thaler and Ravishankar: "Using name-based mappings to increase hit rates"), with weights: of
 * exponentially distributed -ln(u) / weight the smallest is each candidate's in proportion to its weight. What one
 * candidate gets depends on nobody else. */
static void rank_by_client(struct candidate *candidates, size_t n, const struct addr *client)
{
	for (size_t i = 0; i < n; i++) {
		struct candidate *c = &candidates[i];
		uint64_t hash = XXH3_64bits_withSeed(client->ip, addr_len(client), c->identity);
		double u = ((double)(hash >> 12) + 0.5) * 0x1p-52; /* neither 0 nor 1 */

		c->rank = rank_of_double(-log(u) / c->weight);
		c->tie = i;
	}
}

/* One more flow here: how full would it be? Who is as good goes by turns. */
static void rank_by_flows(struct candidate *candidates, size_t n, uint64_t turn)
{
	for (size_t i = 0; i < n; i++) {
		struct candidate *c = &candidates[i];

		c->rank = rank_of_double((c->flows + 1.0) / c->weight);
		c->tie = (i + n - turn % n) % n;
	}
}

/*
 * A round lasts 2^32 units, and a candidate of weight w is due w times in it, at (2k + 1) / 2w of the round: evenly, so
 * nobody gets a run of flows while others wait. A turn stands for one of these moments. Nothing is remembered but
 * the turn.
 */

/* How many moments of such a candidate lie before `time`. */
static uint64_t moments_before(uint64_t weight, uint64_t time)
{
	/* (2k + 1) * 2^32 / 2w < time: the odd numbers below time * 2w / 2^32. */
	uint64_t product = time * 2 * weight;
	uint64_t below = product == 0 ? 0 : (product - 1) >> 32;

	return (below + 1) / 2;
}

static uint64_t moment(uint64_t weight, uint64_t k)
{
	return ((2 * k + 1) << 32) / (2 * weight);
}

static uint64_t all_moments_before(const struct candidate *candidates, size_t n, uint64_t time)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += candidates[i].weight > 0 ? moments_before(candidates[i].weight, time) : 0;
	return sum;
}

static void rank_by_turn(struct candidate *candidates, size_t n, uint64_t turn)
{
	uint64_t round = all_moments_before(candidates, n, UINT64_C(1) << 32);
	uint64_t low = 0, high = UINT64_C(1)
				 << 32; /* the last time with `turn` moments before it, at most */
	uint64_t passed;

	turn = round > 0 ? turn % round : 0;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		if (all_moments_before(candidates, n, middle) <= turn)
			low = middle;
		else
			high = middle;
	}
	/* Of those due at that very time, so many have had their turn. */
	passed = turn - all_moments_before(candidates, n, low);
	for (size_t i = 0; i < n; i++) {
		struct candidate *c = &candidates[i];
		uint64_t k;

		c->tie = i;
		if (c->weight == 0)
			continue;
		k = moments_before(c->weight, low);
		c->rank = moment(c->weight, k);
		if (c->rank == low && passed > 0) {
			passed--;
			c->rank = moment(c->weight, k + 1);
		}
	}
}

static void rank_by_order(struct candidate *candidates, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		candidates[i].rank = 0;
		candidates[i].tie = i;
	}
}

static bool candidate_before(const struct candidate *a, const struct candidate *b)
{
	return a->rank < b->rank || (a->rank == b->rank && a->tie < b->tie);
}

/* Shellsort: qsort(3) allocates. */
static void sort(struct candidate *candidates, size_t n)
{
	static const size_t gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};

	for (size_t g = 0; g < ARRAY_LEN(gaps); g++) {
		for (size_t i = gaps[g]; i < n; i++) {
			struct candidate c = candidates[i];
			size_t j = i;

			for (; j >= gaps[g] && candidate_before(&c, &candidates[j - gaps[g]]);
			     j -= gaps[g])
				candidates[j] = candidates[j - gaps[g]];
			candidates[j] = c;
		}
	}
}

void balance_order(enum group_choose choose, struct candidate *candidates, size_t n,
		   const struct addr *client, uint64_t turn)
{
	switch (choose) {
	case GROUP_HASH_CLIENT:
		rank_by_client(candidates, n, client);
		break;
	case GROUP_ROUND_ROBIN:
		rank_by_turn(candidates, n, turn);
		break;
	case GROUP_LEAST_FLOWS:
		rank_by_flows(candidates, n, turn);
		break;
	case GROUP_FAILOVER:
		rank_by_order(candidates, n);
		break;
	}
	for (size_t i = 0; i < n; i++) {
		if (candidates[i].weight == 0) {
			candidates[i].rank = RANK_LAST;
			candidates[i].tie = i;
		}
	}
	sort(candidates, n);
}
