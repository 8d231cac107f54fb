/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The handshake with an upstream over a connected, non-blocking socket: drives the pure state machines of
 * proto/ with what the socket takes and gives. It sets no timer and closes nothing: the owner does.
 * Same thread as the owner of the socket.
 */
#include "daemon/core/buf.h"
#include "daemon/proto/client.h"
#include "policy/url.h"

/* Before the handshake proper: PROXY v2 with both addresses and a name. */
#define HANDSHAKE_HEADER_MAX 512

enum handshake_result {
	HANDSHAKE_WAIT, /* for the socket: go on when it is readable or writable */
	HANDSHAKE_READY, /* all is sent and heard that can be without a destination: handshake_dest() */
	HANDSHAKE_DONE,    /* `in` holds only payload now */
	HANDSHAKE_REFUSED, /* the upstream answered no: `reply`, `error`, `blame` */
	/* The upstream does not speak the protocol, or refuses our method; or the destination cannot be told in it
	 * (BLAME_DEST): `error`, `blame` */
	HANDSHAKE_BAD,
	HANDSHAKE_CLOSED, /* the upstream closed the connection: `error`, `blame` */
	HANDSHAKE_FAILED, /* the socket failed: `err`, `blame` */
};

struct handshake {
	bool begun;                 /* handshake_start() was called; whoever goes again clears it */
	bool spoken;                /* private: the client has taken its first step */
	struct proto_client client; /* private */
	struct proto_dest dest;     /* private */
	unsigned reply;             /* as in proto/client.h */
	const char *error;
	enum proto_blame blame;
	bool refused_user;
	int err;                 /* errno */
	size_t out_off, out_len; /* private */
	uint8_t out[HANDSHAKE_HEADER_MAX + PROTO_OUT_MAX];
};

/* `upstream` is a proxy and lives until the handshake is over. The `header_len` bytes at `header`, up to
 * HANDSHAKE_HEADER_MAX, are sent first; they are copied. With `one_flight`, which is SOCKS5's
 * (socks5_client_one_flight()), the destination follows before the first step. */
void handshake_start(struct handshake *h, const struct proxy_url *upstream, const uint8_t *header,
		     size_t header_len, bool one_flight);
/* Where to go, once; it is copied. Without it the handshake ends in HANDSHAKE_READY, and goes on from there when
 * it has been told. At HANDSHAKE_READY (only then) a handshake may be moved by assignment. */
void handshake_dest(struct handshake *h, const struct proto_dest *dest);
/* Whether it ended so, by an answer or because the name cannot be written, that perhaps the upstream could have gone
 * to the destination if it had been told the address: its words for "not resolved" stand for other troubles, too. */
bool handshake_may_be_name(const struct handshake *h, enum handshake_result result);
/* Whether it is the greeting that is waited for: until the first answer has come, then the reply. Only SOCKS5 has a
 * greeting. */
bool handshake_greeting(const struct handshake *h);
/* Sends and receives as much as the socket lets. `in` collects what was received and not consumed;
 * what is in it at HANDSHAKE_DONE is the first payload. *readable is what edge-triggered epoll last said,
 * and is cleared once the socket is found empty; `behind`: a short read is not the last, something comes
 * after it. At HANDSHAKE_READY nothing is received: whoever keeps such a connection looks whether it is readable,
 * which only a dead one is. */
enum handshake_result handshake_step(struct handshake *h, int fd, struct buf *in, bool *readable,
				     bool behind);
