/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What both sides of SOCKS5 share: the numbers of RFC 1928 and the one layout that request and reply
 * have in common, `VER CODE RSV ATYP ADDR PORT` (sections 4 to 6). Private to proto/; pure.
 */
#include "daemon/proto/socks5.h"

#define SOCKS5_VERSION      0x05
#define SOCKS5_AUTH_VERSION 0x01 /* RFC 1929 section 2 */

enum socks5_method {
	SOCKS5_METHOD_NONE = 0x00,
	SOCKS5_METHOD_PASSWORD = 0x02,
	SOCKS5_METHOD_REFUSED = 0xff,
};

enum socks5_atyp {
	SOCKS5_ATYP_IPV4 = 0x01,
	SOCKS5_ATYP_NAME = 0x03,
	SOCKS5_ATYP_IPV6 = 0x04,
};

/* The length of the whole message that begins with the `n` bytes at `in`; 0: too few of them to say
 * (5 always suffice); -EINVAL: an address type that the RFC does not know. */
int socks5_message_len(const uint8_t *in, size_t n);

/* Address or name and port of a message that is there completely. */
void socks5_message_dest(const uint8_t *in, struct proto_dest *dest);

/* Writes a message about an address, or about a name of `name_len` bytes; returns its length. */
size_t socks5_put_addr(uint8_t *out, uint8_t code, const struct addr *a, uint16_t port);
size_t socks5_put_name(uint8_t *out, uint8_t code, const char *name, uint8_t name_len,
		       uint16_t port);
