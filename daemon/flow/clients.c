/* SPDX-License-Identifier: MIT */
#include "daemon/flow/clients.h"

#include <errno.h>
#include <string.h>

struct client {
	struct client *next; /* in its bucket */
	struct addr addr;
	unsigned n_flows;
};

int clients_init(struct clients *c, size_t max, struct diag *d)
{
	int rc;

	*c = (struct clients){.n_buckets = 1};
	while (c->n_buckets < max)
		c->n_buckets *= 2;
	rc = hash_key_init(&c->key);
	if (rc == 0)
		rc = -pthread_mutex_init(&c->lock, NULL);
	return rc == 0 ? 0
		       : diag_set(d, -rc, NULL, 0, "cannot make the table of clients: %s",
				  strerror(-rc));
}

void clients_destroy(struct clients *c)
{
	BUG_ON(c->n != 0);
	free(c->buckets);
	pthread_mutex_destroy(&c->lock);
}

/* Where the pointer to the entry is, or would be. */
static struct client **clients_find(struct clients *c, const struct addr *addr)
{
	uint64_t hash = hash_bytes(&c->key, addr->ip, sizeof(addr->ip));
	struct client **at = &c->buckets[hash & (c->n_buckets - 1)];

	while (*at != NULL && !addr_equal_ip(&(*at)->addr, addr))
		at = &(*at)->next;
	return at;
}

static int clients_count(struct clients *c, const struct addr *addr, unsigned limit)
{
	struct client **at;

	if (c->buckets == NULL)
		c->buckets = calloc(c->n_buckets, sizeof(struct client *));
	if (c->buckets == NULL)
		return -ENOMEM;
	at = clients_find(c, addr);
	if (*at == NULL) {
		*at = malloc(sizeof(**at));
		if (*at == NULL)
			return -ENOMEM;
		**at = (struct client){.addr = *addr};
		c->n++;
	}
	if ((*at)->n_flows >= limit)
		return -EDQUOT;
	(*at)->n_flows++;
	return 0;
}

int clients_take(struct clients *c, const struct addr *client, unsigned limit)
{
	int rc;

	BUG_ON(limit == 0); /* would leave an entry without a flow */
	pthread_mutex_lock(&c->lock);
	rc = clients_count(c, client, limit);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

void clients_put(struct clients *c, const struct addr *client)
{
	struct client **at, *gone;

	pthread_mutex_lock(&c->lock);
	at = clients_find(c, client);
	BUG_ON(*at == NULL);
	if (--(*at)->n_flows == 0) {
		gone = *at;
		*at = gone->next;
		free(gone);
		c->n--;
	}
	pthread_mutex_unlock(&c->lock);
}
