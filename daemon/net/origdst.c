/* SPDX-License-Identifier: MIT */
#include "daemon/net/origdst.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

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
