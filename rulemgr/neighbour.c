/* SPDX-License-Identifier: MIT */
#include "rulemgr/neighbour.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "rulemgr/model.h"

/* Whether the bits outside of `mask` are all `ones`, or all zero. */
static bool host_part_is(const struct addr *a, const struct addr *mask, bool ones)
{
	for (size_t i = 0; i < addr_len(a); i++) {
		uint8_t host = (uint8_t)~mask->ip[i];

		if ((a->ip[i] & host) != (ones ? host : 0))
			return false;
	}
	return true;
}

/* Bits outside of `mask`, 2 at most: the only ones that count here. */
static int host_bits(const struct addr *mask)
{
	uint8_t last = mask->ip[addr_len(mask) - 1];

	return (last & 1) != 0 ? 0 : (last & 2) != 0 ? 1 : 2;
}

bool neighbour_of(const struct addr *own, const struct addr *mask, struct addr *out)
{
	struct addr next = *own;
	int bits = host_bits(mask);

	if (bits == 0)
		return false;
	if (bits == 1 || host_part_is(own, mask, true)) {
		next.ip[addr_len(own) - 1] ^= 1; /* a link of two, RFC 3021, RFC 6164 */
	} else {
		key_increment(next.ip, addr_len(own));
		/* Then own is at least 2 of a network of 4. */
		if (host_part_is(&next, mask, true)) {
			next = *own;
			key_decrement(next.ip, addr_len(own));
		}
	}
	next.port = 0;
	*out = next;
	return true;
}

static bool is_link_local(const struct addr *a)
{
	return a->family == AF_INET6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* The mask of an address may be without a family. */
static struct addr read_mask(const struct ifaddrs *i, uint8_t family)
{
	struct sockaddr_storage ss = {.ss_family = family};
	size_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	memcpy(&ss, i->ifa_netmask, len);
	ss.ss_family = family;
	return addr_from_sockaddr((const struct sockaddr *)&ss);
}

int neighbour_choose(const char *interface, uint8_t family, struct addr *out)
{
	struct ifaddrs *all;
	int r = -EADDRNOTAVAIL;

	if (getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *i = all; i != NULL && r == -EADDRNOTAVAIL; i = i->ifa_next) {
		struct addr own, mask;

		if (strcmp(i->ifa_name, interface) != 0)
			continue;
		if ((i->ifa_flags & IFF_UP) == 0) {
			r = -ENETDOWN;
			break;
		}
		if (i->ifa_addr == NULL || i->ifa_netmask == NULL ||
		    i->ifa_addr->sa_family != family)
			continue;
		own = addr_from_sockaddr(i->ifa_addr);
		mask = read_mask(i, family);
		if (!is_link_local(&own) && neighbour_of(&own, &mask, out))
			r = 0;
	}
	freeifaddrs(all);
	return r;
}
