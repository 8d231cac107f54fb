/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Objects of one size, taken from slabs and kept for reuse: after start-up no flow calls malloc(3).
 * One pool belongs to one worker; no locks. Slabs are given back only by pool_destroy(): the peak
 * stays, what is idle is not touched.
 *
 * Built with POOL_DEBUG (sanitizers, valgrind) every object is a malloc of its own, so that use
 * after free is seen.
 */
#include "policy/defs.h"

struct pool_slab;
struct pool_free;

struct pool {
	size_t size; /* of one object, rounded up to alignment */
	size_t live; /* handed out; this and the next: SHARED_GET() by other threads */
	size_t idle; /* waiting for reuse */
	struct pool_free *free;
	struct pool_slab *slabs;
};

void pool_init(struct pool *p, size_t size);
/* Every object must be back (BUG otherwise). */
void pool_destroy(struct pool *p);

/* Uninitialised memory, or NULL when the system has none. */
void *pool_get(struct pool *p);
/* NULL is fine. */
void pool_put(struct pool *p, void *obj);
