/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What rules with `observe` have seen: destinations and how often, for `--suggest`. Bounded; any thread. Only flows
 * that such a rule matches come here, so a lock is good enough.
 */
#include <pthread.h>
#include <stdint.h>

#include "daemon/core/hash.h"
#include "policy/suggest.h"

#define OBSERVED_MAX 4096 /* different destinations; what comes when it is full is only counted */

struct observed_dest;

struct observed {
	pthread_mutex_t lock;
	struct hash_key key;
	struct observed_dest **buckets; /* NULL: nothing was seen */
	size_t n;
	uint64_t n_lost; /* flows to destinations that had no room */
};

/* 0 or -errno. */
int observed_init(struct observed *o);
void observed_destroy(struct observed *o);

/* A flow that the rule `v->observed` has matched, and what became of it. */
void observed_add(struct observed *o, const struct flow_facts *f, const struct rule_verdict *v);

/* A copy of what was seen, in *rows, which the caller frees: how many, or -ENOMEM. *lost are flows to destinations that
 * had no room. */
int observed_rows(struct observed *o, struct suggest_row **rows, uint64_t *lost);
