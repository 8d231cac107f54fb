/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whether an upstream takes greeting, password and request in one flight, learned by trying: one flow is the
 * probe, and goes again in the strict way if the upstream does not answer as it should, which its client
 * does not notice but for the time. One for each upstream and worker; no locks.
 */
#include <stdbool.h>
#include <stdint.h>

#include "policy/conf.h"

/* How long a probe waits for the reply after the first answer: a server that lost the request never sends
 * one. A slow destination looks the same, and costs no more than round trips. */
#define FLIGHT_PROBE_MS 500
/* When an upstream that did not take it is tried again. */
#define FLIGHT_AGAIN_MS (10 * 60 * 1000)

enum flight_state { FLIGHT_UNKNOWN, FLIGHT_PROBING, FLIGHT_YES, FLIGHT_NO };

struct flight {
	enum flight_state state;
	uint64_t again_ms;
};

enum flight_way { FLIGHT_STRICT, FLIGHT_ONE, FLIGHT_PROBE };

/* How the next flow goes. After FLIGHT_PROBE the outcome must be told. */
enum flight_way flight_begin(struct flight *f, enum handshake_mode mode, uint64_t now_ms);
/* What became of a probe, or of a flow that went FLIGHT_ONE. */
void flight_worked(struct flight *f);
void flight_failed(struct flight *f, enum flight_way way, uint64_t now_ms);
/* The probe ended for reasons of its own. */
void flight_forget(struct flight *f);
