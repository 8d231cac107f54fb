/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The header in front of each datagram of a UDP association (RFC 1928 section 7): `RSV RSV FRAG ATYP ADDR PORT`. Pure.
 */
#include "daemon/proto/step.h"

#define SOCKS5_UDP_HEAD_MAX      (4 + 1 + 255 + 2)
#define SOCKS5_UDP_HEAD_ADDR_MAX (4 + 16 + 2)
/* Behind RSV and FRAG: what it says of the destination, so that equal bytes are one destination. */
#define SOCKS5_UDP_DEST_OFF 3

/* Where the `n` bytes at `in` go: the length of the header, behind which the payload begins. -EINVAL: it is not whole, or
 * its address type is unknown; -EOPNOTSUPP: it is a fragment, which need not be served. `dest` need not be a name that can
 * be, nor have a port. */
int socks5_udp_parse(const uint8_t *in, size_t n, struct proto_dest *dest);
/* The same without `dest`. */
int socks5_udp_head_len(const uint8_t *in, size_t n);

/* The header of what has come from `from`; returns its length. */
size_t socks5_udp_write(const struct addr *from, uint8_t out[SOCKS5_UDP_HEAD_ADDR_MAX]);
