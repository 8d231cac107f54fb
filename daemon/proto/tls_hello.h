/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The server name of a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), for sniff.c. The message may
 * be cut into records of any size (RFC 8446 section 5.1). A hello is read to its end, because what makes the name
 * void may come behind it.
 */
#include "daemon/proto/sniff.h"

#define TLS_HANDSHAKE 22 /* the type of a record, its first byte */

void tls_hello_init(struct sniff_tls *t);
/* As sniff_step(); n is at least 1. */
enum sniff_result tls_hello_step(struct sniff *s, const uint8_t *bytes, size_t n);
