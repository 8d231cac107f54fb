/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The host of an HTTP/1 request (RFC 9112), for sniff.c: the authority of the target where it has one (section
 * 3.2.2, 3.2.3), else the Host field. The whole header is read, because a second Host may come at its end.
 * HTTP/2 with prior knowledge (RFC 9113 section 3.3) is recognised, not read.
 */
#include "daemon/proto/sniff.h"

void http_host_init(struct sniff_http *h);
/* As sniff_step(); n is at least 1. */
enum sniff_result http_host_step(struct sniff *s, const uint8_t *bytes, size_t n);
