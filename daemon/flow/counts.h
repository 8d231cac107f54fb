/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a worker counts of its flows, for admin/metrics. Part of struct engine, so that it outlives every
 * configuration; written by the worker alone, read by the main thread (daemon/core/shared.h). Durations are
 * differences of the loop's time: counting costs no system call, no lock and no memory.
 *
 * A flow is counted twice: when it is granted what it asked for (its relay begins) or has failed before that,
 * and, if it was granted, when it ends. Its bytes are counted as they are passed on.
 */
#include <stdbool.h>

#include "daemon/core/histogram.h"
#include "daemon/flow/why.h"
#include "daemon/net/resolve.h"
#include "policy/acl.h"

struct engine;
struct leg;
struct session;

/* The words of these tables are label values, most of them the Go program's. */
/* clang-format off */
#define COUNTS_VERSION_TABLE(ROW) \
	ROW(COUNTS_UNKNOWN, "unknown") \
	ROW(COUNTS_SOCKS4,  "SOCKS4_4a") \
	ROW(COUNTS_SOCKS5,  "SOCKS5")

#define COUNTS_STATUS_TABLE(ROW) \
	ROW(COUNTS_GRANTED,         "granted") \
	ROW(COUNTS_REJECTED,        "rejected") /* SOCKS4 knows nothing else */ \
	ROW(COUNTS_FAILURE,         "failure") \
	ROW(COUNTS_NOT_ALLOWED,     "not_allowed") \
	ROW(COUNTS_NETWORK,         "network_unreachable") \
	ROW(COUNTS_HOST,            "host_unreachable") \
	ROW(COUNTS_REFUSED,         "connection_refused") \
	ROW(COUNTS_TTL,             "ttl_expired") \
	ROW(COUNTS_COMMAND,         "command_not_supported") \
	ROW(COUNTS_AUTH,            "authentication_failure") \
	ROW(COUNTS_ADDRESS,         "address_read_failure") \
	ROW(COUNTS_INVALID,         "invalid_request") \
	ROW(COUNTS_UNKNOWN_VERSION, "unknown_version") \
	ROW(COUNTS_CLIENT_GONE,     "client_gone") \
	ROW(COUNTS_TIMEOUT,         "request_timeout")

#define COUNTS_DIAL_TABLE(ROW) \
	ROW(COUNTS_DIAL_CONNECTED, "connected") \
	ROW(COUNTS_DIAL_FAILED,    "failed") \
	ROW(COUNTS_DIAL_TIMEOUT,   "timeout")
/* clang-format on */

#define COUNTS_ID(id, word) id,
enum counts_version { COUNTS_VERSION_TABLE(COUNTS_ID) COUNTS_VERSIONS };
enum counts_status { COUNTS_STATUS_TABLE(COUNTS_ID) COUNTS_STATUSES };
enum counts_dial { COUNTS_DIAL_TABLE(COUNTS_ID) COUNTS_DIALS };
#undef COUNTS_ID

/* Which way bytes go: from the client, or to it. */
enum counts_direction { COUNTS_UP, COUNTS_DOWN, COUNTS_DIRECTIONS };

/* In the order of their enums, as are the arrays below. */
extern const char *const counts_version_words[COUNTS_VERSIONS];
extern const char *const counts_status_words[COUNTS_STATUSES];
extern const char *const counts_dial_words[COUNTS_DIALS];

/* By direction, of flows that were granted. */
struct counts_way {
	uint64_t bytes;              /* passed on, of live flows as well */
	uint64_t errors;             /* ended before the end of the stream was passed on */
	struct histogram flow_bytes; /* of ended flows */
	struct histogram
		flow_lasts_ms; /* from the grant to the end of the stream, or of the flow */
};

/* Nothing but uint64_t: counts_collect(). */
struct counts {
	struct counts_way ways[COUNTS_DIRECTIONS];
	uint64_t relayed;                       /* live flows that were granted */
	struct histogram setup_ms;              /* from accept to the grant */
	struct histogram lasts_ms[2];           /* from there to the end: WHY_DONE, any other */
	struct histogram dial_ms[COUNTS_DIALS]; /* from the first attempt at an address */
	uint64_t pauses; /* of accepting, since there were as many flows as there may be */
	struct resolve_counts resolve;

	/* usocksd */
	uint64_t connections[COUNTS_VERSIONS][COUNTS_STATUSES];
	uint64_t auth[2][2]; /* without and with a password: failed, agreed on */
	uint64_t addresses[SOCKS5_ADDRESSES];
	uint64_t acl[ACL_VERDICTS];
	uint64_t requests[SOCKS5_UDP_ASSOCIATE + 1]; /* that came complete, by command */
};

/* Adds what a worker has to `sum`, the caller's own. Any thread. */
void counts_collect(struct counts *sum, const struct counts *c);
/* The flow has what it asked for; before its set-up is gone. */
void counts_granted(struct session *s);
/* Bytes were passed on. */
void counts_moved(struct engine *e, enum counts_direction way, uint64_t nbytes);
/* The client's (up) or the remote end's stream is over, and that was passed on. */
void counts_stream_over(const struct session *s, enum counts_direction way);
/* Once, whether it was granted or not; `err` as in session_end(), before its state has changed. */
void counts_ended(struct session *s, enum why why, int err);
/* One that never became a session. */
void counts_dropped(struct engine *e);
/* The first attempt was made at `began_ms`. */
void counts_dial(struct engine *e, enum counts_dial how, uint64_t began_ms);
/* What refuses a flow of usocksd. */
void counts_acl(const struct session *s, enum acl_verdict verdict);
