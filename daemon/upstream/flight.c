/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/flight.h"

enum flight_way flight_begin(struct flight *f, enum handshake_mode mode, uint64_t now_ms)
{
	if (mode != HANDSHAKE_MODE_AUTO)
		return mode == HANDSHAKE_MODE_ONE_FLIGHT ? FLIGHT_ONE : FLIGHT_STRICT;
	if (f->state == FLIGHT_YES)
		return FLIGHT_LEARNED;
	if (f->state == FLIGHT_PROBING || (f->state == FLIGHT_NO && now_ms < f->again_ms))
		return FLIGHT_STRICT;
	f->state = FLIGHT_PROBING;
	return FLIGHT_PROBE;
}

bool flight_is_one(enum flight_way way)
{
	return way == FLIGHT_ONE || flight_may_fail(way);
}

bool flight_may_fail(enum flight_way way)
{
	return way == FLIGHT_LEARNED || way == FLIGHT_PROBE;
}

int64_t flight_patience(enum flight_way way, int64_t left_ms)
{
	int64_t ms = way == FLIGHT_PROBE ? FLIGHT_PROBE_MS : FLIGHT_DOUBT_MS;

	if (left_ms > 0 && ms > left_ms / 2)
		ms = left_ms / 2;
	return ms > 0 ? ms : 1;
}

static void flight_give_up(struct flight *f, uint64_t now_ms)
{
	f->state = FLIGHT_NO;
	f->again_ms = now_ms + FLIGHT_AGAIN_MS;
}

/* In one flight it failed. Once, a server may have been restarted in the middle of it. */
static void flight_doubt(struct flight *f, uint64_t now_ms)
{
	if (now_ms < f->doubted_ms)
		flight_give_up(f, now_ms);
	f->doubted_ms = now_ms + FLIGHT_AGAIN_MS;
}

void flight_worked(struct flight *f, enum flight_way way, uint64_t reply_ms, uint64_t now_ms)
{
	bool slow = reply_ms >= FLIGHT_DOUBT_MS; /* so it was in one flight, too */

	if (way == FLIGHT_PROBE && f->state == FLIGHT_PROBING)
		f->state = FLIGHT_YES;
	else if (way == FLIGHT_PROBE_AGAIN && !slow)
		flight_give_up(f, now_ms);
	else if (way == FLIGHT_LEARNED_AGAIN && !slow)
		flight_doubt(f, now_ms);
	else
		flight_forget(f, way);
}

enum flight_way flight_failed(struct flight *f, enum flight_way way)
{
	if (way == FLIGHT_PROBE)
		return FLIGHT_PROBE_AGAIN;
	/* Others that began while it was thought to work have said so already, or found out more. */
	if (f->state != FLIGHT_YES)
		return FLIGHT_STRICT;
	f->state = FLIGHT_UNKNOWN;
	return FLIGHT_LEARNED_AGAIN;
}

void flight_silent(struct flight *f, enum flight_way way, uint64_t now_ms)
{
	if (way == FLIGHT_LEARNED && f->state == FLIGHT_YES)
		f->state = FLIGHT_UNKNOWN;
	else if (way != FLIGHT_PROBE)
		return;
	/* Should there be servers that a flight strikes dumb, not every flow may be lost with them. */
	flight_doubt(f, now_ms);
	flight_forget(f, way);
}

void flight_forget(struct flight *f, enum flight_way way)
{
	if ((way == FLIGHT_PROBE || way == FLIGHT_PROBE_AGAIN) && f->state == FLIGHT_PROBING)
		f->state = FLIGHT_UNKNOWN;
}
