/* SPDX-License-Identifier: MIT */
#include "daemon/flow/clients.h"

#include <errno.h>
#include <string.h>

struct client {
	struct client *next; /* in its bucket */
	struct addr addr;
	unsigned counts[CLIENT_COUNTS]; /* not all of them 0 */
};

int clients_init(struct clients *c, size_t max, unsigned ipv6_bits, struct diag *d)
{
	int rc;

	*c = (struct clients){.n_buckets = 1, .ipv6_bits = ipv6_bits};
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

struct addr clients_of(const struct clients *c, const struct addr *addr)
{
	struct addr client = *addr;

	client.port = 0;
	for (unsigned i = 0; i < 16 && addr->family == AF_INET6; i++) {
		unsigned bits = c->ipv6_bits > 8 * i ? c->ipv6_bits - 8 * i : 0;

		if (bits < 8)
			client.ip[i] &= (uint8_t)(0xff00u >> bits);
	}
	return client;
}

/* Where the pointer to the entry is, or would be. */
static struct client **clients_find(struct clients *c, const struct addr *client)
{
	uint64_t hash = hash_bytes(&c->key, client->ip, sizeof(client->ip));
	struct client **at = &c->buckets[hash & (c->n_buckets - 1)];

	while (*at != NULL && !addr_equal_ip(&(*at)->addr, client))
		at = &(*at)->next;
	return at;
}

static int clients_count(struct clients *c, const struct addr *client, enum client_count what,
			 unsigned limit)
{
	struct client **at;

	if (c->buckets == NULL)
		c->buckets = calloc(c->n_buckets, sizeof(struct client *));
	if (c->buckets == NULL)
		return -ENOMEM;
	at = clients_find(c, client);
	if (*at == NULL) {
		*at = malloc(sizeof(**at));
		if (*at == NULL)
			return -ENOMEM;
		**at = (struct client){.addr = *client};
		c->n++;
	}
	if ((*at)->counts[what] >= limit)
		return -EDQUOT;
	(*at)->counts[what]++;
	return 0;
}

int clients_take(struct clients *c, const struct addr *addr, enum client_count what, unsigned limit)
{
	const struct addr client = clients_of(c, addr);
	int rc;

	BUG_ON(limit == 0); /* would leave an entry that counts nothing */
	pthread_mutex_lock(&c->lock);
	rc = clients_count(c, &client, what, limit);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

bool clients_full(struct clients *c, const struct addr *addr, enum client_count what,
		  unsigned limit)
{
	const struct addr client = clients_of(c, addr);
	const struct client *found;
	bool full;

	pthread_mutex_lock(&c->lock);
	found = c->buckets != NULL ? *clients_find(c, &client) : NULL;
	full = found != NULL && found->counts[what] >= limit;
	pthread_mutex_unlock(&c->lock);
	return full;
}

static bool client_has_nothing(const struct client *client)
{
	for (size_t i = 0; i < CLIENT_COUNTS; i++) {
		if (client->counts[i] > 0)
			return false;
	}
	return true;
}

void clients_put(struct clients *c, const struct addr *addr, enum client_count what)
{
	const struct addr client = clients_of(c, addr);
	struct client **at, *gone;

	pthread_mutex_lock(&c->lock);
	at = clients_find(c, &client);
	BUG_ON(*at == NULL || (*at)->counts[what] == 0);
	(*at)->counts[what]--;
	if (client_has_nothing(*at)) {
		gone = *at;
		*at = gone->next;
		free(gone);
		c->n--;
	}
	pthread_mutex_unlock(&c->lock);
}
