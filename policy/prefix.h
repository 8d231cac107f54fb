/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * An address prefix such as 10.0.0.0/8, and the table of special-purpose prefixes that are never
 * redirected. Values; no ownership.
 */
#include "policy/addr.h"

struct prefix {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t len;    /* bits: 0..32 or 0..128 */
	uint8_t ip[16]; /* network byte order, host bits zero */
};

#define PREFIX_TEXT_MAX (INET6_ADDRSTRLEN + 4)

/* "10.0.0.0/8", "2001:db8::/32", or an address alone (/32, /128). Host bits that are set are an
 * error: they are a slip of the operator more often than not. 0 or -EINVAL. */
int prefix_parse(struct prefix *p, const char *text);
/* The same, but host bits that are set are cleared, as the Go programs read their files. */
int prefix_parse_masked(struct prefix *p, const char *text);
const char *prefix_format(const struct prefix *p, char *out, size_t cap);
bool prefix_contains(const struct prefix *p, const struct addr *a);
/* First and last address of the prefix, 4 or 16 bytes each, network byte order. */
void prefix_bounds(const struct prefix *p, uint8_t first[16], uint8_t last[16]);

/* One row of the IANA special-purpose registries, or a range that belongs with them. */
struct special_prefix {
	const char *prefix; /* as prefix_parse() takes it */
	const char *name;   /* the registry's name, short; also the comment of the set element */
	const char *source; /* RFC */
};

/* Sorted and disjoint; state of the registries: SPECIAL_PREFIXES_DATE. */
#define SPECIAL_PREFIXES_DATE "2025-06"
extern const struct special_prefix special_prefixes4[];
extern const size_t n_special_prefixes4;
extern const struct special_prefix special_prefixes6[];
extern const size_t n_special_prefixes6;
/* Whether the prefix has an address in common with one of them. */
bool prefix_meets_special(const struct prefix *p);
