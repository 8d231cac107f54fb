/* SPDX-License-Identifier: MIT */
#include "daemon/flow/relay.h"

#include <errno.h>
#include <sys/socket.h>

#include "daemon/flow/copy.h"
#include "daemon/flow/splice.h"

/* A direction that has copied so much in large pieces is bulky: splice(2) moves it, with a pipe, for which a
 * short flow must not pay, nor one of many small messages. */
#define BULKY_BYTES (128 * 1024)
#define BULKY_PIECE (16 * 1024)

/* Only a flow that lives so long pays for keepalive at its remote end: three system calls. (The client's end
 * inherits it from the listener.) */
#define KEEPALIVE_AFTER_MS 2000

/* So long after the relay began, the ACK that waits for a client's first bytes goes without them: the server may be the one
 * to speak. By itself the kernel would send it after 200 ms. */
#define ACK_HELD_MS 3

/* What a peer that has reset its connection sent before goes on to the other side for as long as that takes it;
 * but nobody waits any more for one that does not: a far end is told soon that its client is gone, and a client
 * may pause for a moment. */
#define CLIENT_BROKEN_MS 1000
#define REMOTE_BROKEN_MS 5000

/* How often, within a limit, bytes are looked after that only the kernel still holds. */
#define LOOKS_PER_LIMIT 4

/* A server that speaks first does so at once. What comes later to a silent client may be a word on its silence. */
#define FIRST_WORD_MS 1000

static void relay_set_timer(struct session *s);

static void relay_lost(struct session *s, const struct leg *leg, int err)
{
	enum why why = leg == &s->client ? WHY_CLIENT_LOST : WHY_REMOTE_LOST;

	session_end_failed(s, why, err);
}

/* The kernel tells a reset by an event alone. */
static int relay_why_broken(const struct leg *leg)
{
	return leg->err != 0 ? leg->err : ECONNRESET;
}

static bool relay_half_closed(const struct session *s)
{
	return s->client.finished || s->remote.finished;
}

static int64_t relay_limit(const struct session *s)
{
	const struct conf *c = s->view->plan->conf;

	if (s->client.broken)
		return CLIENT_BROKEN_MS;
	if (s->remote.broken)
		return REMOTE_BROKEN_MS;
	return relay_half_closed(s) ? c->timeouts.half_close : c->timeouts.idle;
}

static void relay_over_limit(struct session *s)
{
	s->stalled = true;
	if (s->client.broken)
		relay_lost(s, &s->client, relay_why_broken(&s->client));
	else if (s->remote.broken)
		relay_lost(s, &s->remote, relay_why_broken(&s->remote));
	else
		session_end(s, relay_half_closed(s) ? WHY_HALF_CLOSE : WHY_IDLE, 0, NULL);
}

/* As the kernel takes it, in whole seconds. */
static uint64_t relay_keepalive_ms(const struct session *s)
{
	return ((uint64_t)s->view->plan->conf->timeouts.keepalive + 999) / 1000 * 1000;
}

/* A byte has not arrived while our kernel holds it: for a slow reader it moves on long after we have sent it. True:
 * some have moved since the last look, or this was the first one. */
static bool relay_still_drains(struct session *s)
{
	uint32_t held = (uint32_t)sock_unsent(s->client.source->fd) +
			(uint32_t)sock_unsent(s->remote.source->fd);
	bool first = s->held == 0;

	if (held == 0 || (!first && held >= s->held))
		return false;
	if (!first)
		s->active_ms = s->engine->loop.now_ms;
	s->held = held;
	return true;
}

/* True: this leg's peer has vanished. Nobody is given up at first sight: between two probes of a closed window
 * two minutes may pass without a word. */
static bool relay_has_vanished(const struct session *s, struct leg *leg, uint64_t unanswered_ms)
{
	uint64_t keepalive_ms = relay_keepalive_ms(s);
	bool overdue = leg->overdue && unanswered_ms >= 2 * keepalive_ms;

	leg->overdue = unanswered_ms >= keepalive_ms;
	return overdue;
}

/* What it has sent before that may still be on its way to the other side. May end the session. */
static void relay_vanished(struct session *s, struct leg *leg)
{
	if (leg->pending == NULL && !leg->readable && move_piped(leg) == 0)
		return relay_lost(s, leg, ETIMEDOUT);
	leg->broken = true;
	leg->err = ETIMEDOUT;
}

static void relay_let_ack_go(struct session *s)
{
	s->ack_held = false;
	if (s->client.nbytes == 0)
		sock_ack_now(s->remote.source->fd);
}

/* When the timer looks for the first time. */
static void relay_look_first(struct session *s)
{
	uint64_t now = s->engine->loop.now_ms;

	if (s->ack_held && server_first_has(&s->engine->server_first, &s->dest))
		relay_let_ack_go(s);
	if (s->ack_held)
		s->look_ms = now + ACK_HELD_MS;
	else
		s->look_ms = relay_keepalive_ms(s) > 0 ? now + KEEPALIVE_AFTER_MS : 0;
}

/* Keepalive finds vanished peers only where nothing is on its way to them; else the kernel retransmits for a
 * quarter of an hour (tcp_retries2). TCP_USER_TIMEOUT is no remedy: it also ends connections whose reader
 * keeps its window closed but answers every probe (Linux 5.11, tcp_probe_timer()), and would cost every
 * flow a system call. This costs only those that last, and nothing while they rest. May end the session. */
static void relay_look(struct session *s)
{
	uint64_t now = s->engine->loop.now_ms;
	uint64_t keepalive_ms = relay_keepalive_ms(s);
	struct leg *legs[] = {&s->client, &s->remote};
	bool settled = true;

	if (s->ack_held) {
		relay_let_ack_go(s);
		return relay_look_first(s);
	}
	s->look_ms = now + keepalive_ms;
	if (!s->kept_alive) {
		s->kept_alive = true;
		sock_keepalive(s->remote.source->fd, s->view->plan->conf->timeouts.keepalive);
		return;
	}
	if (s->settled_ms > s->active_ms)
		return;
	for (size_t i = 0; i < ARRAY_LEN(legs); i++) {
		uint64_t unanswered_ms = 0;

		if (sock_unsent(legs[i]->source->fd) > 0) {
			settled = false;
			unanswered_ms = sock_unanswered_ms(legs[i]->source->fd);
		}
		if (relay_has_vanished(s, legs[i], unanswered_ms))
			return relay_vanished(s, legs[i]);
		if (legs[i]->overdue && unanswered_ms < 2 * keepalive_ms)
			s->look_ms = now + 2 * keepalive_ms - unanswered_ms;
	}
	if (settled)
		s->settled_ms = now;
}

/* The timer is not touched while bytes flow: when it fires it looks at when they last did. */
static void relay_timeout(struct timer *t)
{
	struct session *s = container_of(t, struct session, timer);
	uint64_t now = s->engine->loop.now_ms;
	int64_t limit = relay_limit(s);

	if (limit > 0 && now - s->active_ms >= (uint64_t)limit) {
		if (!relay_still_drains(s))
			relay_over_limit(s);
	} else if (s->look_ms != 0 && now >= s->look_ms) {
		relay_look(s);
	}
	if (s->state == SES_RELAY)
		relay_set_timer(s);
}

static void relay_set_timer(struct session *s)
{
	uint64_t now = s->engine->loop.now_ms;
	int64_t limit = relay_limit(s);
	uint64_t end = limit > 0 ? s->active_ms + (uint64_t)limit : UINT64_MAX;

	if (end <= now) /* relay_still_drains() will tell */
		end = now + (uint64_t)limit / LOOKS_PER_LIMIT;
	if (s->look_ms != 0 && s->look_ms < end)
		end = s->look_ms;
	if (end == UINT64_MAX)
		timer_cancel(&s->timer);
	else
		loop_timer(&s->engine->loop, &s->timer, end > now ? end - now : 0, relay_timeout);
}

/* Nothing goes to `leg` any more; what it has sent before that still belongs to the other one. */
static void relay_break(struct leg *leg, int err)
{
	leg->broken = leg->readable = true;
	leg->err = err == EPIPE ? ECONNRESET : err;
}

static enum counts_direction relay_way(const struct session *s, const struct leg *from)
{
	return from == &s->client ? COUNTS_UP : COUNTS_DOWN;
}

/* The FIN goes on to the other side; the opposite direction lives on. */
static void relay_pass_fin(struct session *s, struct leg *from, struct leg *to)
{
	from->finished = true;
	counts_stream_over(s, relay_way(s, from));
	s->active_ms = s->engine->loop.now_ms;
	if (to->finished) /* that was the second one: closing both passes it on */
		return;
	if (shutdown(to->source->fd, SHUT_WR) < 0)
		relay_break(to, errno);
	relay_set_timer(s);
}

/* A broken leg takes nothing; this flow is over once it has nothing to give either, or nobody takes
 * that. One that only we could not write to has nothing to give where others show an error. */
static void relay_check_broken(struct session *s, struct leg *leg, struct leg *other)
{
	bool empty = !leg->readable && leg->pending == NULL && move_piped(leg) == 0;

	if (leg->broken && (leg->finished || other->broken || empty))
		relay_lost(s, leg, relay_why_broken(leg));
}

static enum move relay_copy(struct session *s, struct leg *from, struct leg *to, int *err)
{
	uint64_t before = from->nbytes;
	enum move result = copy_move(s->engine, from, to, err);
	uint64_t moved = from->nbytes - before;

	from->burst = moved >= BULKY_PIECE ? from->burst + (uint32_t)moved : 0;
	return result;
}

/* Chooses how the bytes are moved. */
static enum move relay_transfer(struct session *s, struct leg *from, struct leg *to, int *err)
{
	enum move result;

	if (from->burst >= BULKY_BYTES && from->pending == NULL && from->pipe == NULL &&
	    !from->urgent) {
		/* If there is none, the next attempt comes after as many bytes more. */
		engine_give_pipe(s->engine, from);
		from->burst = 0;
	}
	if (from->pipe != NULL && !from->pipe->spent) {
		result = splice_move(from, to, err);
		if (result == MOVE_UNABLE)
			from->pipe->spent = true;
		else if (result == MOVE_EOF || (from->urgent && from->pipe->fill == 0))
			engine_take_pipe(s->engine, from);
		if (result != MOVE_UNABLE && (result != MOVE_BLOCKED || from->pipe != NULL))
			return result;
		from->readable = true;
	}
	result = relay_copy(s, from, to, err);
	if (from->pipe != NULL && from->pipe->fill == 0)
		engine_take_pipe(s->engine, from);
	return result;
}

/* Moves one direction. True: it wants another turn. May end the session. */
static bool relay_move(struct session *s, struct leg *from, struct leg *to)
{
	uint64_t before = from->nbytes;
	enum move result;
	int err = 0;

	if (from->finished || to->broken)
		return false;
	result = relay_transfer(s, from, to, &err);
	counts_moved(s->engine, relay_way(s, from), from->nbytes - before);
	switch (result) {
	case MOVE_BLOCKED:
		return false;
	case MOVE_MORE:
		return true;
	case MOVE_EOF:
		relay_pass_fin(s, from, to);
		return to->broken;
	case MOVE_FROM_FAILED:
		relay_lost(s, from, err);
		return false;
	case MOVE_NO_MEMORY:
		session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
		return false;
	case MOVE_TO_FAILED:
		if (sock_is_shortage(err))
			session_end(s, WHY_NO_MEMORY, err, NULL);
		else
			relay_break(to, err);
		return true;
	case MOVE_UNABLE: /* relay_transfer() has seen to it */
		break;
	}
	return false;
}

/* The first bytes have moved, so long after the relay began: is the destination's server one that speaks first? */
static void relay_note_first(struct session *s, uint64_t waited_ms)
{
	struct server_first *known = &s->engine->server_first;

	if (s->client.nbytes > 0 || s->client.finished || waited_ms > FIRST_WORD_MS)
		server_first_forget(known, &s->dest);
	else
		server_first_learn(known, &s->dest);
	s->watch_first = false;
}

static void relay_turn(struct task *t);

static void relay_run(struct session *s)
{
	uint64_t before = s->client.nbytes + s->remote.nbytes;
	uint64_t quiet_ms = s->engine->loop.now_ms - s->active_ms;
	bool more;

	more = relay_move(s, &s->client, &s->remote);
	if (s->state == SES_RELAY)
		more |= relay_move(s, &s->remote, &s->client);
	if (s->state != SES_RELAY)
		return;
	if (s->client.finished && s->remote.finished)
		return session_end(s, WHY_DONE, 0, NULL);
	relay_check_broken(s, &s->client, &s->remote);
	relay_check_broken(s, &s->remote, &s->client);
	if (s->state != SES_RELAY)
		return;
	if (s->client.nbytes + s->remote.nbytes != before) {
		s->active_ms = s->engine->loop.now_ms;
		s->held = 0;
		if (s->watch_first)
			relay_note_first(s, quiet_ms);
	}
	if (!s->half_broken && (s->client.broken || s->remote.broken)) {
		s->half_broken = true;
		relay_set_timer(s);
	}
	if (more)
		loop_queue(&s->engine->loop, &s->task, relay_turn);
}

static void relay_turn(struct task *t)
{
	relay_run(container_of(t, struct session, task));
}

void relay_event(struct session *s)
{
	/* A bulky flow waits for its turn, so that a light one need not wait for it. */
	if (s->client.pipe != NULL || s->remote.pipe != NULL)
		loop_queue(&s->engine->loop, &s->task, relay_turn);
	else if (!loop_is_queued(&s->task))
		relay_run(s);
}

void relay_start(struct session *s)
{
	s->active_ms = s->engine->loop.now_ms;
	s->watch_first = s->watch_first || s->ack_held;
	relay_look_first(s);
	relay_set_timer(s);
	relay_run(s);
}
