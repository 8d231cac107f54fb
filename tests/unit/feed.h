/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Feeds a parser with the bytes of a case in every split: whole, byte by byte, and cut at every one
 * and every two positions. What it makes of them must be the same each time.
 */
#include <stddef.h>
#include <stdint.h>

/* Runs the parser over `n` bytes that come in the pieces that end at `ends`, the last of which is n. */
typedef void feed_fn(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends);

static inline void feed_every_split(feed_fn *run, void *ctx, const uint8_t *bytes, size_t n)
{
	size_t each[2048];

	run(ctx, bytes, &n, 1);
	for (size_t i = 0; i < n; i++)
		each[i] = i + 1;
	if (n > 0)
		run(ctx, bytes, each, n);
	for (size_t i = 0; i <= n; i++) {
		for (size_t j = i; j <= n; j++)
			run(ctx, bytes, (size_t[]){i, j, n}, 3);
	}
}
