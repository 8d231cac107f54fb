/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How many flows each client address has, in all workers together, for limits.max_flows_per_client. One table
 * for the daemon behind one lock; used only where that option is set. It holds an entry for each address
 * that has a flow, and no other. Any thread.
 */
#include <pthread.h>

#include "daemon/core/hash.h"
#include "policy/addr.h"
#include "policy/diag.h"

struct client;

struct clients {
	pthread_mutex_t lock; /* guards all that follows but the key */
	struct hash_key key;
	struct client **buckets; /* NULL until the first flow is counted */
	size_t n_buckets;        /* a power of 2 */
	size_t n;                /* entries */
};

/* For about `max` addresses; more only make it slower. 0 or -errno with `d`. */
int clients_init(struct clients *c, size_t max, struct diag *d);
/* Every flow must have been given back (BUG otherwise). */
void clients_destroy(struct clients *c);

/* One more flow of that address (the port does not count). 0; -EDQUOT: it has `limit` or more already and
 * nothing was counted; -ENOMEM. */
int clients_take(struct clients *c, const struct addr *client, unsigned limit);
/* One less: gives back what clients_take() has counted. */
void clients_put(struct clients *c, const struct addr *client);
