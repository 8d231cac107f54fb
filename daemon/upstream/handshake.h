/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The handshake with an upstream over a connected, non-blocking socket: drives the pure state machine of
 * proto/ with what the socket takes and gives. It sets no timer and closes nothing: the session does.
 * Same thread as the session.
 */
#include "daemon/core/buf.h"
#include "daemon/proto/socks5.h"
#include "policy/url.h"

enum handshake_result {
	HANDSHAKE_WAIT,    /* for the socket: go on when it is readable or writable */
	HANDSHAKE_DONE,    /* `in` holds only payload now */
	HANDSHAKE_REFUSED, /* the upstream answered no: `reply`, `error` */
	HANDSHAKE_BAD, /* the upstream does not speak the protocol, or refuses our method: `error` */
	HANDSHAKE_CLOSED, /* the upstream closed the connection: `error` */
	HANDSHAKE_FAILED, /* the socket failed: `err` */
};

struct handshake {
	struct socks5_client client;
	struct proto_dest dest; /* to be filled before handshake_start() */
	uint8_t reply;
	const char *error;
	int err; /* errno */
	size_t out_off, out_len;
	uint8_t out[SOCKS5_OUT_MAX];
};

void handshake_start(struct handshake *h, const struct proxy_url *upstream, bool one_flight);
/* Until the first answer has come it is the greeting that is waited for, then the reply. */
bool handshake_greeting(const struct handshake *h);
/* Sends and receives as much as the socket lets. `in` collects what was received and not consumed;
 * what is in it at HANDSHAKE_DONE is the first payload. *readable is what edge-triggered epoll last said,
 * and is cleared once the socket is found empty; `behind`: a
 * short read is not the last, something comes after it. */
enum handshake_result handshake_step(struct handshake *h, int fd, struct buf *in, bool *readable,
				     bool behind);
