/* SPDX-License-Identifier: MIT */
#include "rulemgr/servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <netinet/tcp.h>
#include <string.h>

#include "rulemgr/dump.h"

#define SERVERS_SOCKETS_MAX 16

struct search {
	const struct addr *at;
	struct servers *found;
	unsigned long inodes[SERVERS_SOCKETS_MAX];
};

bool servers_is_here(const struct addr *at)
{
	struct ifaddrs *all;
	bool here = addr_is_loopback(at);

	if (here || getifaddrs(&all) < 0)
		return here;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		struct addr a;

		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != at->family)
			continue;
		a = addr_from_sockaddr(i->ifa_addr);
		here |= addr_equal_ip(&a, at);
	}
	freeifaddrs(all);
	return here;
}

static void read_attributes(const struct nlmsghdr *h, bool *v6_only, uint32_t *mark)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct inet_diag_msg))
	{
		if (mnl_attr_get_type(a) == INET_DIAG_SKV6ONLY &&
		    mnl_attr_get_payload_len(a) >= sizeof(uint8_t))
			*v6_only = mnl_attr_get_u8(a) != 0;
		if (mnl_attr_get_type(a) == INET_DIAG_MARK &&
		    mnl_attr_get_payload_len(a) >= sizeof(uint32_t))
			*mark = mnl_attr_get_u32(a);
	}
}

static int read_socket(const struct nlmsghdr *h, void *ctx)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct search *s = ctx;
	bool v6_only = false;
	uint32_t mark = 0;
	struct addr a;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m) || ntohs(m->id.idiag_sport) != s->at->port)
		return MNL_CB_OK;
	a = addr_from_bytes((const uint8_t *)m->id.idiag_src, m->idiag_family == AF_INET ? 4 : 16,
			    0);
	read_attributes(h, &v6_only, &mark);
	if (!addr_equal_ip(&a, s->at) &&
	    !(addr_is_any(&a) && (a.family == s->at->family || !v6_only)))
		return MNL_CB_OK;
	if (s->found->n_sockets == SERVERS_SOCKETS_MAX)
		return MNL_CB_OK;
	s->inodes[s->found->n_sockets++] = m->idiag_inode;
	s->found->socket_user = m->idiag_uid;
	if (mark != 0)
		s->found->mark = mark;
	return MNL_CB_OK;
}

int servers_read(const struct addr *at, struct servers *out, struct diag *d)
{
	struct servers found = {.n = 0};
	struct search s = {.at = at, .found = &found};
	int r = dump_tcp_sockets(AF_INET, 1 << TCP_LISTEN, read_socket, &s);

	if (r == 0)
		r = dump_tcp_sockets(AF_INET6, 1 << TCP_LISTEN, read_socket, &s);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot list the sockets of this host: %s",
				strerror(-r));
	for (size_t i = 0; i < found.n_sockets; i++)
		found.n += holders_of_socket(s.inodes[i], &found.holders[found.n],
					     SERVERS_MAX - found.n);
	*out = found;
	return 0;
}
