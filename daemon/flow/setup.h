/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From a known destination to a connected remote end: asks the rules, names the upstreams to be tried, dials them in
 * turn and takes the handshake through. A connection or greeting that fails costs the client time only: the
 * next upstream is tried while none of its bytes has been sent. What an upstream says of the destination is
 * the end of it.
 *
 * The session owns all of it (struct setup); everything runs on its thread.
 */
#include "daemon/flow/session.h"

/* The destination is known (`dest`, or `name` and `port`, or both): goes towards it. */
void setup_start(struct session *s);

/* Sets the timer of a phase before the relay; `ms` 0: no limit of its own. What it means if it fires: the end with
 * `timeout_why`, if there is no other upstream to try. */
void setup_phase(struct session *s, enum why timeout_why, int64_t ms);

/* SES_HANDSHAKE: the upstream's socket has news. */
void setup_remote_ready(struct session *s);

/* The remote end is there: the client is told so, and the relay begins. Gives `setup` back. */
void setup_established(struct session *s);

/* Ends, or tries the next upstream: the name that was to be connected to led nowhere, `status` as of query_fn. */
void setup_resolve_failed(struct session *s, int status);

/* The session ends before the relay has begun: gives up what is under way. */
void setup_stop(struct session *s);

/* Nothing of the set-up is needed any more; fine if it has gone already. */
void setup_release(struct session *s);
