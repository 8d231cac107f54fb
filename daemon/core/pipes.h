/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A worker's pipes for splice(2): few, large, and shared by the flows that are bulky just now. The kernel
 * bounds what the pipes of a user without CAP_SYS_RESOURCE may hold (fs.pipe-user-pages-soft); beyond it,
 * and without descriptors, there are smaller pipes or none, and the flow copies. Same thread as its worker.
 */
#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/list.h"

#define PIPE_BYTES     (1024 * 1024)
#define PIPE_BYTES_MIN (64 * 1024) /* a smaller one is slower than copying */

struct pipe {
	int in, out; /* written to, read from */
	uint32_t cap;
	uint32_t fill;    /* bytes inside */
	bool spent;       /* not spliced with any more: what is inside is read out */
	struct list node; /* free, or of the owner's */
	void *user;       /* of the owner */
	uint64_t seen;    /* of the owner */
};

struct pipes {
	size_t live, idle; /* live: handed out; SHARED_GET() by other threads */
	size_t max;
	struct list free;
	bool exhausted; /* the last attempt to make one failed; cleared when one comes back */
};

/* At most `max` pipes, two descriptors each. */
void pipes_init(struct pipes *p, size_t max);
/* Every pipe must be back (BUG otherwise). */
void pipes_destroy(struct pipes *p);

/* An empty pipe of at least PIPE_BYTES_MIN, or NULL. */
struct pipe *pipes_get(struct pipes *p);
/* One with bytes left inside is closed, not reused. NULL is fine. */
void pipes_put(struct pipes *p, struct pipe *pipe);

/* How many pipes of full size all workers together may have: from fs.pipe-user-pages-soft. */
size_t pipes_limit(void);
