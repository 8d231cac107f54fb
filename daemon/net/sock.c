/* SPDX-License-Identifier: MIT */
#include "daemon/net/sock.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Probes after the idle time. The count stays the system's (net.ipv4.tcp_keepalive_probes, 9),
 * which saves a system call for each connection: a vanished peer is found after about twice the
 * idle time. */
#define KEEPALIVE_PROBES 9
#define KEEPALIVE_MAX_S  32767 /* what TCP_KEEPIDLE takes, tcp(7) */

/* One or two may have been lost on their way: probes of a closed window are up to two minutes apart. */
#define UNANSWERED_MIN 3

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int sock_keepalive(int fd, int64_t keepalive_ms)
{
	int64_t idle_s = (keepalive_ms + 999) / 1000, probe_s;
	int rc;

	if (idle_s == 0)
		return set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
	if (idle_s > KEEPALIVE_MAX_S)
		idle_s = KEEPALIVE_MAX_S;
	probe_s = (idle_s + KEEPALIVE_PROBES - 1) / KEEPALIVE_PROBES;
	rc = set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (rc == 0)
		rc = set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)idle_s);
	if (rc == 0)
		rc = set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)probe_s);
	return rc;
}

/* Before bind(2): that is when the kernel notes it for its search of a listener. */
static int set_transparent(int fd, int family)
{
	return family == AF_INET6 ? set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
				  : set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
}

static int listener_prepare(int fd, const struct addr *a, const struct sock_listen_options *o)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	if (rc == 0 && !o->first)
		rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (rc == 0 && a->family == AF_INET6)
		rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (rc == 0)
		rc = sock_inline_urgent(fd);
	if (rc == 0)
		rc = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (rc == 0)
		rc = sock_keepalive(fd, o->keepalive_ms);
	if (rc == 0 && o->transparent)
		rc = set_transparent(fd, a->family);
	if (rc == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0)
		rc = -errno;
	if (rc == 0 && listen(fd, SOCK_BACKLOG) < 0)
		rc = -errno;
	/* listen(2) has asked once more for the port, and for it alone (inet_csk_listen_start); now that it is
	 * ours it is shared. The kernel takes this one into the group when the second comes. */
	if (rc == 0 && o->first)
		rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return rc;
}

int sock_listen(const struct addr *a, const struct sock_listen_options *o, struct diag *d)
{
	char text[ADDR_TEXT_MAX];
	int fd = socket(a->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -errno : listener_prepare(fd, a, o);

	if (rc == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return diag_set(d, -rc, NULL, 0, "cannot listen on %s: %s%s",
			addr_format(a, text, sizeof(text)), strerror(-rc),
			rc == -EPERM && o->transparent
				? "; mode \"tproxy\" needs root, or CAP_NET_RAW, at start"
				: "");
}

int sock_stream(int family, const struct sock_options *o)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = sock_mark(fd, &o->mark);
	if (rc == 0)
		rc = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* On a socket that connects, the kernel holds the last ACK back for the first data
	 * (tcp_rcv_synsent_state_process()): one packet less, and the peer is woken once. */
	if (rc == 0 && o->speaks_first)
		rc = set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static int datagram_open(int family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	rc = family == AF_INET6 ? set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int sock_datagram(int family, const struct sock_options *o)
{
	int fd = datagram_open(family), rc;

	if (fd < 0)
		return fd;
	rc = sock_mark(fd, &o->mark);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int sock_datagram_at(const struct addr *a)
{
	struct sockaddr_storage ss;
	struct addr any_port = *a;
	int fd = datagram_open(a->family), rc = 0;
	socklen_t len;

	if (fd < 0)
		return fd;
	any_port.port = 0;
	len = addr_to_sockaddr(&any_port, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) < 0)
		rc = -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

size_t sock_sources(const struct sock_options *o, int family)
{
	size_t n = 0;

	for (size_t i = 0; o->source != NULL && i < o->source->n; i++)
		n += o->source->addrs[i].family == family;
	return n;
}

size_t sock_source(const struct sock_options *o, int family, size_t nth)
{
	size_t n = sock_sources(o, family), left = (o->source_turn % n + nth) % n, i = 0;

	while (o->source->addrs[i].family != family || left-- > 0)
		i++;
	return i;
}

int sock_bind_source(int fd, const struct addr *source)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(source, &ss);
	int rc = set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);

	if (rc == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0)
		rc = -errno;
	return rc;
}

bool sock_is_own(const struct addr *source)
{
	int fd = socket(source->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;
	struct addr a = *source;
	socklen_t len;
	bool own;

	if (fd < 0)
		return errno != EAFNOSUPPORT;
	a.port = 0;
	len = addr_to_sockaddr(&a, &ss);
	own = bind(fd, (struct sockaddr *)&ss, len) == 0 || errno != EADDRNOTAVAIL;
	close(fd);
	return own;
}

int sock_bind_foreign(int fd, const struct addr *source)
{
	int rc = source->family == AF_INET6 ? set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1)
					    : set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);

	return rc == 0 ? sock_bind_source(fd, source) : rc;
}

int sock_bind_iface(int fd, const char *iface)
{
	socklen_t len = (socklen_t)strlen(iface);

	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, iface, len) < 0 ? -errno : 0;
}

int sock_take_iface(int fd, const struct sock_options *o, const struct addr *peer)
{
	if (o->iface == NULL || o->iface[0] == '\0' || addr_is_loopback(peer))
		return 0;
	return sock_bind_iface(fd, o->iface);
}

int sock_connect(int fd, const struct addr *to)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);

	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		return 0;
	return errno == EINTR ? -EINPROGRESS : -errno;
}

int sock_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

int sock_mark(int fd, const struct mark *m)
{
	if (m->mask == 0)
		return 0;
	return set_int(fd, SOL_SOCKET, SO_MARK, (int)m->value);
}

int sock_unsent(int fd)
{
	int n = 0;

	return ioctl(fd, SIOCOUTQ, &n) < 0 ? 0 : n;
}

bool sock_is_shortage(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM || err == ENOSPC;
}

uint64_t sock_unanswered_ms(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof(i);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0 ||
	    (i.tcpi_retransmits < UNANSWERED_MIN && i.tcpi_probes < UNANSWERED_MIN))
		return 0;
	/* A segment that brings data need not count as an acknowledgement. */
	return i.tcpi_last_data_recv < i.tcpi_last_ack_recv ? i.tcpi_last_data_recv
							    : i.tcpi_last_ack_recv;
}

int sock_route(const struct sock_options *o, const struct addr *to, struct addr *own)
{
	int fd = socket(to->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;
	struct addr a;

	if (fd < 0)
		return -errno;
	rc = sock_mark(fd, &o->mark);
	if (rc == 0)
		rc = sock_take_iface(fd, o, to);
	if (rc == 0)
		rc = sock_connect(fd, to);
	a = sock_local(fd);
	close(fd);
	if (rc == 0 && a.family == AF_UNSPEC)
		rc = -ENOBUFS;
	if (rc < 0)
		return rc;
	a.port = 0;
	*own = a;
	return 0;
}

struct addr sock_local(int fd)
{
	struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return (struct addr){.family = AF_UNSPEC};
	return addr_from_sockaddr((struct sockaddr *)&ss);
}

int sock_ack_now(int fd)
{
	return set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
}

int sock_inline_urgent(int fd)
{
	return set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

void sock_close_reset(int fd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	/* A BPF program of the host may refuse that; a TCP socket that disconnects resets as well. */
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) < 0)
		connect(fd, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr));
	close(fd);
}
