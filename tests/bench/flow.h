/* SPDX-License-Identifier: MIT */
/*
 * The flows of the load generator: what each mode does on a connection, and what it makes of the
 * answers. Each thread has a worker with flows of its own and shares nothing but the options.
 */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "tests/bench/common.h"
#include "tests/bench/hist.h"
#include "tests/bench/socks_client.h"

#define SECOND      1000000000ull
#define MAX_SOURCES 64
#define MAX_ERRORS  1000 /* after so many a thread makes no new connections */
#define MAX_MESSAGE 16384

enum {
	E_EOF = 200, /* above every errno of Linux */
	E_STALLED,
	E_BAD_BYTES,
	E_LOST_BYTES,
	E_SOCKS,
	E_COUNT,
};

enum flow_state { FLOW_NONE, FLOW_LIVE, FLOW_PARKED, FLOW_ENDING, FLOW_OVER };

struct flow {
	int fd;
	enum flow_state state;
	bool sent;         /* the request or message that is waited for */
	bool proven;       /* has carried something */
	uint32_t got;      /* of what is waited for, or of the trailer */
	uint64_t since_ns; /* the request began, or the stream has moved */
	uint64_t pos;      /* in the stream of all bytes sent, or for bulk-down received */
	uint64_t reads;
	struct sockaddr_in dest;
	struct socks_client socks;
	uint8_t tail[sizeof(struct trailer)]; /* what came last */
};

struct worker {
	pthread_t thread;
	int epoll;
	uint32_t nflows;
	uint32_t nwaiting; /* flows that this phase waits for: until proven, or until over */
	uint32_t nconnects, nerrors;
	bool ending; /* the measured time is over */
	struct flow *flows;
	uint64_t done, nbytes;
	uint64_t hist[HIST_BUCKETS];
	uint64_t errors[E_COUNT];
};

struct mode {
	const char *name;
	int port;
	uint32_t events;
	void (*ready)(struct worker *w, struct flow *f, uint32_t events);
	void (*end)(struct worker *w, struct flow *f); /* asks for the trailer, or NULL */
};

/* From the command line; begin_ns and end_ns bound the measured time. */
struct options {
	const struct mode *mode;
	struct sockaddr_in dest;
	struct sockaddr_in proxy; /* SOCKS5; sin_family 0: none */
	struct sockaddr_in sources[MAX_SOURCES];
	uint32_t nsources, ndests, nthreads, nflows;
	uint32_t message; /* bytes */
	int pid;          /* whose CPU time is measured, with that of its children, or 0 */
	bool closes;      /* bulk streams end without a comparison */
	double seconds, warmup;
	uint64_t begin_ns, end_ns;
};

extern struct options opt;

static inline uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* The mode of that name, or NULL. */
const struct mode *mode_find(const char *name);

/* True for the mode that run_idle() is for. */
bool mode_is_idle(const struct mode *m);

/* Its socket has news. */
void flow_ready(struct worker *w, struct flow *f, uint32_t events);

/* Connects a flow that is not open. A failure is counted. */
void flow_open(struct worker *w, struct flow *f);

/* Closes it; it is waited for no more. */
void flow_over(struct worker *w, struct flow *f);

/* Counts the error, an errno or E_...; a request of mode crc is tried again, anything else is over. */
void flow_fail(struct worker *w, struct flow *f, int err);

/* Sends the next opt.message bytes, which are to come back. */
void message_send(struct worker *w, struct flow *f);
