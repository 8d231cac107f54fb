/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A flow's life, from accept to the access record. The session owns both descriptors, all timers and
 * buffers; session_end() is the only way out and the only place that logs a failure. Everything runs on
 * the worker's thread.
 *
 *   [SES_REQUEST] --> SES_DIAL --> [SES_HANDSHAKE] --> SES_RELAY --> end
 *             |            ^---next upstream---'     |     (usocksd, set-up failed: SES_LINGER --> end)
 *             '----------> [SES_BIND] ---------------'   (remote end lost: SES_FLUSH --> end)
 *
 * What only set-up needs lives in struct setup and goes back to its pool when the relay begins.
 */
#include "daemon/egress/name_guard.h"
#include "daemon/flow/bind.h"
#include "daemon/flow/engine.h"
#include "daemon/flow/rest.h"
#include "daemon/net/dial.h"
#include "daemon/proto/socks_server.h"
#include "daemon/proto/sniff.h"
#include "daemon/upstream/handshake.h"

enum session_state {
	SES_REQUEST,   /* waiting for what the client wants, or says first */
	SES_DIAL,      /* connecting to the upstream or the destination */
	SES_BIND,      /* usocksd: the peer that the client has named is to connect to us */
	SES_HANDSHAKE, /* with the upstream */
	SES_RELAY,
	SES_UDP,   /* usocksd: datagrams instead, as long as the client's connection lives */
	SES_FLUSH, /* the remote end was lost; the client takes what came before that, then a reset */
	SES_LINGER, /* the client has been told of a failure and may read that before we close */
	SES_ENDED,
};

/* Where the destination's name comes from: the client's request (usocksd), or what it sent first. */
enum name_from {
	NAME_FROM_REQUEST,
	NAME_FROM_TLS,
	NAME_FROM_TLS_OUTER,
	NAME_FROM_HTTP,
	NAME_FROM_PROXY, /* usocksd: a trusted proxy's header; the request is by address */
};

/* One of the two connections of a flow, client and remote, mirrored halves. What is read from a leg
 * goes to the other one. */
struct leg {
	struct source *source; /* NULL: not connected */
	struct buf *pending;   /* read from this leg by copying, not passed on yet */
	struct pipe *pipe; /* where what is read from this leg goes, while it is bulky; or NULL */
	uint64_t nbytes;   /* read from this leg and passed on */
	bool readable;     /* what edge-triggered epoll last said, less what we found out since */
	bool writable;
	bool behind;    /* a short read is not the last: a FIN or an urgent mark comes after it */
	bool urgent;    /* urgent data has come: splice(2) would stop at the mark for good */
	bool broken;    /* reset or timed out: what is still readable is all there will be */
	bool eof;       /* FIN read */
	bool finished;  /* ... and passed on: nothing more comes from this leg */
	bool overdue;   /* owed an answer for too long when relay.c last looked */
	int err;        /* what `broken` was seen by, if that was a call of ours; or 0 */
	uint32_t burst; /* bytes copied in large pieces, one after the other */
};

/* What comes before `dial.addrs` is zero at first; the rest is set by whoever uses it. */
struct setup {
	struct listener *listener; /* that the client came in by */
	uint64_t deadline_ms;      /* of all set-up together; 0: none */
	enum why timeout_why;      /* what it means if the phase's timer fires */
	bool again;                /* `way` is that of a second attempt */
	enum flight_way way;
	uint64_t began_ms;       /* the attempt at this upstream */
	uint64_t reply_ms;       /* since when the reply is waited for */
	uint64_t reply_spent_ms; /* of timeouts.reply, by the first attempt */
	uint8_t n_order, at;     /* the upstreams to try, and which of them is tried */
	bool proxied;            /* through an upstream, not directly */
	bool told;               /* what the attempt at the upstream has shown of its health */
	bool never_direct;       /* an attempt failed, but not because the upstream is down */
	bool tells_name;         /* to the upstream, instead of the address */
	bool told_address;       /* once the upstream could not resolve the name */
	bool warm;               /* over a connection that was kept ready, whose peer may be gone */
	bool header;             /* usocksd: a PROXY protocol header may come first */
	bool unnamed;            /* usocksd: a trusted proxy that names no client */
	struct rule_verdict verdict;
	struct login login;      /* usocksd */
	struct session *session; /* usocksd: whose set-up it is */
	struct list half_open;   /* usocksd */
	uint64_t half_open_ms;   /* since when */
	enum half_open_state half_open_state;
	struct bind *bind; /* usocksd: in SES_BIND; or NULL */
	struct rest *rest; /* usocksd: of a message; or NULL */
	bool resolving;    /* usocksd: has a place among those that wait for name servers */
	struct dial dial;
	union {
		struct { /* transocksd */
			uint16_t order[UPSTREAM_TRIES_MAX];
			struct name_guard
				name_guard; /* of `dial`, where a name says where to go directly */
			union {
				struct sniff sniff; /* until its name is taken */
				struct handshake handshake;
			};
		};
		struct { /* usocksd */
			struct socks_server server;
			struct egress_choice egress;
		};
	};
};

/* What few flows have, above all to tell in the access record. */
struct session_rare {
	struct addr via;     /* usocksd: the trusted proxy that named the client; or AF_UNSPEC */
	struct addr dialled; /* instead of `dest`, where the name leads; or AF_UNSPEC */
	char *user;          /* as the client calls itself; or NULL */
	struct udp *udp;     /* usocksd: of a UDP association; or NULL */
	uint16_t failed; /* the last upstream that was passed over, 1 for the first one; 0: none */
	uint8_t failed_why;        /* enum why, of: */
	int failed_err;            /* an errno, or 0 */
	const char *failed_detail; /* what it was passed over for, or NULL */
};

struct session {
	struct list node; /* engine->live */
	struct engine *engine;
	struct view *view;
	struct setup *setup; /* NULL once the relay has begun */
	struct upstream
		*upstream; /* that carries it or is tried; counts it. NULL: none, or not yet */
	struct leg client, remote;
	struct timer timer;
	union {
		struct task task;
		struct dying dying; /* SES_ENDED */
	};
	uint64_t start_ms;
	uint64_t active_ms;       /* when a byte last moved */
	uint64_t look_ms;         /* when relay.c looks for vanished peers again; 0: never */
	uint64_t settled_ms;      /* when it last saw that neither leg owes an answer */
	struct egress_addr *from; /* counts the remote end; or NULL */
	struct addr client_addr;
	struct addr
		src_addr; /* usocksd: of the remote end, on our side; AF_UNSPEC: not connected */
	struct addr dest; /* AF_UNSPEC: not known yet, or a name that has not been resolved */
	char *name;       /* the destination's name where one is known; or NULL */
	struct session_rare *rare; /* or NULL; session_rare() */
	uint32_t
		held; /* bytes that both peers had not acknowledged at the last look; 0: not looked at yet */
	uint32_t setup_ms;    /* from `start_ms`, where `granted` */
	uint16_t port;        /* of the destination */
	uint16_t rule;        /* that decided, 1 for the first one; 0: none */
	uint16_t observed;    /* that only looked on, the same */
	uint8_t state;        /* enum session_state */
	uint8_t name_from;    /* enum name_from */
	uint8_t protocol;     /* enum socks_protocol */
	uint8_t command;      /* enum socks5_command, once there is a protocol */
	uint8_t n_tries;      /* upstreams tried */
	bool has_port;        /* the upstream counts a port of ours, */
	int16_t egress;       /* from that source address (dial.source) */
	bool direct : 1;      /* goes, or went, to its destination itself */
	bool all_down : 1;    /* ... because no upstream of its group is there (when_all_down) */
	bool watch_first : 1; /* who speaks first at this destination is to be learned */
	bool ack_held : 1; /* the remote end has not seen us yet: the ACK goes with the client's first bytes */
	bool half_broken : 1; /* one peer is lost; the other one still takes what came before that */
	bool stalled : 1;     /* given up because the other side takes nothing */
	bool kept_alive : 1;  /* the remote end has keepalive too */
	bool counted : 1;     /* in engine->budget->clients */
	bool counted_bind : 1; /* there as well, as a BIND */
	bool granted : 1;      /* it has what it asked for: counts_granted() */
	bool refused : 1; /* the client is over its limit, and is told when it has made its request */
};

/* Zero at first. NULL: no memory. */
struct session_rare *session_rare(struct session *s);

/* Its UDP association; or NULL. */
static inline struct udp *session_udp(const struct session *s)
{
	return s->rare != NULL ? s->rare->udp : NULL;
}

/* The trusted proxy that named the client; or NULL. */
const struct addr *session_via(const struct session *s);

/* A client came in: takes over `fd`. */
void session_accept(struct engine *e, struct listener *l, int fd, const struct addr *peer);

/* Counts the flow for its client; the first thing once that is known. False: there are too many and it has been ended. */
bool session_admit(struct session *s);

/* The destination's name, which takes the place of an earlier one. False: no memory, and it has been ended. */
bool session_keep_name(struct session *s, const char *name, enum name_from from);

/* Before the relay: reads once behind what `in` holds. How many bytes came; 0: the end of the stream; -EAGAIN: none now;
 * or another -errno. */
ssize_t leg_receive(struct leg *leg, struct buf *in);

/* The connected remote end, with what epoll has said of it so far. */
void session_take_remote(struct session *s, struct source *source, uint32_t events);
/* Closes the remote end, so that another one can be connected; fine without one. */
void session_close_remote(struct session *s);
/* This flow does not count for its upstream any more; fine without one. */
void session_leave_upstream(struct session *s);

/* Ends the flow: tells the client, closes both legs (with a reset unless `why` is WHY_DONE), writes the
 * record, gives everything back at the end of the turn. `err` is an errno or 0, `detail` a constant
 * sentence that says more than the errno, or NULL. Ended already: nothing happens. */
void session_end(struct session *s, enum why why, int err, const char *detail);
/* A call on one of the connections failed with `err` (an errno): ends with `why`, or as WHY_NO_MEMORY where that
 * is about this host. */
void session_end_failed(struct session *s, enum why why, int err);
