/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/flight.h"

enum flight_way flight_begin(struct flight *f, enum handshake_mode mode, uint64_t now_ms)
{
	if (mode != HANDSHAKE_MODE_AUTO)
		return mode == HANDSHAKE_MODE_ONE_FLIGHT ? FLIGHT_ONE : FLIGHT_STRICT;
	if (f->state == FLIGHT_YES)
		return FLIGHT_ONE;
	if (f->state == FLIGHT_PROBING || (f->state == FLIGHT_NO && now_ms < f->again_ms))
		return FLIGHT_STRICT;
	f->state = FLIGHT_PROBING;
	return FLIGHT_PROBE;
}

void flight_worked(struct flight *f)
{
	f->state = FLIGHT_YES;
}

void flight_failed(struct flight *f, enum flight_way way, uint64_t now_ms)
{
	/* What used to work may have been replaced by something else: ask anew. */
	f->state = way == FLIGHT_PROBE ? FLIGHT_NO : FLIGHT_UNKNOWN;
	f->again_ms = now_ms + FLIGHT_AGAIN_MS;
}

void flight_forget(struct flight *f)
{
	if (f->state == FLIGHT_PROBING)
		f->state = FLIGHT_UNKNOWN;
}
