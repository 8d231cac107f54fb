/* SPDX-License-Identifier: MIT */
#include "daemon/flow/resolving.h"

#include <errno.h>

#include "daemon/core/shared.h"
#include "daemon/flow/session.h"

#define PART_OF_ONE_CLIENT 4

static unsigned resolving_limit(const struct session *s)
{
	return s->view->plan->conf->limits.max_resolving;
}

/* No name server is waited for any more. */
static void resolving_over(struct dial *d)
{
	resolving_end(d->owner);
}

int resolving_begin(struct session *s)
{
	unsigned limit = resolving_limit(s);
	struct budget *b = s->engine->budget;
	int rc;

	if (limit == 0 || resolver_knows(s->view->resolver, s->name))
		return 0;
	rc = clients_take(&b->clients, &s->client_addr, CLIENT_RESOLVING,
			  limit / PART_OF_ONE_CLIENT > 0 ? limit / PART_OF_ONE_CLIENT : 1);
	if (rc < 0)
		return rc;
	s->setup->resolving = true;
	s->setup->dial.answered = resolving_over;
	SHARED_ADD(s->engine->n_resolving, 1);
	if (atomic_fetch_add_explicit(&b->resolving.live, 1, memory_order_relaxed) < limit)
		return 0;
	resolving_end(s);
	return -EDQUOT;
}

void resolving_end(struct session *s)
{
	struct budget *b = s->engine->budget;

	if (s->setup == NULL || !s->setup->resolving)
		return;
	s->setup->resolving = false;
	SHARED_SUB(s->engine->n_resolving, 1);
	atomic_fetch_sub_explicit(&b->resolving.live, 1, memory_order_relaxed);
	clients_put(&b->clients, &s->client_addr, CLIENT_RESOLVING);
}
