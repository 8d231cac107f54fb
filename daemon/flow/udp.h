/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * UDP associations (RFC 1928 section 7), in place of the relay: datagrams of one client, each with a header that says where
 * it goes or comes from. An association lives as long as the TCP connection that asked for it, and moves what comes
 * as a task, bounded in each turn, so that a flood does not hold up the flows beside it.
 *
 * It has one socket towards the client, and one of each family towards destinations, made when it is first sent to. Who
 * may send is the client alone; what comes back must come from an address that it has sent to. What cannot go on is
 * dropped and counted, for nobody could be told.
 *
 * Everything runs on the session's thread; the session owns all of it.
 */
#include "daemon/core/buf.h"
#include "daemon/core/timer.h"
#include "daemon/egress/egress.h"
#include "daemon/flow/udp_peers.h"
#include "daemon/net/resolve.h"
#include "daemon/proto/socks5_udp.h"
#include "policy/acl.h"

/* clang-format off */
/* Why a datagram is dropped: the words of the log and the status; a test compares the manual with them. */
/*          id                   word          what the datagrams were */
#define UDP_DROP_TABLE(ROW) \
	ROW(UDP_DROP_SENDER,     "sender",     "not from the address and port of the client") \
	ROW(UDP_DROP_FRAGMENT,   "fragment",   "fragments, which are not put together") \
	ROW(UDP_DROP_MALFORMED,  "malformed",  "without a header, or a destination that can be") \
	ROW(UDP_DROP_REFUSED,    "refused",    "to where the configuration forbids") \
	ROW(UDP_DROP_UNRESOLVED, "unresolved", "to a name that has no address, or no answer") \
	ROW(UDP_DROP_WAITING,    "waiting",    "more than may wait for names") \
	ROW(UDP_DROP_STRANGER,   "stranger",   "from where the client has not sent to") \
	ROW(UDP_DROP_BUSY,       "busy",       "more than the system takes at once") \
	ROW(UDP_DROP_UNSENT,     "unsent",     "what the system cannot send: no way there, too large")
/* clang-format on */

enum udp_drop {
#define UDP_DROP_ID(id, word, text) id,
	UDP_DROP_TABLE(UDP_DROP_ID)
#undef UDP_DROP_ID
		UDP_DROP_COUNT,
};

extern const char *const udp_drop_words[UDP_DROP_COUNT];

#define UDP_DESTS 8 /* destinations of one association whose verdict is remembered */
/* Datagrams that wait for one name, and for all; their bytes fill one struct buf at most. */
#define UDP_WAITING_NAME_MAX 8
#define UDP_WAITING_MAX      32

struct session;
struct udp;

enum udp_dest_state {
	UDP_DEST_UNKNOWN,
	UDP_DEST_OPEN,
	UDP_DEST_MALFORMED,
	UDP_DEST_REFUSED,
	UDP_DEST_UNRESOLVED,
};

/* What a header of the client's names, and what came of asking about it. */
struct udp_dest {
	uint8_t state;   /* enum udp_dest_state */
	uint8_t first;   /* of `to`, the one that works */
	uint8_t refused; /* enum acl_verdict */
	uint8_t n_waiting;
	bool resolving; /* has a place (resolving.h) */
	uint16_t head_len;
	uint16_t port;
	uint64_t until_ms;       /* what is known counts */
	uint64_t used;           /* udp->n_asked when it was last asked for; 0: free */
	struct addr to[2];       /* IPv6, IPv4; each may be AF_UNSPEC */
	struct addr found[2];    /* the same of the answers that come in */
	struct query queries[2]; /* AAAA, A */
	struct timer timer;      /* for the slower one of them */
	struct udp *udp;
	uint8_t head[SOCKS5_UDP_HEAD_MAX];
};

struct udp_end {
	struct source *source; /* NULL: no socket */
	bool readable;
	uint64_t again_ms;        /* it could not be made, and this is when it is tried again */
	int err;                  /* what it could not be made by */
	struct egress_addr *from; /* counts it; or NULL */
	uint64_t nbytes_up, nbytes_down; /* passed on by it */
};

struct udp {
	struct session *session;
	struct udp_end client, remotes[2]; /* IPv6, IPv4 */
	struct egress_choice egress;
	struct addr bound;     /* where the client sends to */
	struct addr sender;    /* where it sends from; port 0: not known yet */
	uint64_t n_up, n_down; /* datagrams passed on */
	uint64_t dropped[UDP_DROP_COUNT];
	char *refused; /* the first destination that was, as the client called it; or NULL */
	enum acl_verdict refused_why;
	uint64_t n_asked;
	struct udp_dest dests[UDP_DESTS];
	struct buf *waiting; /* datagrams that wait for names; or NULL */
	unsigned n_waiting;
	struct udp_peers peers;
};

/* The request is complete, `dest` is where the client says that it will send from: answers it, and the association begins. */
void udp_start(struct session *s, const struct proto_dest *dest);
/* SES_UDP: the client's TCP connection has news. */
void udp_client_event(struct session *s);
/* The session ends. Fine without an association. */
void udp_stop(struct session *s);
/* Gives the memory back, at the end of the turn; fine without one. */
void udp_release(struct session *s);

/* --- of its parts --- */

/* udp.c */
void udp_drop(struct udp *u, enum udp_drop why);
/* Sends to where access control allows it. 0 or -errno. */
int udp_send_to(struct udp *u, const struct addr *to, const uint8_t *payload, size_t n);

/* udp_dests.c */
/* A datagram of the client's, whose header is `head_len` bytes: it is sent, waits for its name, or is dropped. */
void udp_dests_pass(struct udp *u, const uint8_t *in, size_t n, size_t head_len);
void udp_dests_stop(struct udp *u);
