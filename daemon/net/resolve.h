/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Names to addresses through c-ares, one channel for each worker. Sockets to name servers carry the
 * mark. Literals and `localhost` (RFC 6761 section 6.3: always the loopback addresses) are answered
 * here; for other names /etc/hosts is read first, search domains are off. Same thread as its loop.
 *
 * Answers are kept as resolve_cache.h says: good ones for their TTL, that there is none and that the servers fail
 * for a short while. While they fail an answer that expired less than an hour ago is given, and a line in the log
 * says so. Queries about one name that come at the same time are asked once.
 */
#include "daemon/core/histogram.h"
#include "daemon/core/loop.h"
#include "daemon/net/resolve_cache.h"
#include "daemon/net/sock.h"

/* All servers together have so long, unless there are more than six. */
#define RESOLVE_MS 4500
#define RESOLVE_ASKING_MAX \
	16384 /* names being asked for; c-ares numbers its queries with 16 bits */

/* Where an answer comes from, and what became of what was asked; with the words that metrics have for it. */
/* clang-format off */
#define RESOLVE_FROM_TABLE(ROW) \
	ROW(RESOLVE_FROM_HERE,    "here")    /* a literal, or localhost */ \
	ROW(RESOLVE_FROM_CACHE,   "cache") \
	ROW(RESOLVE_FROM_STALE,   "stale")   /* its time is up, but the servers fail */ \
	ROW(RESOLVE_FROM_SERVERS, "servers") /* or /etc/hosts; also who waits for what was asked already */
#define RESOLVE_RESULT_TABLE(ROW) \
	ROW(RESOLVE_FOUND,   "found") \
	ROW(RESOLVE_NONE,    "none") \
	ROW(RESOLVE_TIMEOUT, "timeout") \
	ROW(RESOLVE_FAILED,  "failed")
/* clang-format on */
#define RESOLVE_ID(id, word) id,
enum resolve_from { RESOLVE_FROM_TABLE(RESOLVE_ID) RESOLVE_FROMS };
enum resolve_result { RESOLVE_RESULT_TABLE(RESOLVE_ID) RESOLVE_RESULTS };
#undef RESOLVE_ID
extern const char *const resolve_from_words[RESOLVE_FROMS];
extern const char *const resolve_result_words[RESOLVE_RESULTS];

/* SHARED_GET() by other threads. */
struct resolve_counts {
	uint64_t queries[RESOLVE_FROMS];
	struct histogram asked_ms[RESOLVE_RESULTS]; /* until the servers' answer */
};

struct resolver;

/* `servers` may be empty (then /etc/resolv.conf). 0 or -errno with `d`. */
int resolver_new(struct loop *loop, const struct addr_list *servers, const struct sock_options *o,
		 struct resolver **out, struct diag *d);
/* Counts into what outlives it; NULL: it does not count, as at first. */
void resolver_count(struct resolver *r, struct resolve_counts *counts);
/* Every query must have ended or been cancelled; not from a query_fn. NULL is fine. */
void resolver_free(struct resolver *r);

struct query;
/* `status` 0 and `n` >= 1 addresses (port 0) that live during the call, or: -ENOENT the name has no
 * address of this family (or does not exist), -ETIMEDOUT no server answered in time, -ENOMEM, -EIO
 * any other failure of the service: servers that nothing reaches, SERVFAIL, REFUSED. */
typedef void query_fn(struct query *q, int status, const struct addr *addrs, size_t n);

/* Embedded in what asks, which may not move meanwhile. */
struct query {
	struct resolve_entry *entry; /* NULL: not asking */
	query_fn *done;
	void *owner;
	struct resolver *resolver; /* private */
	struct list node;          /* private */
};

/* Asks for AF_INET or AF_INET6 addresses. `done` is called exactly once unless cancelled, and never
 * from inside this call. 0, or -ENOMEM (no memory, or RESOLVE_ASKING_MAX is reached; `done` is not
 * called then). */
int query_start(struct resolver *r, struct query *q, const char *name, int family, query_fn *done,
		void *owner);
/* Whether a flow to that name can go on without a name server: addresses of one family are known, or that there
 * are none of both. */
bool resolver_knows(const struct resolver *r, const char *name);
/* Fine for one that is not asking, if the struct was zeroed once. The name server is asked on; what
 * it answers is kept for others. */
void query_cancel(struct query *q);
