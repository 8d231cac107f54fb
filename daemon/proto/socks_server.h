/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The server's side of SOCKS, of whichever version the client's first byte names; as step.h says, `out` has at least
 * SOCKS5_OUT_MAX bytes.
 */
#include "daemon/proto/socks4.h"
#include "daemon/proto/socks5.h"

enum socks_protocol { SOCKS_PROTOCOL_NONE, SOCKS_PROTOCOL_4, SOCKS_PROTOCOL_4A, SOCKS_PROTOCOL_5 };

struct socks_server {
	uint8_t version; /* 4 or 5; 0: not known yet */
	bool passwords;  /* private */
	/* At PROTO_FAIL: */
	const char *error; /* a constant sentence */
	/* By version. */
	union {
		struct socks4_server v4;
		struct socks5_server v5;
	};
};

/* With `passwords` every client has to log in. SOCKS4 has none: whoever comes by it must be refused once its request
 * is there, so that the answer arrives; socks_server_unknown() tells. */
void socks_server_init(struct socks_server *s, bool passwords);
enum proto_step socks_server_step(struct socks_server *s, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len);

/* The user and password of `v5` are there, and the handshake waits for socks5_server_verdict(). */
bool socks_server_asks(const struct socks_server *s);
/* At PROTO_FAIL and PROTO_DONE: the client had to say who it is and could not, or was not believed. */
bool socks_server_unknown(const struct socks_server *s);

/* At PROTO_DONE. 4A is version 4 with a name in the request. */
enum socks_protocol socks_server_protocol(const struct socks_server *s);
enum socks5_command socks_server_command(const struct socks_server *s);
const struct proto_dest *socks_server_dest(const struct socks_server *s);
/* What a client of SOCKS4 says of itself; "" if that is nothing. At PROTO_DONE. */
const char *socks_server_user(const struct socks_server *s);

/* As whom the client has logged in; NULL: it did not have to. At PROTO_DONE. */
const char *socks_server_login(const struct socks_server *s);

/* The answer to a request, once the version is known: SOCKS4 has one code for all failures. `bound` is our own end of the
 * new connection, with a failure it may be NULL. Returns its length. */
size_t socks_server_reply(const struct socks_server *s, enum socks5_reply reply,
			  const struct addr *bound, uint8_t out[SOCKS5_OUT_MAX]);
