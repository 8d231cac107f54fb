/* SPDX-License-Identifier: MIT */
#include "rulemgr/flows.h"

#include <errno.h>
#include <ifaddrs.h>

#include "rulemgr/conntrack.h"
#include "rulemgr/transparent.h"

int flows_read(const struct have *have, struct flows *f, struct diag *d)
{
	struct flows found = {0};
	int r = conntrack_read_redirected(have, &found, d);

	if (r == 0 && have->transparent)
		r = transparent_read(&found, d);
	if (r == 0)
		*f = found;
	return r;
}

void flows_add(struct flows *f, const struct flow *flow)
{
	int family = flow->dest.family == AF_INET6;

	if (f->n[family] < FLOWS_NAMED_MAX)
		f->named[family][f->n[family]] = *flow;
	f->n[family]++;
}

int own_addresses_read(struct own_addresses *own)
{
	struct ifaddrs *all;
	size_t n = 0;

	*own = (struct own_addresses){.n = 0};
	if (getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
		n++;
	own->addresses = calloc(n > 0 ? n : 1, sizeof(*own->addresses));
	for (const struct ifaddrs *i = all; own->addresses != NULL && i != NULL; i = i->ifa_next) {
		if (i->ifa_addr != NULL &&
		    (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6))
			own->addresses[own->n++] = addr_from_sockaddr(i->ifa_addr);
	}
	freeifaddrs(all);
	return own->addresses != NULL ? 0 : -ENOMEM;
}

void own_addresses_free(struct own_addresses *own)
{
	free(own->addresses);
	*own = (struct own_addresses){.n = 0};
}

bool own_addresses_have(const struct own_addresses *own, const struct addr *a)
{
	if (addr_is_loopback(a))
		return true;
	for (size_t i = 0; i < own->n; i++) {
		if (addr_equal_ip(&own->addresses[i], a))
			return true;
	}
	return false;
}
