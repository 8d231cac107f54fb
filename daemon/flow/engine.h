/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One worker: a thread with its own loop, listeners, pools, counters and view of the configuration.
 * Workers share nothing on the data path. The main thread creates and joins engines and reaches a
 * running one only through the functions marked "main thread" below, which post to its loop.
 */
#include <stdatomic.h>

#include "daemon/core/buf.h"
#include "daemon/core/loop.h"
#include "daemon/core/pipes.h"
#include "daemon/core/texts.h"
#include "daemon/egress/guard.h"
#include "daemon/flow/clients.h"
#include "daemon/flow/counts.h"
#include "daemon/flow/half_open.h"
#include "daemon/flow/logins.h"
#include "daemon/flow/plan.h"
#include "daemon/flow/refusals.h"
#include "daemon/flow/resolving.h"
#include "daemon/flow/server_first.h"
#include "daemon/flow/udp.h"
#include "daemon/flow/why.h"
#include "daemon/net/listener.h"
#include "daemon/net/owner.h"
#include "daemon/net/resolve.h"
#include "daemon/net/sock.h"
#include "daemon/upstream/flight.h"
#include "daemon/upstream/warm.h"

struct leg;
struct session;

/* How flows come in: the first state of a session. One constant for each daemon. */
struct inbound {
	/* A connection was accepted; must lead to session_admit() and to session_connect() or session_end(). */
	void (*start)(struct session *s);
	/* The client's socket has news while the session waits for its request (SES_REQUEST). */
	void (*client_ready)(struct session *s);
	/* Tells a waiting client how set-up ended, WHY_DONE: the remote end is connected. 0 if there was
	 * nothing to say or all of it is sent, -errno if the client could not be told. NULL: this way in
	 * has no word for it, a failure is shown as a reset. */
	int (*answer)(struct session *s, enum why why, int err);
};

/* What a worker has of one upstream for itself. */
struct view_upstream {
	struct flight flight; /* what was learned of it */
};

/* One configuration as this worker uses it. Flows keep the view they began with. */
struct view {
	struct engine *engine;
	struct plan *plan;
	struct resolver *resolver;
	struct warms *warms;              /* while it is current; or NULL */
	struct sock_options sock;         /* towards destinations and name servers */
	struct guard guard;               /* usocksd: of what is dialled for clients */
	unsigned refs;                    /* flows, and one while it is current */
	struct view_upstream upstreams[]; /* as in the configuration */
};

/* How many flows there are in all workers, and may be. With `clients` and `logins` the one thing they share; touched when
 * a flow comes and when it goes. A worker looks after it has accepted, so each but the first may be over by one. */
struct budget {
	atomic_size_t live;
	atomic_size_t max;      /* the main thread changes it at a reload */
	unsigned n_workers;     /* constant */
	atomic_size_t udp_live; /* UDP associations among them */
	atomic_size_t udp_max;  /* as `max` */
	struct clients clients;
	struct half_open_budget half_open;
	struct resolving_budget resolving;
	struct logins logins;         /* where auth.file is set */
	atomic_uint_fast64_t said_ms; /* when it was last logged that new flows wait */
};

struct engine {
	struct loop loop;
	unsigned id;
	pthread_t thread;
	const struct inbound *inbound;
	struct view *view;
	struct pool sessions, rares, setups, binds, bufs, udps;
	struct texts texts;  /* names and users */
	struct buf *scratch; /* empty between any two uses */
	struct pipes pipes;
	struct owner owns;          /* which connections are our own */
	struct own_addrs own_addrs; /* where flows may go directly */
	struct server_first server_first;
	struct login_desk desk;
	struct list bulky;  /* the pipes in use */
	struct timer sweep; /* set while there are some */
	struct list live;
	size_t n_live;         /* SHARED_GET() by other threads */
	struct budget *budget; /* when it is used up, accepting pauses */
	struct timer pause;    /* until another worker's flow may have ended */
	size_t n_refusing;     /* clients over their limit that are still to be told */
	struct refusals refusals;
	struct half_open half_open; /* usocksd */
	size_t n_resolving;         /* usocksd: flows and orphans that wait for name servers */
	struct pool orphans, rests;
	struct list orphaned;
	struct listener *listeners;
	size_t n_listeners;
	bool paused, draining;
	struct post drain, cut;
	uint64_t ended[WHY_COUNT]; /* SHARED_GET() by other threads, as: */
	struct counts counts;
	uint64_t udp_dropped[UDP_DROP_COUNT];
	void (*on_finish)(struct engine *e); /* on the engine's thread, once drained */
	void *owner;
	struct post finished; /* of the owner */
};

/* Main thread, before the thread runs. 0 or -errno with `d`. */
int engine_init(struct engine *e, unsigned id, const struct inbound *inbound, struct budget *budget,
		size_t max_listeners, size_t max_pipes, struct diag *d);
/* Takes over `fd`. */
int engine_listen(struct engine *e, int fd, const struct addr *addr, struct diag *d);
/* Makes `plan` current for new flows (takes a reference of its own). Also on the engine's thread. */
int engine_use(struct engine *e, struct plan *plan, struct diag *d);
int engine_start(struct engine *e, void (*on_finish)(struct engine *e), void *owner,
		 struct diag *d);

/* Main thread, while it runs. */
/* Brings `plan` to all workers; the last one that has taken it says so in the log. */
void engines_reload(struct engine *engines, unsigned n, struct plan *plan);
void engine_drain(struct engine *e); /* stops accepting, lets flows finish, then finishes */
void engine_cut(struct engine *e);   /* ends every flow now; after engine_drain() */

/* Main thread, once the thread has been joined or if there never was one. */
void engine_destroy(struct engine *e);

/* Engine's thread. */
void engine_flow_ended(struct engine *e, enum why why);
void engine_flow_released(struct engine *e);
struct view *view_ref(struct view *v);
void view_unref(struct view *v);
/* Gives the scratch buffer, with what is in it, to a flow, and takes a fresh one. NULL: no memory; the
 * scratch buffer is then empty again. */
struct buf *engine_keep_scratch(struct engine *e);
/* Gives `leg` a pipe if there is one. It is taken back when the leg has been quiet for a moment. */
bool engine_give_pipe(struct engine *e, struct leg *leg);
/* Fine without one. */
void engine_take_pipe(struct engine *e, struct leg *leg);
