/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who listens on the redirect port in this network namespace, from the kernel's socket list.
 */
#include <stdbool.h>
#include <stdint.h>

#include "policy/diag.h"

enum { LISTENERS_IPV4, LISTENERS_IPV6, LISTENERS_FAMILIES };

/* Per family. */
struct listeners {
	bool host_has[LISTENERS_FAMILIES]; /* some interface has an address; IPv4 always counts */
	bool any[LISTENERS_FAMILIES];      /* somebody listens on all addresses */
	bool loopback[LISTENERS_FAMILIES]; /* somebody listens on 127.0.0.1, ::1 or all addresses */
	/* one of those takes what comes by TPROXY; true also where the kernel does not say (before
	 * Linux 5.10) */
	bool transparent[LISTENERS_FAMILIES];
	/* one of those takes what is redirected: it is not transparent, or the kernel does not say */
	bool plain[LISTENERS_FAMILIES];
};

/* "IPv4", "IPv6"; the address for all addresses, as one writes it; the loopback address. */
extern const char *const listeners_family[LISTENERS_FAMILIES];
extern const char *const listeners_any[LISTENERS_FAMILIES];
extern const char *const listeners_loopback[LISTENERS_FAMILIES];

/* Whether some interface has an IPv6 address. */
bool listeners_host_has_ipv6(void);

/* Reads them for TCP port `port`. 0, or a negative errno with `d` filled. */
int listeners_read(uint16_t port, struct listeners *l, struct diag *d);
