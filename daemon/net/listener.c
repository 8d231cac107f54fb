/* SPDX-License-Identifier: MIT */
#include "daemon/net/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/log.h"
#include "daemon/core/shared.h"
#include "daemon/net/sock.h"

#define ACCEPTS_PER_TURN 32
#define RETRY_MS         100
#define SAY_EVERY_MS     1000

int listener_probe(const struct addr *addr, struct diag *d)
{
	int fd = socket(addr->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[ADDR_TEXT_MAX];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(addr, &ss);
	int one = 1;
	int err = 0;

	if (fd < 0) {
		err = errno;
	} else {
		/* Connections of a former daemon in TIME_WAIT are no obstacle; a listener is. */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (addr->family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		if (bind(fd, (const struct sockaddr *)&ss, len) < 0)
			err = errno;
		close(fd);
	}
	if (err == 0)
		return 0;
	return diag_set(d, err, NULL, 0, "cannot listen on %s: %s",
			addr_format(addr, text, sizeof(text)), strerror(err));
}

static void listener_retry(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, retry);

	if (!l->paused && l->source != NULL)
		loop_rewatch(l->loop, l->source, EPOLLIN);
}

/* Out of descriptors or memory: the connection stays in the queue, and so would its event. Look away
 * for a moment instead of spinning. */
static void listener_back_off(struct listener *l, int err)
{
	struct log_line line;

	loop_rewatch(l->loop, l->source, 0);
	loop_timer(l->loop, &l->retry, RETRY_MS, listener_retry);
	if (l->said_ms != 0 && l->loop->now_ms - l->said_ms < SAY_EVERY_MS)
		return;
	l->said_ms = l->loop->now_ms;
	if (log_begin(&line, LOG_LEVEL_ERROR, "cannot accept, trying again")) {
		log_add_addr(&line, "listen_addr", &l->addr);
		log_add(&line, "error", strerror(err));
		log_end(&line);
	}
}

/* True if there may be more to accept at once. */
static bool listener_accept(struct listener *l)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr peer;
	int fd;

	fd = accept4(l->source->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		peer = addr_from_sockaddr((const struct sockaddr *)&ss);
		l->on_accept(l, fd, &peer);
		return true;
	}
	switch (errno) {
	case EAGAIN:
		return false;
	case EINTR:
	case ECONNABORTED:
	/* accept(2): errors of the new connection itself, to be treated like a retry. */
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
	case ETIMEDOUT:
	case EPERM: /* a firewall rule */
		return true;
	default:
		listener_back_off(l, errno);
		return false;
	}
}

static void listener_event(struct source *src, uint32_t events)
{
	struct listener *l = src->owner;

	(void)events;
	/* Level-triggered: what this turn does not accept is reported again. */
	for (int i = 0; i < ACCEPTS_PER_TURN && l->source != NULL && !l->paused; i++) {
		if (!listener_accept(l))
			break;
	}
}

int listener_start(struct listener *l, struct loop *loop, int fd, const struct addr *addr,
		   listener_fn *on_accept, void *owner)
{
	*l = (struct listener){.addr = *addr, .owner = owner, .on_accept = on_accept, .loop = loop};
	timer_init(&l->retry);
	l->source = loop_watch(loop, fd, EPOLLIN, listener_event, l);
	return l->source != NULL ? 0 : -errno;
}

void listener_pause(struct listener *l)
{
	if (l->source == NULL || l->paused)
		return;
	SHARED_SET(l->paused, true);
	loop_rewatch(l->loop, l->source, 0);
}

void listener_resume(struct listener *l)
{
	if (l->source == NULL || !l->paused)
		return;
	SHARED_SET(l->paused, false);
	if (!timer_is_set(&l->retry))
		loop_rewatch(l->loop, l->source, EPOLLIN);
}

void listener_keepalive(struct listener *l, int64_t keepalive_ms)
{
	/* Cannot fail on a TCP socket; if it did, the old value would stay. */
	if (l->source != NULL)
		sock_keepalive(l->source->fd, keepalive_ms);
}

void listener_drain(struct listener *l)
{
	/* Whoever has completed a handshake with the kernel believes to be connected; closing the
	 * socket would reset them. The bound is the backlog of one socket. */
	for (int i = 0; i < 4096 && l->source != NULL && !l->paused; i++) {
		if (!listener_accept(l))
			break;
	}
	listener_stop(l);
}

void listener_stop(struct listener *l)
{
	int fd;

	if (l->source == NULL)
		return;
	timer_cancel(&l->retry);
	fd = l->source->fd;
	loop_unwatch(l->loop, l->source);
	l->source = NULL;
	close(fd);
}
