/* SPDX-License-Identifier: MIT */
#include "policy/prefix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static uint8_t prefix_byte_mask(uint8_t len, size_t byte)
{
	int bits = len - (int)byte * 8;

	if (bits >= 8)
		return 0xff;
	return bits <= 0 ? 0 : (uint8_t)(0xff << (8 - bits));
}

static int parse(struct prefix *p, const char *text, bool strict)
{
	const char *slash = strchr(text, '/');
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct prefix parsed = {0};
	char host[INET6_ADDRSTRLEN];
	uint16_t bits;
	size_t nbytes;

	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	/* Not addr_parse(): a prefix of mapped addresses stays what it is. */
	parsed.family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
	nbytes = parsed.family == AF_INET ? 4 : 16;
	bits = (uint16_t)(nbytes * 8);
	if (inet_pton(parsed.family, host, parsed.ip) != 1)
		return -EINVAL;
	if (slash != NULL && (port_parse(&bits, slash + 1) < 0 || bits > nbytes * 8))
		return -EINVAL;
	parsed.len = (uint8_t)bits;
	for (size_t i = 0; i < nbytes; i++) {
		uint8_t mask = prefix_byte_mask(parsed.len, i);

		if (strict && (parsed.ip[i] & ~mask) != 0)
			return -EINVAL;
		parsed.ip[i] &= mask;
	}
	*p = parsed;
	return 0;
}

int prefix_parse(struct prefix *p, const char *text)
{
	return parse(p, text, true);
}

int prefix_parse_masked(struct prefix *p, const char *text)
{
	return parse(p, text, false);
}

const char *prefix_format(const struct prefix *p, char *out, size_t cap)
{
	char ip[INET6_ADDRSTRLEN];

	inet_ntop(p->family, p->ip, ip, sizeof(ip));
	snprintf(out, cap, "%s/%u", ip, p->len);
	return out;
}

bool prefix_contains(const struct prefix *p, const struct addr *a)
{
	size_t nbytes = p->family == AF_INET ? 4 : 16;

	if (p->family != a->family)
		return false;
	for (size_t i = 0; i < nbytes; i++) {
		if ((a->ip[i] & prefix_byte_mask(p->len, i)) != p->ip[i])
			return false;
	}
	return true;
}

void prefix_bounds(const struct prefix *p, uint8_t first[16], uint8_t last[16])
{
	size_t nbytes = p->family == AF_INET ? 4 : 16;

	memcpy(first, p->ip, nbytes);
	for (size_t i = 0; i < nbytes; i++)
		last[i] = p->ip[i] | (uint8_t)~prefix_byte_mask(p->len, i);
}

/* IANA IPv4 Special-Purpose Address Registry. Rows that the registry calls globally reachable
 * (192.31.196.0/24, 192.52.193.0/24, 192.175.48.0/24) are the Internet and stay out. */
const struct special_prefix special_prefixes4[] = {
	{"0.0.0.0/8", "this network", "RFC 791"},
	{"10.0.0.0/8", "private", "RFC 1918"},
	{"100.64.0.0/10", "shared, carrier-grade NAT", "RFC 6598"},
	{"127.0.0.0/8", "loopback", "RFC 1122"},
	{"169.254.0.0/16", "link-local, cloud metadata", "RFC 3927"},
	{"172.16.0.0/12", "private", "RFC 1918"},
	{"192.0.0.0/24", "IETF protocol assignments", "RFC 6890"},
	{"192.0.2.0/24", "documentation", "RFC 5737"},
	{"192.88.99.0/24", "6to4 relay, deprecated", "RFC 7526"},
	{"192.168.0.0/16", "private", "RFC 1918"},
	{"198.18.0.0/15", "benchmarking", "RFC 2544"},
	{"198.51.100.0/24", "documentation", "RFC 5737"},
	{"203.0.113.0/24", "documentation", "RFC 5737"},
	{"224.0.0.0/3", "multicast, reserved, broadcast", "RFC 5771, RFC 1112"},
};
const size_t n_special_prefixes4 = ARRAY_LEN(special_prefixes4);

/* IANA IPv6 Special-Purpose Address Registry. 64:ff9b::/96 (NAT64) and 2620:4f:8000::/48 are
 * globally reachable and stay out. */
const struct special_prefix special_prefixes6[] = {
	{"::/96", "unspecified, loopback, IPv4-compatible", "RFC 4291"},
	{"::ffff:0:0/96", "IPv4-mapped", "RFC 4291"},
	{"64:ff9b:1::/48", "local NAT64", "RFC 8215"},
	{"100::/63", "discard, dummy", "RFC 6666, RFC 9780"},
	{"2001::/23", "IETF protocol assignments", "RFC 2928"},
	{"2001:db8::/32", "documentation", "RFC 3849"},
	{"2002::/16", "6to4", "RFC 3056"},
	{"3fff::/20", "documentation", "RFC 9637"},
	{"5f00::/16", "segment routing identifiers", "RFC 9602"},
	{"fc00::/7", "unique local", "RFC 4193"},
	{"fe80::/9", "link-local, site-local", "RFC 4291, RFC 3879"},
	{"ff00::/8", "multicast", "RFC 4291"},
};
const size_t n_special_prefixes6 = ARRAY_LEN(special_prefixes6);

/* Of two prefixes that meet, one lies in the other. */
static bool prefix_meets(const struct prefix *a, const struct prefix *b)
{
	/* Not addr_from_bytes(): a prefix of mapped addresses stays what it is. */
	struct addr first_a = {.family = a->family}, first_b = {.family = b->family};

	memcpy(first_a.ip, a->ip, sizeof(first_a.ip));
	memcpy(first_b.ip, b->ip, sizeof(first_b.ip));
	return prefix_contains(a, &first_b) || prefix_contains(b, &first_a);
}

bool prefix_meets_special(const struct prefix *p)
{
	const struct special_prefix *rows =
		p->family == AF_INET ? special_prefixes4 : special_prefixes6;
	size_t n = p->family == AF_INET ? n_special_prefixes4 : n_special_prefixes6;
	struct prefix special;

	for (size_t i = 0; i < n; i++) {
		if (prefix_parse(&special, rows[i].prefix) == 0 && prefix_meets(p, &special))
			return true;
	}
	return false;
}
