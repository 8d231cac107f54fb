/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Connects to an address or to a name, as RFC 8305 says: both families are asked, AAAA preferred
 * (50 ms of patience for it), addresses of the two families in turn, a new attempt every 250 ms or
 * at once when one fails, the first that connects wins and the others are closed. So the last of
 * DIAL_ADDRS_MAX addresses has its turn within 8 seconds, and an attempt has two at least. Where
 * descriptors or memory run out (EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC) no further attempt is made;
 * without any on its way the dial ends with that error. There is no time limit of its own: the owner has
 * a timer and calls dial_cancel(). Same thread as its loop.
 *
 * Where the options name source addresses, each attempt is made from one of its family, beginning with the one whose
 * turn it is; the next is taken where one cannot be bound, because it is not (any more) an address of this host, or has
 * no port left towards the peer (EADDRNOTAVAIL). A family without one is not connected to (EAFNOSUPPORT).
 */
#include "daemon/core/loop.h"
#include "daemon/net/resolve.h"
#include "daemon/net/sock.h"

#define DIAL_ADDRS_MAX           32 /* of both families together; what is more is left out */
#define DIAL_OPEN_MAX            8  /* attempts at once; for a further one the oldest is given up */
#define DIAL_ATTEMPT_DELAY_MS    250 /* RFC 8305 section 5, Connection Attempt Delay */
#define DIAL_RESOLUTION_DELAY_MS 50  /* RFC 8305 section 3 */

enum dial_phase { DIAL_RESOLVE, DIAL_CONNECT, DIAL_REFUSED };

/* Says of each address, before it is tried, why it may not be; 0: it may. Embedded in what decides. */
struct dial_filter {
	int (*refuses)(const struct dial_filter *f, const struct addr *to);
};

struct dial;
/* Binds to the address at that place in options.source, as sock_bind_source() does. 0 or -errno. */
typedef int dial_bind_fn(struct dial *d, int fd, size_t place);
/* `status` 0: `d->won` is the connected socket, handed over to the callee (who sets on_event and
 * owner), `d->events` what epoll said with it: they will not come again, and a FIN may be among
 * them; `d->peer` is where it leads. Else -errno: in DIAL_RESOLVE
 * that of query_fn, in DIAL_CONNECT the most telling one of all attempts (refused before timed out
 * before unreachable before the rest, EAFNOSUPPORT last), in DIAL_REFUSED -EACCES: the filter has left no
 * address; `d->refused` is what it said of the first one, `d->peer`.
 * `d->source` is the place in options.source of the address that was used, or that the error is about; -1:
 * none. Of -EADDRNOTAVAIL, `d->no_port` says that a source address of this host had no port left; false: none is of this
 * host. */
typedef void dial_fn(struct dial *d, int status);

struct dial_attempt {
	struct source *source; /* NULL: not connecting */
	struct dial *dial;
	int16_t from;  /* as dial.source */
	uint8_t place; /* of its address in `addrs` */
};

/* Embedded in what dials, zeroed once. The fields below `owner` are private. */
struct dial {
	struct source *won;
	uint32_t events;
	struct addr peer;
	int source;
	int refused;
	bool no_port;
	enum dial_phase phase; /* where it is, or where it failed */
	uint64_t connect_ms; /* when the first attempt at an address was made; after DIAL_RESOLVE */
	const struct dial_filter *filter; /* NULL: none. Set before dialling, and stays */
	void (*answered)(
		struct dial *d); /* no name server is waited for any more; or NULL. The same */
	dial_bind_fn *bind;      /* NULL: sock_bind_source(). The same */
	void *owner;

	dial_fn *done; /* NULL: not dialling */
	struct loop *loop;
	struct sock_options options;
	uint16_t port;
	struct query queries[2]; /* AAAA, A */
	int query_error;
	int connect_error;
	struct timer timer; /* resolution delay, then attempt delay */
	struct task task;   /* reports a failure */
	size_t n_addrs, n_tried;
	size_t n_open; /* attempts on their way */
	/* In the order of trying. These need not be zeroed. */
	struct addr addrs[DIAL_ADDRS_MAX];
	struct dial_attempt attempts[DIAL_OPEN_MAX];
};

/* `done` is called exactly once unless cancelled, and never from inside these calls. */
void dial_addr(struct dial *d, struct loop *loop, const struct sock_options *o,
	       const struct addr *to, dial_fn *done, void *owner);
/* -ENOMEM (then `done` is not called) or 0. */
int dial_name(struct dial *d, struct loop *loop, struct resolver *r, const struct sock_options *o,
	      const char *name, uint16_t port, dial_fn *done, void *owner);

/* Stops everything and closes what is open; fine after the end (what was won stays), and on a
 * zeroed struct. */
void dial_cancel(struct dial *d);
