/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Asks a DNS blocklist (RFC 5782) about usocksd's own addresses, one after the other, and again some time after the last
 * answer. What is listed serves only clients that have no other address left. On the main thread's loop, with a
 * resolver of its own, whose cache keeps answers for as long as they count.
 */
#include "daemon/core/loop.h"
#include "daemon/egress/egress.h"

struct dnsbl;

/* Begins at once. A reference to `e` is taken. *out is NULL where there is nothing to ask. 0 or -errno with `d`. */
int dnsbl_new(struct loop *loop, struct egress *e, struct dnsbl **out, struct diag *d);
/* Not from a query_fn; memory goes at the end of the turn. NULL is fine. */
void dnsbl_free(struct dnsbl *b);

/* What may be open at once. */
size_t dnsbl_descriptors(const struct conf *c);

#define DNSBL_NAME_MAX 256
/* What is asked for: octets or nibbles, the last one first (RFC 5782 sections 2.1 and 2.4); of a prefix for its first
 * address. Returns `out`. */
const char *dnsbl_name(const struct prefix *p, const char *domain, char out[DNSBL_NAME_MAX]);

enum dnsbl_verdict {
	DNSBL_CLEAN,
	DNSBL_LISTED, /* in 127.0.0.0/8, but not as below */
	DNSBL_UNKNOWN, /* no answer; or one that is no entry of a list: 127.0.0.1, errors in 127.255.255.0/24, others */
};
/* What a query_fn was told. Where an address of the answer says that it is listed, it is in *said. */
enum dnsbl_verdict dnsbl_judge(int status, const struct addr *addrs, size_t n, struct addr *said);
