/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A pooled buffer for bytes that have been read and could not be passed on yet. Every worker reads into
 * one scratch buffer; only when something is left over does the flow keep that buffer (the worker takes
 * a fresh one from its pool), so that a flow without a backlog owns none.
 */
#include <stdint.h>

#include "policy/defs.h"

#define BUF_CAP (64 * 1024 - 8)

struct buf {
	uint32_t off; /* of the first byte not passed on */
	uint32_t len; /* how many such bytes there are */
	uint8_t data[BUF_CAP];
};

static inline uint8_t *buf_head(struct buf *b)
{
	return b->data + b->off;
}

static inline uint8_t *buf_tail(struct buf *b)
{
	return b->data + b->off + b->len;
}

/* Bytes that may be added at the tail. */
static inline size_t buf_room(const struct buf *b)
{
	return BUF_CAP - b->off - b->len;
}

static inline void buf_consume(struct buf *b, size_t n)
{
	BUG_ON(n > b->len);
	b->off += (uint32_t)n;
	b->len -= (uint32_t)n;
	if (b->len == 0)
		b->off = 0;
}
