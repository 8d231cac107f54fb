/* SPDX-License-Identifier: MIT */
/*
 * The client's side of SOCKS5 without authentication, step by step as RFC 1928 has it: there are servers that do not
 * understand a greeting and a request that come together.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum socks_phase { SOCKS_CONNECTING, SOCKS_METHOD, SOCKS_REPLY, SOCKS_DONE };

#define SOCKS_REPLY_MAX 22 /* with an IPv6 address */

/* All zero at first. */
struct socks_client {
	uint8_t phase; /* enum socks_phase */
	uint8_t n;     /* bytes of the answer that have come */
	uint8_t answer[SOCKS_REPLY_MAX];
};

/* Goes on as far as the socket lets, and reads no byte more than its own. 1: `dest` is at the other end now; 0: wait; or -errno: -EPROTO for
 * any other answer than that all is well, -ENODATA for an end of file. */
int socks_client_step(struct socks_client *c, int fd, const struct sockaddr_in *dest);
