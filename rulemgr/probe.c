/* SPDX-License-Identifier: MIT */
#include "rulemgr/probe.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/random.h>
#include <unistd.h>

#include "rulemgr/encap.h"
#include "rulemgr/inject.h"

/* Rules see the user of a socket as it was at socket(2): the file system ids are all it takes, and
 * what this process may do stays as it is. */
static int socket_of_user(const struct probe *p)
{
	const struct passwd *entry = getpwuid(p->uid);
	gid_t own_gid = (gid_t)setfsgid(entry != NULL ? entry->pw_gid : (gid_t)-1);
	uid_t own_uid = (uid_t)setfsuid(p->uid);
	int fd = -EPERM;

	/* setfsuid() never says whether it worked. */
	if ((uid_t)setfsuid((uid_t)-1) == p->uid) {
		fd = socket(p->to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			fd = -errno;
	}
	setfsuid(own_uid);
	setfsgid(own_gid);
	return fd;
}

static uint32_t random_sequence(void)
{
	uint32_t n = 0;

	if (getrandom(&n, sizeof(n), 0) < 0)
		n = (uint32_t)getpid() * 2654435761u;
	return n != 0 ? n : 1;
}

/* The kernel lets one who may repair a connection choose its first number, also of a new one. */
static int probe_number(struct probe *p)
{
	int send_queue = TCP_SEND_QUEUE;

	if (setsockopt(p->fd, IPPROTO_TCP, TCP_REPAIR, &(int){1}, sizeof(int)) < 0 ||
	    setsockopt(p->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &send_queue, sizeof(int)) < 0 ||
	    setsockopt(p->fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &p->sequence, sizeof(p->sequence)) < 0 ||
	    setsockopt(p->fd, IPPROTO_TCP, TCP_REPAIR, &(int){0}, sizeof(int)) < 0)
		return -errno;
	return 0;
}

/* Bound before it connects, so that no other socket of the host can have the port. */
static int probe_bind(struct probe *p)
{
	struct sockaddr_storage ss = {.ss_family = p->to.family};
	socklen_t len =
		p->to.family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	if (p->to.family == AF_INET6 &&
	    setsockopt(p->fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)) < 0)
		return -errno;
	if (bind(p->fd, (struct sockaddr *)&ss, len) < 0 ||
	    getsockname(p->fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	p->from = addr_from_sockaddr((struct sockaddr *)&ss);
	return 0;
}

static int probe_open_socket(struct probe *p, struct diag *d)
{
	struct linger at_once = {.l_onoff = 1};
	int r;

	p->fd = socket_of_user(p);
	if (p->fd == -EPERM)
		return diag_set(d, EPERM, NULL, 0,
				"cannot make a socket as uid %u (CAP_SETUID, and a uid "
				"of this user namespace)",
				p->uid);
	if (p->fd < 0)
		return diag_set(d, -p->fd, NULL, 0, "cannot make a socket: %s", strerror(-p->fd));
	r = probe_number(p);
	if (r == 0)
		r = probe_bind(p);
	if (r == 0 && setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) < 0)
		r = -errno;
	if (r == 0 && p->mark != 0 &&
	    setsockopt(p->fd, SOL_SOCKET, SO_MARK, &p->mark, sizeof(p->mark)) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	probe_close(p);
	return diag_set(d, -r, NULL, 0, "cannot prepare the probe: %s", strerror(-r));
}

int probe_open(struct probe *p, struct diag *d)
{
	int r;

	p->fd = -1;
	p->sequence = random_sequence();
	r = probe_is_forwarded(p) ? inject_open(p, d) : probe_open_socket(p, d);
	if (r == 0 && p->to.port != 0) /* it is to be sent */
		r = encap_check(p, d);
	if (r < 0)
		probe_close(p);
	return r;
}

int probe_send(struct probe *p)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int r;

	if (probe_is_forwarded(p))
		return inject_send(p);
	len = addr_to_sockaddr(&p->to, &ss);
	r = connect(p->fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS ? -errno : 0;
	len = sizeof(ss);
	if (r == 0 && getsockname(p->fd, (struct sockaddr *)&ss, &len) == 0)
		p->from = addr_from_sockaddr((struct sockaddr *)&ss);
	return r;
}

void probe_close(struct probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}
