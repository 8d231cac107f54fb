/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * usocksd's flows that wait for name servers, limits.max_resolving for the whole daemon. While these are slow or dead,
 * requests for names do not pile up: who would be one too many is told so at once. What is known already needs
 * no place, nor do requests for addresses. One client has a quarter of all places at most.
 *
 * A place is given back with the answer. A flow that ends before leaves it to an orphan, which waits in its stead: c-ares
 * cannot be told to stop asking, and a client that comes and goes would have no limit. The worker's thread.
 */
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/net/dial.h"

struct engine;
struct session;

/* Of the daemon. */
struct resolving_budget {
	atomic_size_t live;
};

/* A flow is about to ask for that name. 0: it needs no place; 1: it has one; -EDQUOT: too many wait; -ENOMEM. */
int resolving_take(struct session *s, const char *name);
/* Gives it back: at once if none of these queries waits, or with their answers. They may then be cancelled. */
void resolving_leave(struct session *s, const struct query queries[2]);

/* The same for a flow in set-up: it is about to ask for `s->name`. 0; -EDQUOT: too many wait; -ENOMEM. */
int resolving_begin(struct session *s);
/* It has its answer, or a connection. Fine where it does not wait. */
void resolving_end(struct session *s);
/* It ends before that; its queries are still there. Fine where it does not wait. */
void resolving_abandon(struct session *s);
void resolving_start(struct engine *e);
/* The engine ends: drops the orphans. */
void resolving_stop(struct engine *e);
