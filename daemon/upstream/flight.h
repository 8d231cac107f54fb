/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whether an upstream takes greeting, password and request in one flight, learned by trying: one flow is the
 * probe, the others go strictly until it is known. What was learned may be true no longer, or not for every
 * server behind the address. So whoever goes in one flight and is not answered as it should goes again in the
 * strict way, which its client does not notice but for the time. One for each upstream and worker; no locks.
 */
#include <stdbool.h>
#include <stdint.h>

#include "policy/conf.h"

/* How long a probe waits for the reply after the first answer: a server that lost the request never sends
 * one. A slow destination looks the same, and costs no more than round trips. */
#define FLIGHT_PROBE_MS 500
/* The same for a flow that goes as was learned: it is the destination that is slow, more likely than not. */
#define FLIGHT_DOUBT_MS 2000
/* When an upstream that did not take it is tried again. */
#define FLIGHT_AGAIN_MS (10 * 60 * 1000)

enum flight_state { FLIGHT_UNKNOWN, FLIGHT_PROBING, FLIGHT_YES, FLIGHT_NO };

struct flight {
	enum flight_state state;
	uint64_t again_ms;   /* until then NO */
	uint64_t doubted_ms; /* until then one more such failure is enough for NO */
};

enum flight_way {
	FLIGHT_STRICT,
	FLIGHT_ONE,     /* as the configuration tells, whatever becomes of it */
	FLIGHT_LEARNED, /* in one flight, as has worked */
	FLIGHT_PROBE,   /* in one flight, to find out */
	/* Strictly, after one of those two was not answered: if this is, it was not the destination's fault. */
	FLIGHT_LEARNED_AGAIN,
	FLIGHT_PROBE_AGAIN,
};

/* How the next flow goes. Of a probe the outcome must be told. */
enum flight_way flight_begin(struct flight *f, enum handshake_mode mode, uint64_t now_ms);
/* Whether that is in one flight, and if that fails goes again, strictly. */
bool flight_is_one(enum flight_way way);
bool flight_may_fail(enum flight_way way);
/* How long (ms) to wait for the reply before going again, of `left_ms` that there are for both (0: no limit).
 * For a way that may fail, or a connection that may. */
int64_t flight_patience(enum flight_way way, int64_t left_ms);

/* The destination was reached, `reply_ms` after the first answer. */
void flight_worked(struct flight *f, enum flight_way way, uint64_t reply_ms, uint64_t now_ms);
/* A flow that may fail was not answered as it should be. How it goes again. */
enum flight_way flight_failed(struct flight *f, enum flight_way way);
/* No answer even to the greeting, which says little of flights: the flow ends. */
void flight_silent(struct flight *f, enum flight_way way, uint64_t now_ms);
/* The flow ended before it was known. */
void flight_forget(struct flight *f, enum flight_way way);
