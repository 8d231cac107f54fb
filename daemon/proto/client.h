/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The client's side of whatever an upstream speaks, SOCKS5, SOCKS4a or HTTP CONNECT, behind one face. A pure
 * state machine as step.h says; `out` has at least PROTO_OUT_MAX bytes. Freely copied while
 * proto_client_ready() holds; afterwards too, if the destination stays where it is.
 */
#include "daemon/proto/http_connect.h"
#include "daemon/proto/socks4.h"
#include "daemon/proto/socks5.h"
#include "policy/url.h"

#define PROTO_OUT_MAX HTTP_CONNECT_OUT_MAX /* the largest of them */

struct proto_client {
	enum proxy_scheme scheme; /* private */
	union {                   /* private */
		struct socks5_client socks5;
		struct socks4_client socks4;
		struct http_connect http;
	};
	/* At PROTO_FAIL: */
	unsigned
		reply; /* code of SOCKS5, 91..93 of SOCKS4, or HTTP status; 0: there was no answer */
	const char *error; /* constant words, those of the code if there is one */
	enum proto_blame blame;
	bool refused_user; /* user and password, or that there are none, are the reason */
};

/* A scheme for which proxy_scheme_is_proxy(). `user` "": no authentication (SOCKS4: an empty user id). Both live
 * until the handshake is over. */
void proto_client_init(struct proto_client *c, enum proxy_scheme scheme, const char *user,
		       const char *password);
/* As socks5_client_one_flight(); the destination must be known before the first step. The other two are of one
 * flight by nature: nothing changes. */
void proto_client_one_flight(struct proto_client *c);
/* Where to go, once. Until then it goes no further than proto_client_ready(). `dest` lives until the handshake is
 * over. */
void proto_client_dest(struct proto_client *c, const struct proto_dest *dest);

/* Whether the upstream's first answer is still to come that says nothing of a destination: of SOCKS5 the
 * choice of a method. Where it fails before that, this stays true. The others have no such answer. */
bool proto_client_greeting(const struct proto_client *c);
/* Whether everything has been said and heard that can be without a destination, and there is none yet. A step
 * answers PROTO_MORE, and takes no bytes: what comes now is out of turn. */
bool proto_client_ready(const struct proto_client *c);

/* Call it first with n = 0: it gives what is sent first. */
enum proto_step proto_client_step(struct proto_client *c, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len);
/* The upstream has closed the connection while more was wanted: as PROTO_FAIL. */
void proto_client_closed(struct proto_client *c);
/* Whose fault it is if the handshake ends here without a word: the upstream's while its greeting is waited for, later
 * that of the destination, for all that is known. */
enum proto_blame proto_client_silence(const struct proto_client *c);
