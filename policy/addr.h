/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * An IP address with a port, the one form in which addresses travel through the programs. IPv4
 * mapped into IPv6 (RFC 4291 section 2.5.5.2) is turned into plain IPv4 wherever an address comes
 * in, so that two equal addresses have equal bytes. A value; no ownership.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "policy/defs.h"

struct addr {
	uint8_t family; /* AF_INET, AF_INET6; AF_UNSPEC: none */
	uint16_t port;  /* host byte order */
	uint32_t scope; /* IPv6 link-local: interface index */
	uint8_t ip[16]; /* network byte order; IPv4 uses the first 4, the rest is zero */
};

struct addr_list {
	struct addr *addrs; /* owned by whoever owns the list */
	size_t n;
};

/* Room for "[ipv6%scope]:port" and the NUL. */
#define ADDR_TEXT_MAX (INET6_ADDRSTRLEN + 24)

/* Bytes of the address proper: 4 or 16. */
static inline size_t addr_len(const struct addr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

/* From `n` = 4 or 16 bytes in network order; 16 mapped bytes become IPv4. */
struct addr addr_from_bytes(const uint8_t *ip, size_t n, uint16_t port);
struct addr addr_from_sockaddr(const struct sockaddr *sa);
/* Returns the length that bind(2) and connect(2) want. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);

/* A literal such as "192.0.2.1", "2001:db8::1" or "[2001:db8::1]"; the port becomes 0.
 * 0 or -EINVAL. Only what inet_pton(3) takes: no octal, no short forms. */
int addr_parse(struct addr *a, const char *text);

/* "192.0.2.1:80" or "[2001:db8::1]:80". 0 or -EINVAL. */
int addr_parse_endpoint(struct addr *a, const char *text);

/* A decimal port 0..65535 and nothing else. 0 or -EINVAL. */
int port_parse(uint16_t *port, const char *text);

/* "192.0.2.1:80", "[2001:db8::1]:80"; returns `out` (ADDR_TEXT_MAX bytes are enough). */
const char *addr_format(const struct addr *a, char *out, size_t cap);
/* The same without port and brackets. */
const char *addr_format_ip(const struct addr *a, char *out, size_t cap);

bool addr_equal_ip(const struct addr *a, const struct addr *b);
/* Address and port; the scope does not count. */
bool addr_equal(const struct addr *a, const struct addr *b);
/* 0.0.0.0 or :: */
bool addr_is_any(const struct addr *a);
bool addr_is_loopback(const struct addr *a);
