/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * usocksd's own addresses at run time: which of them a client's connections are made from, and in what state they are. One
 * table for all workers and the main thread: what changes in it is atomic, and no lock is taken.
 *
 * A client gets its address by rendezvous hashing on its own address alone, whatever it connects to, in this
 * process, the next one and on another host with the same list. An address that cannot be used is passed over: its clients
 * get the one that is next for them, all others stay where they are.
 *
 * What is known of an address goes on under the next configuration that has it. This is also where a change of its
 * state is logged, once.
 */
#include <stdatomic.h>

#include "policy/conf.h"

/* Of each family: how many addresses one connection tries to bind. */
#define EGRESS_TRIES_MAX 8

struct egress_addr {
	atomic_uint refs;
	struct prefix prefix;
	uint64_t identity; /* balance_identity() of `text` */
	char text[PREFIX_TEXT_MAX];
	atomic_bool absent;                /* it could not be bound when that was last tried */
	atomic_bool listed;                /* by the blocklist, when that last gave an answer */
	atomic_size_t flows;               /* live */
	atomic_uint_fast64_t connects;     /* connections that were made from it */
	atomic_uint_fast64_t failed;       /* destinations that could not be connected to */
	atomic_uint_fast64_t failed_binds; /* by connections, that then took another one */
	atomic_uint_fast64_t bytes_up;     /* passed on for clients by flows that have ended, */
	atomic_uint_fast64_t bytes_down;   /* and to them */
};

/* A list of the configuration. */
struct egress_pool {
	const struct egress_list *conf;
	struct egress_addr **addrs; /* as in `conf` */
	struct place place;         /* of [[outgoing.users]]; file NULL: outgoing.addresses */
	bool all_listed[2];         /* IPv4, IPv6; and that was said. Main thread */
};

struct egress {
	atomic_uint refs;
	struct conf *conf;
	struct egress_pool addresses, *users; /* as in conf->egress */
	struct egress_addr **items;           /* each once */
	size_t n;
};

/* In the order of trying. Embedded in what dials: `list` points into it. */
struct egress_choice {
	struct addr_list list; /* for sock_options.source; empty: the kernel chooses */
	struct addr addrs[2 * EGRESS_TRIES_MAX];
	struct egress_addr *items[2 * EGRESS_TRIES_MAX];
};

/* The table of `conf` (takes a reference of its own). What `previous` (may be NULL) knows of an address goes on. *out is new
 * with one reference. 0 or -ENOMEM with `d`. Main thread. */
int egress_new(struct conf *conf, struct egress *previous, struct egress **out, struct diag *d);
/* Any thread. */
struct egress *egress_ref(struct egress *e);
void egress_unref(struct egress *e); /* NULL is fine */

/* The addresses of a client that has logged in as `user` (NULL: it has not), of each family those that can be used, then those that are listed, then the others, each
 * part in the client's own order. */
void egress_choose(const struct egress *e, const struct addr *client, const char *user,
		   struct egress_choice *out);

/* Binds `fd` to the choice at `place`, and notes whether that works. 0 or -errno. */
int egress_bind(const struct egress_choice *c, size_t place, int fd);

/* A connection was made from it, and is closed. */
void egress_take(struct egress_addr *a);
void egress_put(struct egress_addr *a);
/* What was passed on over it; where a flow ends, since workers share the counter. */
void egress_moved(struct egress_addr *a, uint64_t bytes_up, uint64_t bytes_down);
/* A destination could not be connected to. */
void egress_failed(struct egress_addr *a);

/* What became of an attempt to bind; logs a change. `err` is an errno, or 0: it worked. */
void egress_tell(struct egress_addr *a, int err);

/* What the blocklist says: listed by that answer, or NULL: not listed. Logs a change. Main thread. */
void egress_tell_listed(struct egress_addr *a, const char *domain, const struct addr *answer);
/* All have been asked about: says where clients have none left that is not listed. Main thread. */
void egress_tell_round(struct egress *e);

/* Whether the address is in one of the prefixes, so that it leads back to this host. */
bool egress_has(const struct egress *e, const struct addr *a);

/* It could not be bound when that was last tried. */
bool egress_is_absent(const struct egress_addr *a);

/* "ok", "not-local" or "listed". */
const char *egress_state_word(const struct egress_addr *a);
