/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How many values were how large: counted in buckets with fixed upper bounds, by one thread; others read it
 * (daemon/core/shared.h). No lock, no allocation. Shapes are constant, and all of a histogram are numbers, so that
 * those of several workers can be added up.
 */
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS_MAX 20

/* Bounds belong to their bucket. Values above the last one have a bucket of their own. */
struct histogram_shape {
	const uint64_t *bounds; /* ascending */
	size_t n_bounds;
	unsigned unit; /* so many make one of what is shown: 1000 for ms shown as seconds */
};

/* In ms: what a flow waits for; how long flows last, whose first bounds are the usual ones of Prometheus' clients. */
extern const struct histogram_shape histogram_waits, histogram_lasts;
extern const struct histogram_shape histogram_bytes; /* 1 KiB to 16 GiB */

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* of each bucket alone */
	uint64_t sum;
};

void histogram_add(struct histogram *h, const struct histogram_shape *shape, uint64_t value);
