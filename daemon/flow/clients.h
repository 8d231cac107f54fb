/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What each client has of that of which there is only so much, in all workers together, for the limits of [limits]
 * that end in _per_client. A client is an address of IPv4, or so many bits of one of IPv6: whoever has a
 * network there has all its addresses. One table for the daemon behind one lock. It holds an entry for each
 * client that has something that is counted, and no other. Any thread.
 */
#include <pthread.h>

#include "daemon/core/hash.h"
#include "policy/addr.h"
#include "policy/diag.h"

/* What is counted. */
enum client_count {
	CLIENT_FLOWS,
	CLIENT_SLOW,      /* flows whose request does not come (half_open.h) */
	CLIENT_RESOLVING, /* flows that wait for name servers */
	CLIENT_BINDS,     /* flows by BIND, each of which has a port */
	CLIENT_UDPS,      /* UDP associations */
	CLIENT_COUNTS,
};

struct client;

struct clients {
	pthread_mutex_t lock; /* guards all that follows but the key and `ipv6_bits` */
	struct hash_key key;
	unsigned ipv6_bits;      /* of an address that make a client */
	struct client **buckets; /* NULL until something is counted */
	size_t n_buckets;        /* a power of 2 */
	size_t n;                /* entries */
};

/* For about `max` clients; more only make it slower. 0 or -errno with `d`. */
int clients_init(struct clients *c, size_t max, unsigned ipv6_bits, struct diag *d);
/* All that was taken must have been given back (BUG otherwise). */
void clients_destroy(struct clients *c);

/* The client that an address belongs to; no port. */
struct addr clients_of(const struct clients *c, const struct addr *addr);

/* One more for the client of that address. 0; -EDQUOT: it has `limit` or more already and
 * nothing was counted; -ENOMEM. */
int clients_take(struct clients *c, const struct addr *addr, enum client_count what,
		 unsigned limit);
/* Whether it has `limit` or more. */
bool clients_full(struct clients *c, const struct addr *addr, enum client_count what,
		  unsigned limit);
/* One less: gives back what clients_take() has counted. */
void clients_put(struct clients *c, const struct addr *addr, enum client_count what);
