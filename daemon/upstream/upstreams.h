/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The upstreams of one configuration at run time: who is healthy, how many flows each has, what became of attempts.
 * One table for all workers and the main thread: the numbers are atomics, and a healthy flow takes no lock.
 *
 * What was learned of an upstream belongs to its name and URL and lives on in the table of the next configuration
 * (`struct upstream_run`); flows keep the table that they began with, through their view. This is also where
 * a change of health is logged, once.
 *
 * What an attempt tells (flow, warm connection or probe alike):
 *
 *   upstream_connected()   TCP is connected. Only counted: a program that hangs is connected to by its kernel.
 *   upstream_greeted()     it answered the greeting as it should: it works. Nothing where the protocol has none.
 *   upstream_failed()      it did not connect; or closed, was silent, spoke something else or refused our password before
 *                          it was ready for a request.
 *   upstream_unknown()     the attempt ended in between for a reason of ours or the client's.
 *   upstream_replied()     what became of the request. A refusal, and silence after the greeting, are about the
 *                          destination, and one scanner must not eject every proxy. Where the protocol has no greeting,
 *                          the reply is the first word, and whatever it is shows that the upstream works.
 *
 * Every upstream_order()ed attempt must end in one of greeted, failed and unknown; or replied, where there is no greeting.
 */
#include "daemon/net/sock.h"
#include "daemon/upstream/health.h"
#include "policy/balance.h"
#include "policy/conf.h"

/* For one flow; where they do not refuse at once, timeouts.flow_setup allows fewer. */
#define UPSTREAM_TRIES_MAX 32

enum upstream_failure {
	UPSTREAM_FAILED_RESOLVE,  /* its name had no address */
	UPSTREAM_FAILED_CONNECT,  /* it could not be connected to */
	UPSTREAM_FAILED_GREETING, /* it was not ready for a request in time, or refused us */
	UPSTREAM_FAILED_PROBE,    /* a probe did not reach probe_dest */
	UPSTREAM_FAILED_COUNT
};
extern const char *const upstream_failure_words[UPSTREAM_FAILED_COUNT];

/* What became of a request, once the upstream was ready for it. */
enum upstream_reply {
	UPSTREAM_REPLY_DONE,     /* the destination was reached */
	UPSTREAM_REPLY_DEST,     /* it could not be reached */
	UPSTREAM_REPLY_POLICY,   /* such requests are not allowed */
	UPSTREAM_REPLY_UPSTREAM, /* the upstream failed by itself */
	UPSTREAM_REPLY_NONE,     /* no reply came */
	UPSTREAM_REPLY_COUNT
};
extern const char *const upstream_reply_words[UPSTREAM_REPLY_COUNT];

/* One of our addresses towards an upstream, and the ports of it that are in use there. */
struct upstream_source {
	struct upstream_source *next;
	struct addr addr; /* AF_UNSPEC: the kernel chooses */
	atomic_size_t ports;
	atomic_bool said; /* that they are getting scarce */
};

/* All of them towards one address: it is what ports are used up towards, by whatever upstreams are there. */
struct upstream_ports {
	atomic_uint refs;
	struct addr addr; /* with its port; AF_UNSPEC: what follows */
	char host[256];
	uint16_t port;
	struct upstream_source *sources; /* grows only; the main thread adds */
};

struct upstream_last_failure {
	enum upstream_failure kind;
	int err;            /* errno or 0 */
	const char *detail; /* constant words, or NULL */
	uint64_t at_ms;
};

/* What is known of an upstream, whatever configuration names it. */
struct upstream_run {
	atomic_uint refs;
	char *name;
	struct proxy_url url;
	uint64_t identity; /* balance_identity() */
	struct health health;
	atomic_size_t flows; /* live */
	atomic_size_t warm;  /* connections kept ready */
	atomic_uint turn;    /* of the source addresses */
	atomic_uint_fast64_t connects;
	atomic_uint_fast64_t failures[UPSTREAM_FAILED_COUNT];
	atomic_uint_fast64_t replies[UPSTREAM_REPLY_COUNT];
	atomic_bool has_failed;
	pthread_mutex_t lock;              /* guards `last` */
	struct upstream_last_failure last; /* where has_failed */
	struct upstream_ports *ports;
};

/* An upstream of one configuration. */
struct upstream {
	const struct upstream_conf *conf;
	struct upstreams *all;
	struct upstream_run *run;
	struct upstream_source **sources; /* as in conf->source; or one that the kernel chooses */
	size_t n_sources;
	char url[PROXY_URL_TEXT_MAX]; /* for logs */
};

struct upstream_group {
	atomic_uint_fast64_t turn;
	atomic_bool down; /* every member is ejected, and that was said */
};

struct upstreams {
	atomic_uint refs;
	struct conf *conf;
	size_t n_ports; /* of one address of ours to one of theirs: net.ipv4.ip_local_port_range */
	struct upstream *items; /* as in conf->upstreams */
	size_t n;
	struct upstream_group *groups; /* as in conf->groups */
};

/* The table of `conf` (takes a reference of its own). What `previous` (may be NULL) knows of an upstream with the same
 * name and URL goes on. *out is new with one reference. 0 or -ENOMEM with `d`. Main thread. */
int upstreams_new(struct conf *conf, struct upstreams *previous, struct upstreams **out,
		  struct diag *d);
/* Any thread. */
struct upstreams *upstreams_ref(struct upstreams *u);
void upstreams_unref(struct upstreams *u); /* NULL is fine */

/* In which order a new flow of `client` tries the members of `group` (an index in conf.groups): writes at most
 * UPSTREAM_TRIES_MAX indices in conf.upstreams and returns how many. Usable ones first; then, unless
 * the group's when_all_down is "direct", those that are ejected, beginning with the one that is due back first: with
 * all of them out of order a flow is not worse off than without any of this. At most one flow at a time is given
 * one whose ejection is over. 0: no member is left, or there are none. Where all tries have failed, when_all_down
 * says what is next, of a group that is down (upstreams_are_down()). */
size_t upstreams_order(struct upstreams *u, size_t group, const struct addr *client,
		       uint64_t now_ms, uint16_t out[UPSTREAM_TRIES_MAX]);
/* Whether each member of the group is ejected. */
bool upstreams_are_down(const struct upstreams *u, size_t group, uint64_t now_ms);

/* `began_ms` is when that attempt was begun: in loop time, as is `now_ms`. */
void upstream_connected(struct upstream *up);
/* Whether there is a greeting, so that it is known before the reply whether it works. */
bool upstream_greets(const struct upstream *up);
void upstream_greeted(struct upstream *up, uint64_t began_ms, uint64_t now_ms);
/* `err` is an errno or 0, `detail` constant words or NULL. What this host refuses by itself (upstream_is_to_blame()) is
 * taken as upstream_unknown(). */
void upstream_failed(struct upstream *up, enum upstream_failure kind, int err, const char *detail,
		     uint64_t began_ms, uint64_t now_ms);
void upstream_unknown(struct upstream *up, uint64_t began_ms);
/* A probe has gone as far as it was to go. Of one that was but `connected`, without a word from the upstream, an
 * ejection is not over. */
void upstream_probed(struct upstream *up, bool connected, uint64_t began_ms, uint64_t now_ms);
void upstream_replied(struct upstream *up, enum upstream_reply reply, uint64_t began_ms,
		      uint64_t now_ms);

/* Whether a connect or a send that failed with `err` (an errno) can be the upstream's fault. A lack of memory,
 * descriptors or ports is not, nor what the rules of this host forbid (EPERM, EACCES), nor a source address that
 * is not ours or not of its family. "No route" is: it may be missing anywhere on the way, and if it is missing here
 * for all of them, being ejected together changes nothing. */
bool upstream_is_to_blame(int err);

/* Calls `say` for each source address that this host does not have. Flows do without it, as long as there are others. */
typedef void upstream_remark_fn(void *ctx, const struct upstream_conf *up, const char *text);
void upstreams_remark_sources(const struct conf *c, upstream_remark_fn *say, void *ctx);

/* A live flow, from when it is given to the upstream (retries: only the one that carries it). */
void upstream_flow_begin(struct upstream *up);
void upstream_flow_end(struct upstream *up);

/* How a connection to it is dialled: from its source addresses in turn. `speaks_first` as in net/sock.h. They live as long
 * as `up`. */
struct sock_options upstream_sock_options(struct upstream *up, bool speaks_first);
/* A connection (flow or warm) has been made from dial.source, and is closed. */
void upstream_port_take(struct upstream *up, int source);
void upstream_port_put(struct upstream *up, int source);

/* "up", "ejected", "trying" or "returning". */
const char *upstream_state_word(const struct upstream *up, uint64_t now_ms);
/* The same in more words for a person, such as "ejected for 12 s", into `out`, which is returned. */
#define UPSTREAM_STATE_TEXT_MAX 64
const char *upstream_state_format(const struct upstream *up, uint64_t now_ms, char *out,
				  size_t cap);
/* "connect: Connection refused"; "" if it has never failed. */
#define UPSTREAM_FAILURE_TEXT_MAX 192
const char *upstream_failure_format(const struct upstream *up, char *out, size_t cap);
