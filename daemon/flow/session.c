/* SPDX-License-Identifier: MIT */
#include "daemon/flow/session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/flow/outgoing.h"
#include "daemon/flow/record.h"
#include "daemon/flow/relay.h"
#include "daemon/flow/setup.h"

/* How long a client that was refused may take to read why and close (RFC 1928 section 6 asks for a close
 * within 10 seconds). */
#define LINGER_MS     2000
#define FLUSH_MS      5000 /* without a byte that has arrived */
#define FLUSH_POLL_MS 20
#define LINGER_READS  4 /* buffers at once; a client that sends more than that does not listen */

/* So many clients over their limit may make their request first, so that the answer can say why; in one
 * worker. Further ones are closed at once: who is refused must not fill the budget of flows. */
#define REFUSING_MAX 32

static void leg_note(struct leg *leg, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLHUP | EPOLLERR))
		leg->readable = true;
	if (events & EPOLLOUT)
		leg->writable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLPRI))
		leg->behind = true;
	if (events & EPOLLPRI) {
		leg->urgent = true;
		sock_inline_urgent(leg->source->fd);
	}
	if (events & EPOLLERR)
		leg->broken = true;
}

ssize_t leg_receive(struct leg *leg, struct buf *in)
{
	size_t room = buf_room(in);
	ssize_t n;

	if (!leg->readable)
		return -EAGAIN;
	do {
		n = recv(leg->source->fd, buf_tail(in), room, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		leg->readable = false;
	if (n <= 0)
		return n < 0 ? -errno : 0;
	/* A short read has emptied the socket, unless something is known to come after it. */
	leg->readable = (size_t)n == room || leg->behind;
	in->len += (uint32_t)n;
	return n;
}

/* True once the client has nothing more to say, is gone, or does not stop. */
static bool session_linger_over(struct session *s)
{
	struct buf *b = s->engine->scratch;

	for (int i = 0; i < LINGER_READS; i++) {
		ssize_t n = recv(s->client.source->fd, b->data, BUF_CAP, 0);

		if (n < 0 && errno == EAGAIN)
			return false;
		if (n == 0 || (n < 0 && errno != EINTR))
			return true;
	}
	return true;
}

static void session_drop_rare(struct session *s)
{
	struct engine *e = s->engine;

	if (s->rare != NULL)
		texts_drop(&e->texts, s->rare->user);
	pool_put(&e->rares, s->rare);
}

static void session_release(struct dying *d)
{
	struct session *s = container_of(d, struct session, dying);
	struct engine *e = s->engine;

	setup_release(s);
	engine_take_pipe(e, &s->client);
	engine_take_pipe(e, &s->remote);
	pool_put(&e->bufs, s->client.pending);
	pool_put(&e->bufs, s->remote.pending);
	texts_drop(&e->texts, s->name);
	udp_release(s);
	session_drop_rare(s);
	session_leave_upstream(s);
	if (s->counted)
		clients_put(&e->budget->clients, &s->client_addr, CLIENT_FLOWS);
	bind_leave(s);
	if (s->refused)
		e->n_refusing--;
	view_unref(s->view);
	pool_put(&e->sessions, s);
	engine_flow_released(e);
}

static void leg_close(struct engine *e, struct leg *leg, bool reset)
{
	int fd;

	if (leg->source == NULL)
		return;
	fd = leg->source->fd;
	loop_unwatch(&e->loop, leg->source);
	leg->source = NULL;
	if (reset)
		sock_close_reset(fd);
	else
		close(fd);
}

static void session_leave_port(struct session *s)
{
	if (s->has_port)
		upstream_port_put(s->upstream, s->egress);
	s->has_port = false;
	outgoing_leave(s);
}

void session_leave_upstream(struct session *s)
{
	session_leave_port(s);
	if (s->upstream != NULL)
		upstream_flow_end(s->upstream);
	s->upstream = NULL;
}

static void session_finish(struct session *s, bool reset)
{
	timer_cancel(&s->timer);
	half_open_end(s);
	leg_close(s->engine, &s->client, reset);
	s->state = SES_ENDED;
	list_del(&s->node);
	loop_bury(&s->engine->loop, &s->dying, session_release);
}

static void session_linger_timeout(struct timer *t)
{
	session_finish(container_of(t, struct session, timer), false);
}

/* The client has been told why: it must be able to read that, so what it still sends is read away
 * (unread bytes would turn our close into a reset that destroys the answer). */
static void session_linger(struct session *s)
{
	s->state = SES_LINGER;
	shutdown(s->client.source->fd, SHUT_WR);
	loop_timer(&s->engine->loop, &s->timer, LINGER_MS, session_linger_timeout);
	if (session_linger_over(s))
		session_finish(s, false);
}

/* A reset drops what the kernel has not delivered yet, so it waits until the client's kernel has
 * acknowledged everything, or takes nothing more. The poll is rare: nobody tells when a send queue is empty. */
static void session_flush(struct timer *t)
{
	struct session *s = container_of(t, struct session, timer);
	uint32_t held = (uint32_t)sock_unsent(s->client.source->fd);

	if (held < s->held) {
		s->active_ms = s->engine->loop.now_ms;
		s->held = held;
	}
	if (held == 0 || s->client.broken || s->engine->loop.now_ms - s->active_ms >= FLUSH_MS)
		session_finish(s, true);
	else
		loop_timer(&s->engine->loop, &s->timer, FLUSH_POLL_MS, session_flush);
}

static void session_flush_begin(struct session *s)
{
	s->state = SES_FLUSH;
	s->held = UINT32_MAX;
	session_flush(&s->timer);
}

/* Anybody can send such ones, at any rate: most of them had no destination yet. */
static bool session_was_refused(const struct session *s, enum why why)
{
	return refusals_concern(why) || why == WHY_RESOLVE_LIMIT ||
	       (why == WHY_CLIENT_GONE && s->state == SES_REQUEST && s->dest.family == AF_UNSPEC);
}

void session_end(struct session *s, enum why why, int err, const char *detail)
{
	const struct inbound *in = s->engine->inbound;
	bool told;

	if ((s->state == SES_LINGER || s->state == SES_FLUSH) &&
	    (why == WHY_CUT || why == WHY_HANDSHAKE_LIMIT))
		return session_finish(s, true);
	if (s->state >= SES_FLUSH)
		return;
	told = s->state < SES_RELAY && in->answer != NULL && why != WHY_CLIENT_GONE &&
	       why != WHY_CUT && in->answer(s, why, err) == 0;
	if (s->refused) { /* whatever became of telling so */
		why = WHY_CLIENT_LIMIT;
		err = 0;
		detail = NULL;
	}
	if (!session_was_refused(s, why) || refusals_say(&s->engine->refusals, why))
		record_write(s, why, err, detail);
	engine_flow_ended(s->engine, why);
	counts_ended(s, why, err);
	if (s->setup != NULL)
		setup_stop(s);
	udp_stop(s);
	timer_cancel(&s->timer);
	loop_unqueue(&s->task);
	leg_close(s->engine, &s->remote, why != WHY_DONE);
	if (told)
		session_linger(s);
	else if (why == WHY_REMOTE_LOST && !s->stalled)
		session_flush_begin(s);
	else
		session_finish(s, why != WHY_DONE);
}

void session_end_failed(struct session *s, enum why why, int err)
{
	session_end(s, sock_is_shortage(err) ? WHY_NO_MEMORY : why, err, NULL);
}

static void session_client_event(struct source *src, uint32_t events)
{
	struct session *s = src->owner;

	leg_note(&s->client, events);
	switch ((enum session_state)s->state) {
	case SES_REQUEST:
		if (s->client.broken)
			session_end(s, WHY_CLIENT_GONE, 0, NULL);
		else
			s->engine->inbound->client_ready(s);
		break;
	case SES_BIND:
		if (s->client.broken)
			session_end(s, WHY_CLIENT_GONE, 0, NULL);
		else if (events & EPOLLRDHUP)
			bind_client_closed(s);
		break;
	case SES_DIAL:
	case SES_HANDSHAKE:
		/* A FIN alone is a client that has said all it wants to say; it may still read. */
		if (s->client.broken)
			session_end(s, WHY_CLIENT_GONE, 0, NULL);
		break;
	case SES_RELAY:
		relay_event(s);
		break;
	case SES_UDP:
		udp_client_event(s);
		break;
	case SES_LINGER:
		if (session_linger_over(s))
			session_finish(s, false);
		break;
	case SES_FLUSH: /* the timer looks */
	case SES_ENDED:
		break;
	}
}

static void session_remote_event(struct source *src, uint32_t events)
{
	struct session *s = src->owner;

	leg_note(&s->remote, events);
	if (s->state == SES_HANDSHAKE)
		setup_remote_ready(s);
	else if (s->state == SES_RELAY)
		relay_event(s);
}

void session_take_remote(struct session *s, struct source *source, uint32_t events)
{
	s->remote.source = source;
	source->on_event = session_remote_event;
	source->owner = s;
	leg_note(&s->remote, events);
}

void session_close_remote(struct session *s)
{
	session_leave_port(s);
	leg_close(s->engine, &s->remote, true);
	pool_put(&s->engine->bufs, s->remote.pending);
	s->remote = (struct leg){0};
}

/* NULL with errno. */
static struct session *session_new(struct engine *e, int fd)
{
	struct session *s = pool_get(&e->sessions);
	struct setup *setup = pool_get(&e->setups);

	errno = ENOMEM;
	if (s == NULL || setup == NULL)
		goto no_memory;
	memset(s, 0, sizeof(*s));
	memset(setup, 0, offsetof(struct setup, dial.addrs));
	s->client.source = loop_watch(&e->loop, fd, LOOP_STREAM, session_client_event, s);
	if (s->client.source == NULL)
		goto no_memory;
	s->engine = e;
	s->setup = setup;
	s->view = view_ref(e->view);
	timer_init(&s->timer);
	loop_task_init(&s->task);
	list_add_tail(&e->live, &s->node);
	return s;

no_memory:
	pool_put(&e->setups, setup);
	pool_put(&e->sessions, s);
	return NULL;
}

struct session_rare *session_rare(struct session *s)
{
	if (s->rare == NULL) {
		s->rare = pool_get(&s->engine->rares);
		if (s->rare != NULL)
			memset(s->rare, 0, sizeof(*s->rare));
	}
	return s->rare;
}

const struct addr *session_via(const struct session *s)
{
	return s->rare != NULL && s->rare->via.family != AF_UNSPEC ? &s->rare->via : NULL;
}

bool session_keep_name(struct session *s, const char *name, enum name_from from)
{
	texts_drop(&s->engine->texts, s->name);
	s->name = texts_keep(&s->engine->texts, name);
	s->name_from = (uint8_t)from;
	if (s->name == NULL)
		session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
	return s->name != NULL;
}

bool session_admit(struct session *s)
{
	struct engine *e = s->engine;
	unsigned limit = s->view->plan->conf->limits.max_flows_per_client;
	int rc = limit > 0 ? clients_take(&e->budget->clients, &s->client_addr, CLIENT_FLOWS, limit)
			   : 0;

	s->counted = limit > 0 && rc == 0;
	if (rc == -EDQUOT && e->inbound->answer != NULL && e->n_refusing < REFUSING_MAX) {
		s->refused = true;
		e->n_refusing++;
	} else if (rc == -EDQUOT) {
		session_end(s, WHY_CLIENT_LIMIT, 0, NULL);
		return false;
	} else if (rc < 0) {
		session_end(s, WHY_NO_MEMORY, -rc, NULL);
		return false;
	}
	return true;
}

void session_accept(struct engine *e, struct listener *l, int fd, const struct addr *peer)
{
	struct session *s = session_new(e, fd);
	const struct conf *c = e->view->plan->conf;

	if (s == NULL) {
		record_write_refused(peer, WHY_NO_MEMORY, errno);
		sock_close_reset(fd);
		engine_flow_ended(e, WHY_NO_MEMORY);
		counts_dropped(e);
		engine_flow_released(e);
		return;
	}
	s->setup->listener = l;
	s->client_addr = *peer;
	s->client.writable = true;
	s->start_ms = e->loop.now_ms;
	if (c->timeouts.flow_setup > 0)
		s->setup->deadline_ms = s->start_ms + (uint64_t)c->timeouts.flow_setup;
	e->inbound->start(s);
}
