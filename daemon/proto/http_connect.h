/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * HTTP/1.1 CONNECT (RFC 9110 section 9.3.6, RFC 9112), the client's side, with Basic authentication
 * (RFC 7617), as step.h says; `out` has at least HTTP_CONNECT_OUT_MAX bytes.
 */
#include "daemon/proto/step.h"

/* The request line and Host, each with a name and a port, and up to 511 bytes as base64. */
#define HTTP_CONNECT_OUT_MAX (2 * (255 + 6) + 684 + 74)
/* Of the answer before its payload, 1xx answers included. */
#define HTTP_CONNECT_HEAD_MAX 8192

struct http_connect {
	uint8_t state;               /* private */
	uint8_t asked;               /* private: what a 407 asks for */
	uint16_t head_len;           /* private: consumed so far */
	const char *user, *password; /* user "" : no credentials are sent */
	const struct proto_dest *dest;
	/* At PROTO_FAIL: */
	unsigned
		reply; /* the status, 101 or 300..999 (RFC 9110 section 15); 0: it did not get that far */
	const char *error; /* constant words */
	enum proto_blame blame;
};

/* The pointers must live until the handshake is over; `user` has no colon (RFC 7617 section 2), and each has at
 * most 255 bytes. */
void http_connect_init(struct http_connect *c, const char *user, const char *password);
/* Where to go; before that a step sends nothing and wants nothing. `dest` must live as long. */
void http_connect_dest(struct http_connect *c, const struct proto_dest *dest);
/* Call it first with n = 0: it gives the request to be sent. A name that is none in HTTP fails before anything
 * is sent. Any 2xx is success, 1xx is skipped, lines may end in a bare LF. */
enum proto_step http_connect_step(struct http_connect *c, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len);
/* The upstream has closed the connection instead of going on. True: what came before that was an answer, and is
 * in `reply`, `error` and `blame`. */
bool http_connect_closed(struct http_connect *c);
