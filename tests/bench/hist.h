/* SPDX-License-Identifier: MIT */
/*
 * Latencies in 32 buckets for each power of two: a percentile is right within 3 %. A histogram is an
 * array of HIST_BUCKETS counts.
 */
#pragma once

#include <stdint.h>

#define HIST_BUCKETS (60 * 32)

static inline uint32_t hist_bucket(uint64_t ns)
{
	uint32_t shift = ns < 64 ? 0 : 58 - (uint32_t)__builtin_clzll(ns);
	uint64_t bucket = shift * 32 + (ns >> shift);

	return bucket < HIST_BUCKETS ? (uint32_t)bucket : HIST_BUCKETS - 1;
}

/* The middle of a bucket. */
static inline double hist_value_us(uint32_t bucket)
{
	uint32_t shift = bucket < 64 ? 0 : bucket / 32 - 1;
	double low = (double)((uint64_t)(bucket - shift * 32) << shift);

	return (low + (double)(1ull << shift) / 2) / 1000;
}

/* The latency that `share` of the `total` counts do not pass, in microseconds; 0 without any. */
static inline double hist_percentile(const uint64_t *hist, uint64_t total, double share)
{
	uint64_t below = 0, wanted = (uint64_t)(share * (double)total);

	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		below += hist[i];
		if (below > wanted || (below == total && total > 0))
			return hist_value_us(i);
	}
	return 0;
}
