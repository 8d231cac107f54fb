/* SPDX-License-Identifier: MIT */
#include "daemon/flow/server_first.h"

#include <stdlib.h>
#include <string.h>

int server_first_init(struct server_first *t)
{
	t->slots = NULL;
	return hash_key_init(&t->key);
}

void server_first_destroy(struct server_first *t)
{
	free(t->slots);
	t->slots = NULL;
}

/* The one place where `dest` can be. */
static struct addr *server_first_slot(const struct server_first *t, const struct addr *dest)
{
	uint8_t bytes[sizeof(dest->ip) + sizeof(dest->port)];

	memcpy(bytes, dest->ip, sizeof(dest->ip));
	memcpy(bytes + sizeof(dest->ip), &dest->port, sizeof(dest->port));
	return &t->slots[hash_bytes(&t->key, bytes, sizeof(bytes)) % SERVER_FIRST_MAX];
}

bool server_first_has(const struct server_first *t, const struct addr *dest)
{
	return t->slots != NULL && addr_equal(server_first_slot(t, dest), dest);
}

void server_first_learn(struct server_first *t, const struct addr *dest)
{
	if (t->slots == NULL)
		t->slots = calloc(SERVER_FIRST_MAX, sizeof(*t->slots));
	if (t->slots != NULL)
		*server_first_slot(t, dest) = *dest;
}

void server_first_forget(struct server_first *t, const struct addr *dest)
{
	if (server_first_has(t, dest))
		server_first_slot(t, dest)->family = AF_UNSPEC;
}
