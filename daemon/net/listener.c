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

/* When it was last logged that accepting fails, by whichever listener. */
static atomic_uint_fast64_t said_ms;

static void listener_retry(struct timer *t);

/* A listener that is not looked at again would be lost. */
static void listener_look(struct listener *l)
{
	if (loop_rewatch(l->loop, l->source, EPOLLIN) < 0)
		loop_timer(l->loop, &l->retry, RETRY_MS, listener_retry);
}

static void listener_retry(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, retry);

	if (!l->paused && l->source != NULL)
		listener_look(l);
}

/* Out of descriptors or memory, or not allowed to: the connection stays in the queue, and so would its event.
 * Look away for a moment instead of spinning. */
static void listener_back_off(struct listener *l, int err)
{
	struct log_line line;

	loop_rewatch(l->loop, l->source, 0);
	loop_timer(l->loop, &l->retry, RETRY_MS, listener_retry);
	if (log_once_a_second(&said_ms, l->loop->now_ms) &&
	    log_begin(&line, LOG_LEVEL_ERROR, "cannot accept, trying again")) {
		log_add_addr(&line, "listen_addr", &l->addr);
		log_add(&line, "error", strerror(err));
		log_end(&line);
	}
}

/* Whether an error is one of a new connection itself, which is gone with it. */
static bool listener_may_go_on(int err)
{
	switch (err) {
	case EINTR:
	case ECONNABORTED:
	/* accept(2): to be treated like a retry. */
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
		return false;
	}
}

/* 1: accepted; 0: nobody is there; or -errno. */
static int listener_accept(struct listener *l)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr peer;
	int fd;

	fd = accept4(l->source->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return errno == EAGAIN ? 0 : -errno;
	peer = addr_from_sockaddr((const struct sockaddr *)&ss);
	l->on_accept(l, fd, &peer);
	return 1;
}

static void listener_event(struct source *src, uint32_t events)
{
	struct listener *l = src->owner;
	int rc = 1, failed = 0;

	(void)events;
	/* Level-triggered: what this turn does not accept is reported again. */
	for (int i = 0; i < ACCEPTS_PER_TURN && rc != 0 && l->source != NULL && !l->paused; i++) {
		rc = listener_accept(l);
		if (rc >= 0)
			continue;
		/* Nothing but errors: a filter of system calls, say, whose EPERM stays. */
		if (!listener_may_go_on(-rc) || ++failed == ACCEPTS_PER_TURN)
			return listener_back_off(l, -rc);
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
		listener_look(l);
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
	 * socket would reset them without a word to anybody. The bound is the backlog of one socket. */
	int rc = 1;

	for (int i = 0; i < SOCK_BACKLOG && l->source != NULL; i++) {
		rc = listener_accept(l);
		if (rc == 0 || (rc < 0 && !listener_may_go_on(-rc)))
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
