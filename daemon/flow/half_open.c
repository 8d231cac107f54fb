/* SPDX-License-Identifier: MIT */
#include "daemon/flow/half_open.h"

#include <errno.h>

#include "daemon/core/shared.h"
#include "daemon/flow/session.h"

void half_open_init(struct half_open *h)
{
	list_init(&h->young);
	list_init(&h->slow);
	timer_init(&h->timer);
}

static struct setup *first_of(const struct list *list)
{
	return list_empty(list) ? NULL : container_of(list->next, struct setup, half_open);
}

static unsigned limit_per_client(const struct session *s)
{
	return s->view->plan->conf->limits.max_handshakes_per_client;
}

static void half_open_refuse(struct session *s)
{
	session_end(s, WHY_HANDSHAKE_LIMIT, 0, "limits.max_handshakes_per_client is reached");
}

/* A second is over, and there is no request. */
static void half_open_slow(struct setup *p)
{
	struct session *s = p->session;
	struct half_open *h = &s->engine->half_open;
	int rc = 0;

	list_del(&p->half_open);
	if (p->login.waiting) { /* that is us */
		p->half_open_ms = s->engine->loop.now_ms;
		list_add_tail(&h->young, &p->half_open);
		return;
	}
	if (limit_per_client(s) > 0)
		rc = clients_take(&s->engine->budget->clients, &s->client_addr, CLIENT_SLOW,
				  limit_per_client(s));
	if (rc == -EDQUOT)
		return half_open_refuse(s);
	if (rc < 0)
		return session_end(s, WHY_NO_MEMORY, -rc, NULL);
	p->half_open_state = HALF_OPEN_SLOW;
	list_add_tail(&h->slow, &p->half_open);
	atomic_fetch_add_explicit(&s->engine->budget->half_open.slow, 1, memory_order_relaxed);
}

static void half_open_look(struct timer *t)
{
	struct engine *e = container_of(t, struct engine, half_open.timer);
	uint64_t now = e->loop.now_ms;
	struct setup *p;

	while ((p = first_of(&e->half_open.young)) != NULL &&
	       p->half_open_ms + HALF_OPEN_SLOW_MS <= now)
		half_open_slow(p);
	if (p != NULL)
		loop_timer(&e->loop, t, p->half_open_ms + HALF_OPEN_SLOW_MS - now, half_open_look);
}

/* Makes room, if that is needed, but never at the cost of `but`. */
static void half_open_crowd_out(struct engine *e, const struct setup *but)
{
	struct half_open_budget *b = &e->budget->half_open;
	struct setup *oldest = first_of(&e->half_open.slow);

	if (atomic_load_explicit(&b->live, memory_order_relaxed) <=
	    atomic_load_explicit(&b->max, memory_order_relaxed))
		return;
	if (oldest == NULL)
		oldest = first_of(&e->half_open.young);
	if (oldest != but)
		session_end(oldest->session, WHY_HANDSHAKE_LIMIT, 0,
			    "limits.max_handshakes is reached, and this was the oldest");
}

bool half_open_begin(struct session *s)
{
	struct engine *e = s->engine;
	struct half_open_budget *b = &e->budget->half_open;
	unsigned limit = limit_per_client(s);
	struct setup *p = s->setup;

	/* Only who is one of that many can have that many. */
	if (limit > 0 && atomic_load_explicit(&b->slow, memory_order_relaxed) >= limit &&
	    clients_full(&e->budget->clients, &s->client_addr, CLIENT_SLOW, limit)) {
		half_open_refuse(s);
		return false;
	}
	p->session = s;
	p->half_open_ms = e->loop.now_ms;
	p->half_open_state = HALF_OPEN_YOUNG;
	list_add_tail(&e->half_open.young, &p->half_open);
	SHARED_ADD(e->half_open.n, 1);
	atomic_fetch_add_explicit(&b->live, 1, memory_order_relaxed);
	if (!timer_is_set(&e->half_open.timer))
		loop_timer(&e->loop, &e->half_open.timer, HALF_OPEN_SLOW_MS, half_open_look);
	half_open_crowd_out(e, p);
	return true;
}

void half_open_end(struct session *s)
{
	struct engine *e = s->engine;
	struct half_open_budget *b = &e->budget->half_open;
	struct setup *p = s->setup;

	if (p == NULL || p->half_open_state == HALF_OPEN_NOT)
		return;
	if (p->half_open_state == HALF_OPEN_SLOW) {
		atomic_fetch_sub_explicit(&b->slow, 1, memory_order_relaxed);
		if (limit_per_client(s) > 0)
			clients_put(&e->budget->clients, &s->client_addr, CLIENT_SLOW);
	}
	p->half_open_state = HALF_OPEN_NOT;
	list_del(&p->half_open);
	SHARED_SUB(e->half_open.n, 1);
	atomic_fetch_sub_explicit(&b->live, 1, memory_order_relaxed);
}
