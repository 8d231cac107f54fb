/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Destinations whose server speaks first, as has been seen: a flow to one of them is not held up for its client's
 * first bytes, which would not come, nor is the ACK that would go with them. That is learned of those who speak
 * within a second: an HTTP server that tires of a silent client has a last word, too. One for each worker, bounded: a
 * newer destination takes the place of an older one. Whoever is found there and lets its client speak first is
 * forgotten.
 */
#include <stdbool.h>
#include <stddef.h>

#include "daemon/core/hash.h"
#include "policy/addr.h"

#define SERVER_FIRST_MAX 4096

struct server_first {
	struct hash_key key;
	struct addr *slots; /* NULL: none has been seen */
};

/* 0 or -errno. */
int server_first_init(struct server_first *t);
void server_first_destroy(struct server_first *t);

bool server_first_has(const struct server_first *t, const struct addr *dest);
/* Without memory it is not learned. */
void server_first_learn(struct server_first *t, const struct addr *dest);
void server_first_forget(struct server_first *t, const struct addr *dest);
