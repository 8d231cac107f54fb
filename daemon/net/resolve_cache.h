/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What name servers have answered, and for how long it may be used; the part of net/resolve that knows neither
 * sockets nor the clock. An entry is one name and family. Whoever asks about it or waits for it holds a
 * reference; up to RESOLVE_CACHE_MAX entries that nobody holds are kept, the one that was used last longest.
 * One cache belongs to one resolver; no locks.
 *
 * A good answer counts for its TTL, bounded below and above. That there is no address counts for a few seconds:
 * c-ares keeps the TTL of that (RFC 2308) to itself. A failure of the service counts for one second (RFC
 * 9520 section 3.2). But where a good answer was there before and has expired less than an hour ago it is
 * used on, and the servers are asked again every 30 seconds (RFC 8767).
 */
#include "daemon/core/hash.h"
#include "daemon/core/list.h"
#include "daemon/core/pool.h"
#include "policy/addr.h"

#define RESOLVE_ADDRS_MAX 32   /* of one answer; what is more is left out */
#define RESOLVE_CACHE_MAX 4096 /* about 5 MiB */
#define RESOLVE_NAME_MAX  255

#define RESOLVE_TTL_MIN_S   1 /* also for names in /etc/hosts, which have none */
#define RESOLVE_TTL_MAX_S   (24 * 60 * 60)
#define RESOLVE_NONE_S      10
#define RESOLVE_FAILED_S    1
#define RESOLVE_STALE_S     (60 * 60)
#define RESOLVE_ASK_AGAIN_S 30

struct resolve_answer {
	int status; /* as in query_fn */
	size_t n;   /* 0 unless `status` is 0 */
	struct addr addrs[RESOLVE_ADDRS_MAX];
};

struct resolve_entry {
	struct resolve_answer answer;
	struct list waiting; /* for the answer; whoever asks keeps it */
	bool asking;         /* the same */
	bool failing;        /* its answer has expired, and the servers fail */

	struct list node; /* private: in its bucket; none if it is not to be kept */
	struct list idle; /* private: in cache->idle, while nobody holds it */
	unsigned refs;    /* whoever holds one may add another */
	uint8_t family;
	uint64_t until_ms;       /* the answer counts */
	uint64_t stale_until_ms; /* ... while servers fail */
	uint64_t again_ms;       /* failing: they are asked again */
	char name[RESOLVE_NAME_MAX + 1];
};

struct resolve_cache {
	struct hash_key key;
	struct list *buckets;
	struct list idle; /* the one that was used last at the end */
	size_t n_idle;
	struct pool entries;
};

/* 0, -ENOMEM, or another -errno of getrandom(2). */
int resolve_cache_init(struct resolve_cache *c);
/* Every entry must have been put back. Zeroed memory is fine. */
void resolve_cache_destroy(struct resolve_cache *c);

/* The entry of that name, in any case of its letters, with a reference for the caller. Of a name that is too long,
 * or with !keep: one that nobody else gets. NULL: no memory. */
struct resolve_entry *resolve_cache_get(struct resolve_cache *c, const char *name, int family,
					bool keep);
/* The entry that there is, without a reference; or NULL. */
const struct resolve_entry *resolve_cache_find(const struct resolve_cache *c, const char *name,
					       int family);
void resolve_cache_put(struct resolve_cache *c, struct resolve_entry *e);

enum resolve_use {
	RESOLVE_ASK,         /* no answer: ask the servers, and wait */
	RESOLVE_USE,         /* the answer counts */
	RESOLVE_USE_STALE,   /* nothing better is to be had */
	RESOLVE_USE_AND_ASK, /* the same, but it is time to ask again */
};
enum resolve_use resolve_entry_use(const struct resolve_entry *e, uint64_t now_ms);

/* The servers have answered: `a`, whose `ttl_s` is that of a good answer. `e->answer` is what to go by now: that,
 * or an older one if the service failed. True: it is, and was not at the last answer. */
bool resolve_entry_answered(struct resolve_entry *e, const struct resolve_answer *a, unsigned ttl_s,
			    uint64_t now_ms);
