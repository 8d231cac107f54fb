/* SPDX-License-Identifier: MIT */
#include "daemon/admin/lend.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

void lend_init(struct lend *l)
{
	*l = (struct lend){.fd = -1};
}

static bool is_netfilter_socket(int fd)
{
	int domain = 0, protocol = -1;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK &&
	       getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	       protocol == NETLINK_NETFILTER;
}

static bool is_lent_to_another(const struct lend *l, const void *who)
{
	return l->borrower != NULL && l->borrower != who;
}

int lend_keep(struct lend *l, int fd, const void *who)
{
	int rc = is_netfilter_socket(fd) ? lend_drop(l, who) : -EINVAL;

	if (rc == 0)
		l->fd = fd;
	else
		close(fd);
	return rc;
}

int lend_begin(struct lend *l, const void *borrower)
{
	if (l->fd < 0)
		return -ENOENT;
	if (is_lent_to_another(l, borrower))
		return -EBUSY;
	l->borrower = borrower;
	return l->fd;
}

void lend_end(struct lend *l, const void *borrower)
{
	if (l->borrower == borrower)
		l->borrower = NULL;
}

int lend_drop(struct lend *l, const void *who)
{
	if (is_lent_to_another(l, who))
		return -EBUSY;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	return 0;
}
