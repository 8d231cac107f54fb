/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the protocols have in common. Each is a pure state machine: bytes in, bytes out, no socket. Bytes may
 * come in any pieces; those behind the handshake are not touched: they are payload.
 *
 * A step takes bytes from `in`, says in *used how many of `n` it consumed, may put bytes to be sent
 * into `out` (their number in *out_len, 0 if none), and returns what to do. The caller keeps what was
 * not consumed and offers it again with more.
 */
#include "policy/addr.h"

enum proto_step {
	PROTO_MORE, /* nothing more can be done without more input */
	PROTO_SEND, /* send `out`, which may be empty, then step again with what is left of `in`, which may suffice */
	PROTO_DONE, /* client: the relay may begin. Server: the request is complete */
	PROTO_FAIL, /* the handshake is over; send `out` if there is any, then close */
};

/* What a request names: an address, or a name as it came on the wire. */
struct proto_dest {
	struct addr addr; /* AF_UNSPEC: it is a name */
	uint8_t name_len;
	char name[256]; /* NUL-terminated, but a NUL inside is possible: not checked here */
	uint16_t port;
};

/* Whose fault it is that an upstream did not do what it was asked for. */
enum proto_blame {
	/* Its own, or that of what we are configured to tell it: another flow would end in the same way. */
	BLAME_UPSTREAM,
	BLAME_DEST,   /* the destination's, or that of the way to it */
	BLAME_POLICY, /* nobody's: the upstream may not go there */
};
