/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * SOCKS version 4 with the extension 4a for names, both sides, as step.h says; `out` has at least
 * SOCKS4_OUT_MAX bytes. There is no RFC: "SOCKS: A protocol for TCP proxy across firewalls" (Ying-Da Lee)
 * and "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol".
 */
#include "daemon/proto/step.h"

#define SOCKS4_OUT_MAX (8 + 256 + 256)

enum socks4_reply {
	SOCKS4_GRANTED = 90,
	SOCKS4_REJECTED = 91, /* or failed */
	SOCKS4_NO_IDENTD = 92,
	SOCKS4_IDENTD_DIFFERS = 93,
};

/* ---- the client's side, towards an upstream ---- */

struct socks4_client {
	uint8_t state;    /* private */
	const char *user; /* the user id; "" is one, too */
	const struct proto_dest *dest;
	/* At PROTO_FAIL: */
	uint8_t reply;     /* the upstream's code, 91..93; 0: it did not get that far */
	const char *error; /* constant words */
	enum proto_blame blame;
};

/* At most 255 bytes of `user`, which must live until the handshake is over. */
void socks4_client_init(struct socks4_client *c, const char *user);
/* Where to go; before that a step sends nothing and wants nothing. The protocol has no IPv6: such an address
 * is sent as a name, as RFC 5952 writes it. `dest` must live until the handshake is over. */
void socks4_client_dest(struct socks4_client *c, const struct proto_dest *dest);
/* Call it first with n = 0: it gives the request to be sent. A name that the protocol cannot carry fails
 * before anything is sent. */
enum proto_step socks4_client_step(struct socks4_client *c, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len);

/* ---- the server's side, towards a client ---- */

#define SOCKS4_REQUEST_MAX (8 + 256 + 256) /* user id and name of 255 bytes, each with its NUL */
#define SOCKS4_REPLY_LEN   8

struct socks4_server {
	uint8_t state; /* private */
	/* At PROTO_FAIL: */
	const char *error; /* a constant sentence */
	/* At PROTO_DONE: */
	bool bind; /* BIND, else CONNECT */
	struct proto_dest dest;
	char user
		[256]; /* the user id: what the client says of itself, no proof of anything; "" is one, too */
};

void socks4_server_init(struct socks4_server *s);
/* Commands other than CONNECT and BIND fail with 91. So do a user id and a name of more than 255 bytes. */
enum proto_step socks4_server_step(struct socks4_server *s, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len);

/* The answer to a request: `bound` is our own end of the new connection; NULL, and IPv6, for which there is no
 * room, are zeros. Returns its length. */
size_t socks4_server_reply(enum socks4_reply reply, const struct addr *bound,
			   uint8_t out[SOCKS4_REPLY_LEN]);
