/* SPDX-License-Identifier: MIT */
#include "daemon/net/own_addrs.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where the kernel does not tell of changes. */
#define OLD_MS 1000
/* Where they cannot be read: not at every question. */
#define RETRY_MS 100

static int own_addrs_add(struct prefix_set *set, const struct sockaddr *sa)
{
	struct addr a;
	struct prefix p;

	if (sa == NULL || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
		return 0;
	a = addr_from_sockaddr(sa);
	p = (struct prefix){.family = a.family, .len = (uint8_t)(addr_len(&a) * 8)};
	memcpy(p.ip, a.ip, sizeof(p.ip));
	return prefix_set_add(set, &p);
}

/* NULL with errno. */
static struct prefix_set *own_addrs_read(void)
{
	struct prefix_set *set = prefix_set_new();
	struct ifaddrs *list = NULL;
	int rc = set != NULL ? 0 : -ENOMEM;

	if (rc == 0 && getifaddrs(&list) < 0)
		rc = -errno;
	for (const struct ifaddrs *i = list; i != NULL && rc == 0; i = i->ifa_next)
		rc = own_addrs_add(set, i->ifa_addr);
	if (list != NULL)
		freeifaddrs(list);
	if (rc == 0)
		rc = prefix_set_finish(set);
	if (rc == 0)
		return set;
	prefix_set_free(set);
	errno = -rc;
	return NULL;
}

/* What the messages say does not matter; ENOBUFS, that some were lost, says the same. */
static void own_addrs_news(struct source *src, uint32_t events)
{
	struct own_addrs *o = src->owner;
	char junk[4096];

	(void)events;
	o->stale = true;
	while (recv(src->fd, junk, sizeof(junk), MSG_DONTWAIT) >= 0)
		;
}

static struct source *own_addrs_subscribe(struct own_addrs *o)
{
	struct sockaddr_nl local = {.nl_family = AF_NETLINK,
				    .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	struct source *src = NULL;

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&local, sizeof(local)) == 0)
		src = loop_watch(o->loop, fd, EPOLLIN, own_addrs_news, o);
	if (src == NULL && fd >= 0)
		close(fd);
	return src;
}

int own_addrs_init(struct own_addrs *o, struct loop *loop, struct diag *d)
{
	int rc;

	*o = (struct own_addrs){.loop = loop, .read_ms = loop->now_ms};
	o->news = own_addrs_subscribe(o); /* before they are read: no change is missed */
	o->set = own_addrs_read();
	if (o->set != NULL)
		return 0;
	rc = diag_set(d, errno, NULL, 0, "cannot read the addresses of this host: %s",
		      strerror(errno));
	own_addrs_destroy(o);
	return rc;
}

void own_addrs_destroy(struct own_addrs *o)
{
	int fd;

	if (o->news != NULL) {
		fd = o->news->fd;
		loop_unwatch(o->loop, o->news);
		close(fd);
	}
	prefix_set_free(o->set);
	*o = (struct own_addrs){0};
}

static bool own_addrs_due(const struct own_addrs *o)
{
	uint64_t age = o->loop->now_ms - o->read_ms;

	if (o->failed)
		return age >= RETRY_MS;
	return o->news != NULL ? o->stale : age >= OLD_MS;
}

const struct prefix_set *own_addrs_get(struct own_addrs *o)
{
	struct prefix_set *set;

	if (!own_addrs_due(o))
		return o->set;
	set = own_addrs_read();
	o->read_ms = o->loop->now_ms;
	o->failed = set == NULL;
	if (set == NULL)
		return o->set;
	prefix_set_free(o->set);
	o->set = set;
	o->stale = false;
	return set;
}
