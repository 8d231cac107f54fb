/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Connections kept ready for flows that will come: connected, and greeted where the protocol has a greeting, so
 * that a flow costs one round trip. One set of them for each worker and configuration; all on the worker's
 * thread.
 *
 * As many are kept as have lately been wanted within the time that it takes to make one, and one more: at least one,
 * at most the worker's share of `warm`. One that grows old is replaced, at an age below that at which
 * this upstream closes what says nothing (found by seeing it do so). One that shows any event is dropped: what waits
 * for a request has nothing to say.
 *
 * An upstream may still be gone without a word. So before the reply has come a flow over such a connection has lost
 * nothing if it fails, and goes again over one of its own; TCP gives up soon (warm_proved()) on a request that nobody
 * acknowledges.
 */
#include "daemon/net/resolve.h"
#include "daemon/upstream/handshake.h"
#include "daemon/upstream/upstreams.h"

/* The oldest that one becomes. */
#define WARM_AGE_MS 30000
/* How long a request over one waits to be acknowledged by the peer's kernel, at least. */
#define WARM_SILENT_MS 2000

struct warms;

struct warms_options {
	struct loop *loop;
	struct upstreams *upstreams; /* a reference is taken */
	struct resolver *resolver;   /* lives until warms_stop() */
	struct buf **scratch; /* where the worker's scratch buffer is, empty between any two uses */
	unsigned worker, n_workers;
};

struct warm_taken {
	struct source *
		source; /* as from a dial: the callee sets on_event and owner; it is writable, and nothing has come */
	struct addr peer;
	int egress;   /* a port of it, for upstream_port_put() */
	bool greeted; /* the handshake goes on with handshake_dest(); else it is to be started */
};

/* Begins to fill at once. *out is NULL where no upstream has `warm`. 0 or -errno with `d`. */
int warms_new(const struct warms_options *o, struct warms **out, struct diag *d);
/* Closes all that are ready; none are made from now on. NULL is fine. */
void warms_stop(struct warms *ws);
/* After that; memory goes at the end of the turn. NULL is fine. */
void warms_free(struct warms *ws);

/* A new flow begins with this upstream (an index in conf.upstreams): the newest connection, if there is one. It then
 * belongs to the caller, who goes on with `h` where it is greeted (otherwise *h is left as it is). `ws` may be
 * NULL. */
bool warm_take(struct warms *ws, size_t upstream, struct handshake *h, struct warm_taken *out);
/* The reply has come over a connection that was taken: from now on its peer may be slow as any other. */
void warm_proved(int fd);

/* What may be open at once in all workers together. */
size_t warms_descriptors(const struct conf *c);
