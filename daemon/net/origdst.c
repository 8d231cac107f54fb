/* SPDX-License-Identifier: MIT */
#include "daemon/net/origdst.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

#include "daemon/net/sock.h"

int origdst_get(int fd, const struct addr *listener, struct addr *dest)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr found, local;
	int rc;

	if (listener->family == AF_INET)
		rc = getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, &ss, &len);
	else
		rc = getsockopt(fd, IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST, &ss, &len);
	if (rc < 0)
		return errno == ENOPROTOOPT ? -ENOENT : -errno;
	found = addr_from_sockaddr((const struct sockaddr *)&ss);
	/* Where conntrack is active it knows every connection, so one that nobody redirected has our
	 * own address here, not ENOENT; dialling that would loop. */
	if (found.port == listener->port) {
		local = sock_local(fd);
		if (local.family == AF_UNSPEC) /* who cannot tell must not dial what may be us */
			return -errno;
		if (addr_equal(&found, &local))
			return -ENOENT;
	}
	*dest = found;
	return 0;
}

struct route_question {
	struct nlmsghdr header;
	struct rtmsg body;
	char attributes[64];
};

struct route_answer {
	struct nlmsghdr header;
	union {
		struct rtmsg route;
		struct nlmsgerr error;
		char bytes[1024];
	} body;
};

static void route_put(struct route_question *q, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)q + q->header.nlmsg_len);

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	q->header.nlmsg_len += (uint32_t)RTA_SPACE(len);
}

static int route_ask(int fd, const struct addr *a, bool *local)
{
	struct route_question q = {
		.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(q.body)),
			   .nlmsg_type = RTM_GETROUTE,
			   .nlmsg_flags = NLM_F_REQUEST},
		.body = {.rtm_family = a->family, .rtm_dst_len = (uint8_t)(8 * addr_len(a))},
	};
	struct route_answer answer;
	ssize_t n;

	route_put(&q, RTA_DST, a->ip, addr_len(a));
	if (a->scope != 0)
		route_put(&q, RTA_OIF, &a->scope, sizeof(a->scope));
	if (send(fd, &q, q.header.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT); /* it was answered while we sent */
	if (n < (ssize_t)NLMSG_LENGTH(sizeof(answer.body.route)))
		return n < 0 ? -errno : -EPROTO;
	/* An error is no route at all. */
	*local =
		answer.header.nlmsg_type == RTM_NEWROUTE && answer.body.route.rtm_type == RTN_LOCAL;
	return 0;
}

/* Asked of the routing, which knows every way in which an address can be ours; bind(2) would
 * not where ip_nonlocal_bind is set. */
static int is_of_this_host(const struct addr *a, bool *local)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int rc = fd < 0 ? -errno : route_ask(fd, a, local);

	if (fd >= 0)
		close(fd);
	return rc;
}

int origdst_get_transparent(int fd, const struct addr *listener, struct addr *dest)
{
	struct addr found = sock_local(fd);
	bool local = false;
	int rc;

	if (found.family == AF_UNSPEC)
		return -ENOTCONN;
	/* Only who connects to our own port can be at our own address without TPROXY, and then
	 * the two are one; others may well listen on this port elsewhere. */
	if (found.port == listener->port) {
		rc = is_of_this_host(&found, &local);
		if (rc < 0)
			return rc;
		if (local)
			return -ENOENT;
	}
	*dest = found;
	return 0;
}
