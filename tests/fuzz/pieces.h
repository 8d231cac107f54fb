/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Feeds a handshake with bytes that come in pieces, and keeps what it made of them: that must not
 * depend on the pieces.
 */
#include <string.h>

#include "daemon/proto/client.h"

struct pieces_result {
	enum proto_step step;
	size_t consumed, out_len;
	uint8_t out[4 * PROTO_OUT_MAX];
};

/* One step of the machine, and what must hold after it. */
typedef enum proto_step pieces_fn(void *machine, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len);

/* The pieces are piece[0] + 1 and piece[1] + 1 bytes long, in turn. */
static inline void pieces_feed(struct pieces_result *r, pieces_fn *run, void *machine,
			       const uint8_t *bytes, size_t n, const uint8_t piece[2])
{
	uint8_t out[PROTO_OUT_MAX];
	size_t used, out_len, end = 0;

	memset(r, 0, sizeof(*r));
	for (unsigned turn = 0;; turn++) {
		r->step =
			run(machine, bytes + r->consumed, end - r->consumed, &used, out, &out_len);
		BUG_ON(used > end - r->consumed);
		BUG_ON(out_len > PROTO_OUT_MAX);
		BUG_ON(r->out_len + out_len > sizeof(r->out));
		memcpy(r->out + r->out_len, out, out_len);
		r->out_len += out_len;
		r->consumed += used;
		if (r->step == PROTO_SEND)
			continue;
		if (r->step != PROTO_MORE || end == n)
			return;
		end = n - end > piece[turn % 2] ? end + 1 + piece[turn % 2] : n;
	}
}

static inline void pieces_compare(const struct pieces_result *a, const struct pieces_result *b)
{
	BUG_ON(a->step != b->step || a->consumed != b->consumed || a->out_len != b->out_len);
	BUG_ON(memcmp(a->out, b->out, a->out_len) != 0);
}

/* Everything in as large pieces as there are. */
static const uint8_t pieces_whole[2] = {255, 255};
