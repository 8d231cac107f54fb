/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The header of the PROXY protocol, version 2 (HAProxy's doc/proxy-protocol.txt, section 2.2), in front of a
 * connection: who the client is, where it was going and what name it asked for. Pure: bytes in, bytes out.
 */
#include "policy/name.h"

/* Addresses of IPv6 and the longest name. */
#define PROXY_V2_OUT_MAX (16 + 36 + 3 + NAME_MAX_LEN)

/* Of a client's flow; both addresses with their ports. If one of the two is IPv6, the other is written as IPv4
 * mapped into IPv6, since there is one family for both. `authority` is a name as name_normalise() gives it; NULL or ""
 * if none is known. Returns the length. Has to be sent in one piece, before anything else. */
size_t proxy_v2_write(uint8_t out[PROXY_V2_OUT_MAX], const struct addr *client,
		      const struct addr *dest, const char *authority);
/* Of a connection that no client stands behind, such as a probe: command LOCAL. Returns the length. */
size_t proxy_v2_write_local(uint8_t out[PROXY_V2_OUT_MAX]);

/* A longer header is refused. Senders are to stay within 536 bytes, the least MSS; vendors add more. */
#define PROXY_V2_IN_MAX 2048

enum proxy_v2_result {
	PROXY_V2_MORE,
	PROXY_V2_DONE,
	PROXY_V2_FAIL, /* the connection is to be closed: what follows may be a header, too */
};

struct proxy_v2 {
	/* At PROXY_V2_DONE: */
	bool local; /* no client stands behind it */
	/* AF_UNSPEC: not told (LOCAL, UNSPEC, UNIX, UDP); those of the connection itself count. */
	struct addr client, dest;
	/* As name_normalise() gives it; "" if there is none, or one that is no name: senders pass on what
	 * their clients say. */
	char authority[NAME_MAX_LEN + 1];
	/* At PROXY_V2_FAIL: */
	const char *error; /* a constant sentence */
};

/* `in` are all `n` bytes that have come, each time: a header is taken as a whole, or not at all. At PROXY_V2_DONE *used
 * is its length; what is behind it is payload. Version 1, which is text, fails. Other TLVs are passed over, and a
 * checksum is not compared: the sender must be one that is trusted anyway. */
enum proxy_v2_result proxy_v2_parse(struct proxy_v2 *p, const uint8_t *in, size_t n, size_t *used);
