/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The control socket of a daemon: a unix stream socket on which a program asks and is answered. One request
 * for each connection, one line:
 *
 *   status        what there is to tell, as one JSON object
 *   status text   the same for a person
 *   suggest       rules that would let what observing rules have seen go on, as TOML
 *   rules keep    keep the netlink socket that comes with the request (SCM_RIGHTS), see lend.h
 *   rules lend    the answer brings that socket; the loan ends with the connection
 *   rules drop    close it
 *   rules lend anyway  as "rules lend", also by a daemon that is ending
 *   give way      a daemon that is ending leaves its path to its successor
 *   give way WHAT the same, and the socket that it keeps if it serves just that
 *
 * From "rules keep" on they are for root and the daemon's own user, and answered by {} or an error. Anything
 * else is answered by {"error": "..."}. Few connections at once, each with little time and room; further ones
 * wait in the kernel's queue. Nothing here blocks but the wait for one that might give way. Main thread; the other
 * side is control_client.h.
 */
#include <sys/types.h>

#include "daemon/admin/lend.h"
#include "daemon/core/priv.h"
#include "daemon/net/listener.h"
#include "policy/strbuf.h"

#define CONTROL_CLIENTS_MAX 8
#define CONTROL_REQUEST_MAX 256 /* bytes with the newline */
#define CONTROL_TIME_MS     2000
#define CONTROL_LOAN_MS     60000
/* For the answer to "give way": before there are flows, and while main has signals to look after. */
#define CONTROL_GIVE_WAY_MS       1000
#define CONTROL_GIVE_WAY_AGAIN_MS 100
#define CONTROL_PATH_MAX          108 /* with the NUL; what struct sockaddr_un takes, unix(7) */

enum control_request {
	CONTROL_MORE, /* not whole yet */
	CONTROL_STATUS,
	CONTROL_STATUS_TEXT,
	CONTROL_SUGGEST,
	CONTROL_RULES_KEEP,
	CONTROL_RULES_LEND,
	CONTROL_RULES_DROP,
	CONTROL_RULES_LEND_ANYWAY,
	CONTROL_GIVE_WAY,
	CONTROL_UNKNOWN,
};

/* What the bytes of a connection ask for; `ended`: there will be no more. Pure. */
enum control_request control_parse(const char *bytes, size_t len, bool ended);

/* The rules that are kept lead to one port, in one mode; who takes them over must be there. */
#define CONTROL_SERVES_MAX 32

/* Appends the answer to CONTROL_STATUS, CONTROL_STATUS_TEXT or CONTROL_SUGGEST. */
typedef void control_fn(void *ctx, enum control_request request, struct strbuf *out);

struct control_client {
	struct control *control;
	struct source *source; /* NULL: free */
	struct timer timer;
	struct strbuf answer;
	size_t sent;       /* of the answer */
	size_t len;        /* of the request */
	int passed_fd;     /* came with the request; -1: none */
	int lent_fd;       /* goes with the answer, and stays lend.h's; -1: none */
	bool is_successor; /* then the connection lasts as long as it lives */
	char request[CONTROL_REQUEST_MAX];
};

struct control {
	struct listener listener;
	struct control_client clients[CONTROL_CLIENTS_MAX];
	struct lend rules;
	int predecessor; /* our connection to who gave us way, which sees by it how long we live; -1: none */
	struct timer come_back; /* set: we gave way, and the successor has ended */
	uint32_t come_back_ms;
	control_fn *on_request;
	void *ctx;
	char serves[CONTROL_SERVES_MAX];
	char path[CONTROL_PATH_MAX]; /* "": never started */
	dev_t dev;                   /* of the file that we made, or both 0 */
	ino_t ino;
	bool ending;
};

struct control_options {
	const char *path;
	const struct priv_user *user;
	const char *
		serves; /* a few words for where flows are taken, the same in who serves the same */
	control_fn *on_request;
	void *ctx;
};

/* Makes the socket at `path`, mode 0660, and its directory if that is missing, mode 0755; both
 * belong to `user` if that is to be become. What a dead daemon has left is replaced. 0 or -errno with `d`:
 * -EADDRINUSE if somebody answers there who does not give way. Before privileges are dropped. */
int control_start(struct control *c, struct loop *loop, const struct control_options *o,
		  struct diag *d);
/* Tries again after -EADDRINUSE, as the user that we are by now; the same results. */
int control_retry(struct control *c, struct diag *d);
/* The daemon is about to end: from here on a successor that asks gets the path, and what is kept of the
 * rules, which then last until both have ended. Should it end first, we answer at the path again. */
void control_ending(struct control *c);
/* Closes all, and removes the file if it is still ours. Fine if control_start() failed or was never called
 * (all zero). */
void control_stop(struct control *c);
