/* SPDX-License-Identifier: MIT */
#include "policy/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct addr addr_from_bytes(const uint8_t *ip, size_t n, uint16_t port)
{
	struct addr a = {.port = port};

	if (n == 16 && memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		ip += sizeof(mapped_prefix);
		n = 4;
	}
	a.family = n == 4 ? AF_INET : AF_INET6;
	memcpy(a.ip, ip, n);
	return a;
}

struct addr addr_from_sockaddr(const struct sockaddr *sa)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct addr a = {.family = AF_UNSPEC};

	if (sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		a = addr_from_bytes((const uint8_t *)&in.sin_addr, 4, ntohs(in.sin_port));
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		a = addr_from_bytes(in6.sin6_addr.s6_addr, 16, ntohs(in6.sin6_port));
		a.scope = a.family == AF_INET6 ? in6.sin6_scope_id : 0;
	}
	return a;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_scope_id = a->scope};

	memset(ss, 0, sizeof(*ss));
	if (a->family == AF_INET) {
		memcpy(&in.sin_addr, a->ip, 4);
		memcpy(ss, &in, sizeof(in));
		return sizeof(in);
	}
	memcpy(&in6.sin6_addr, a->ip, 16);
	memcpy(ss, &in6, sizeof(in6));
	return sizeof(in6);
}

int addr_parse(struct addr *a, const char *text)
{
	uint8_t ip[16];
	char bare[INET6_ADDRSTRLEN];
	size_t n = strlen(text);

	if (n > 2 && text[0] == '[' && text[n - 1] == ']' && n - 2 < sizeof(bare)) {
		memcpy(bare, text + 1, n - 2);
		bare[n - 2] = '\0';
		if (inet_pton(AF_INET6, bare, ip) != 1)
			return -EINVAL;
		*a = addr_from_bytes(ip, 16, 0);
		return 0;
	}
	if (inet_pton(AF_INET, text, ip) == 1) {
		*a = addr_from_bytes(ip, 4, 0);
		return 0;
	}
	if (inet_pton(AF_INET6, text, ip) == 1) {
		*a = addr_from_bytes(ip, 16, 0);
		return 0;
	}
	return -EINVAL;
}

int port_parse(uint16_t *port, const char *text)
{
	unsigned value = 0;
	size_t n = strlen(text);

	if (n == 0 || n > 5 || strspn(text, "0123456789") != n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		value = value * 10 + (unsigned)(text[i] - '0');
	if (value > UINT16_MAX)
		return -EINVAL;
	*port = (uint16_t)value;
	return 0;
}

int addr_parse_endpoint(struct addr *a, const char *text)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	struct addr parsed;
	uint16_t port;

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host) ||
	    port_parse(&port, colon + 1) < 0)
		return -EINVAL;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (host[0] != '[' && strchr(host, ':') != NULL)
		return -EINVAL; /* an IPv6 address wants brackets before a port */
	if (addr_parse(&parsed, host) < 0)
		return -EINVAL;
	parsed.port = port;
	*a = parsed;
	return 0;
}

const char *addr_format_ip(const struct addr *a, char *out, size_t cap)
{
	char text[INET6_ADDRSTRLEN];

	if (a->family == AF_UNSPEC || inet_ntop(a->family, a->ip, text, sizeof(text)) == NULL)
		snprintf(out, cap, "-");
	else if (a->scope != 0)
		snprintf(out, cap, "%s%%%u", text, a->scope);
	else
		snprintf(out, cap, "%s", text);
	return out;
}

const char *addr_format(const struct addr *a, char *out, size_t cap)
{
	char ip[ADDR_TEXT_MAX];

	addr_format_ip(a, ip, sizeof(ip));
	if (a->family == AF_UNSPEC)
		snprintf(out, cap, "-");
	else
		snprintf(out, cap, a->family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, a->port);
	return out;
}

bool addr_equal_ip(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && addr_equal_ip(a, b);
}

bool addr_is_any(const struct addr *a)
{
	static const uint8_t zero[16];

	return a->family != AF_UNSPEC && memcmp(a->ip, zero, sizeof(zero)) == 0;
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t v6_loopback[16] = {[15] = 1};

	if (a->family == AF_INET)
		return a->ip[0] == 127;
	return a->family == AF_INET6 && memcmp(a->ip, v6_loopback, sizeof(v6_loopback)) == 0;
}
