/* SPDX-License-Identifier: MIT */
#include "rulemgr/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "policy/addr.h"
#include "rulemgr/dump.h"

const char *const listeners_family[] = {"IPv4", "IPv6"};
const char *const listeners_any[] = {"0.0.0.0", "[::]"};
const char *const listeners_loopback[] = {"127.0.0.1", "[::1]"};

struct dump {
	uint16_t port;
	struct listeners *found;
};

static bool is_v6_only(const struct nlmsghdr *h)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct inet_diag_msg))
	{
		if (mnl_attr_get_type(a) == INET_DIAG_SKV6ONLY &&
		    mnl_attr_get_payload_len(a) >= sizeof(uint8_t))
			return mnl_attr_get_u8(a) != 0;
	}
	return false;
}

/* `unknown`: where the kernel does not say. */
static bool is_transparent(const struct nlmsghdr *h, bool unknown)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct inet_diag_msg))
	{
		const struct inet_diag_sockopt *o = mnl_attr_get_payload(a);

		if (mnl_attr_get_type(a) == INET_DIAG_SOCKOPT &&
		    mnl_attr_get_payload_len(a) >= sizeof(*o))
			return o->transparent;
	}
	return unknown;
}

/* Where a flow of this host arrives when it is redirected. */
static bool takes_redirected(const struct addr *a)
{
	static const uint8_t v4_loopback[4] = {127, 0, 0, 1};

	if (addr_is_any(a))
		return true;
	if (a->family == AF_INET)
		return memcmp(a->ip, v4_loopback, sizeof(v4_loopback)) == 0;
	return addr_is_loopback(a);
}

static int read_socket(const struct nlmsghdr *h, void *ctx)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	const struct dump *dump = ctx;
	struct listeners *found = dump->found;
	struct addr a;
	int family;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m) || ntohs(m->id.idiag_sport) != dump->port ||
	    m->id.idiag_if != 0) /* bound to one interface */
		return MNL_CB_OK;
	a = addr_from_bytes((const uint8_t *)m->id.idiag_src, m->idiag_family == AF_INET ? 4 : 16,
			    0);
	family = a.family == AF_INET ? LISTENERS_IPV4 : LISTENERS_IPV6;
	found->any[family] |= addr_is_any(&a);
	found->loopback[family] |= takes_redirected(&a);
	found->transparent[family] |= takes_redirected(&a) && is_transparent(h, true);
	found->plain[family] |= takes_redirected(&a) && !is_transparent(h, false);
	if (family == LISTENERS_IPV6 && addr_is_any(&a) && !is_v6_only(h)) {
		found->any[LISTENERS_IPV4] = found->loopback[LISTENERS_IPV4] = true;
		found->transparent[LISTENERS_IPV4] |= is_transparent(h, true);
		found->plain[LISTENERS_IPV4] |= !is_transparent(h, false);
	}
	return MNL_CB_OK;
}

bool listeners_host_has_ipv6(void)
{
	struct ifaddrs *all;
	bool has = false;

	if (getifaddrs(&all) < 0)
		return true; /* then better a warning too many */
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
		has |= i->ifa_addr != NULL && i->ifa_addr->sa_family == AF_INET6;
	freeifaddrs(all);
	return has;
}

int listeners_read(uint16_t port, struct listeners *l, struct diag *d)
{
	struct listeners found = {.host_has = {true, listeners_host_has_ipv6()}};
	struct dump dump = {.port = port, .found = &found};
	int r = dump_tcp_sockets(AF_INET, 1 << TCP_LISTEN, read_socket, &dump);

	if (r == 0)
		r = dump_tcp_sockets(AF_INET6, 1 << TCP_LISTEN, read_socket, &dump);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot list the sockets of this host: %s",
				strerror(-r));
	*l = found;
	return 0;
}
