/* SPDX-License-Identifier: MIT */
#include "daemon/flow/resolving.h"

#include <errno.h>

#include "daemon/core/shared.h"
#include "daemon/flow/session.h"

#define PART_OF_ONE_CLIENT 4

struct orphan {
	struct list node; /* engine->orphaned */
	struct view *view;
	struct addr client;
	struct query queries[2];
	struct dying dying;
};

static unsigned resolving_limit(const struct session *s)
{
	return s->view->plan->conf->limits.max_resolving;
}

static void place_put(struct engine *e, const struct addr *client)
{
	SHARED_SUB(e->n_resolving, 1);
	atomic_fetch_sub_explicit(&e->budget->resolving.live, 1, memory_order_relaxed);
	clients_put(&e->budget->clients, client, CLIENT_RESOLVING);
}

int resolving_take(struct session *s, const char *name)
{
	unsigned limit = resolving_limit(s);
	struct budget *b = s->engine->budget;
	int rc;

	if (limit == 0 || resolver_knows(s->view->resolver, name))
		return 0;
	rc = clients_take(&b->clients, &s->client_addr, CLIENT_RESOLVING,
			  limit / PART_OF_ONE_CLIENT > 0 ? limit / PART_OF_ONE_CLIENT : 1);
	if (rc < 0)
		return rc;
	SHARED_ADD(s->engine->n_resolving, 1);
	if (atomic_fetch_add_explicit(&b->resolving.live, 1, memory_order_relaxed) < limit)
		return 1;
	place_put(s->engine, &s->client_addr);
	return -EDQUOT;
}

static void orphan_release(struct dying *d)
{
	struct orphan *o = container_of(d, struct orphan, dying);
	struct engine *e = o->view->engine;

	place_put(e, &o->client);
	view_unref(o->view);
	pool_put(&e->orphans, o);
}

static bool orphan_waits(const struct orphan *o)
{
	return o->queries[0].entry != NULL || o->queries[1].entry != NULL;
}

static void orphan_answered(struct query *q, int status, const struct addr *addrs, size_t n)
{
	struct orphan *o = q->owner;

	(void)status, (void)addrs, (void)n;
	if (orphan_waits(o))
		return;
	list_del(&o->node);
	loop_bury(&o->view->engine->loop, &o->dying, orphan_release);
}

void resolving_leave(struct session *s, const struct query queries[2])
{
	struct engine *e = s->engine;
	struct orphan *o = pool_get(&e->orphans);

	if (o == NULL)
		return place_put(e, &s->client_addr);
	*o = (struct orphan){.client = s->client_addr};
	for (size_t i = 0; i < ARRAY_LEN(o->queries); i++) {
		const struct resolve_entry *asked = queries[i].entry;

		if (asked != NULL)
			(void)query_start(s->view->resolver, &o->queries[i], asked->name,
					  asked->family, orphan_answered, o);
	}
	if (!orphan_waits(o)) {
		pool_put(&e->orphans, o);
		return place_put(e, &s->client_addr);
	}
	o->view = view_ref(s->view);
	list_add_tail(&e->orphaned, &o->node);
}

/* No name server is waited for any more. */
static void resolving_over(struct dial *d)
{
	resolving_abandon(d->owner);
}

int resolving_begin(struct session *s)
{
	int rc = resolving_take(s, s->name);

	if (rc <= 0)
		return rc;
	s->setup->resolving = true;
	s->setup->dial.answered = resolving_over;
	return 0;
}

void resolving_end(struct session *s)
{
	if (s->setup == NULL || !s->setup->resolving)
		return;
	s->setup->resolving = false;
	place_put(s->engine, &s->client_addr);
}

void resolving_abandon(struct session *s)
{
	if (!s->setup->resolving)
		return;
	s->setup->resolving = false;
	resolving_leave(s, s->setup->dial.queries);
}

void resolving_stop(struct engine *e)
{
	struct list *node;

	while ((node = list_pop(&e->orphaned)) != NULL) {
		struct orphan *o = container_of(node, struct orphan, node);

		for (size_t i = 0; i < ARRAY_LEN(o->queries); i++)
			query_cancel(&o->queries[i]);
		orphan_release(&o->dying);
	}
	pool_destroy(&e->orphans);
}

void resolving_start(struct engine *e)
{
	list_init(&e->orphaned);
	pool_init(&e->orphans, sizeof(struct orphan));
}
