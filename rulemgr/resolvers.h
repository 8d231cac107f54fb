/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who resolves names on this host in a way that a redirect would catch: over TCP with TLS (RFC 7858), or a
 * program known to be able to. Told from the sockets of this network namespace.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "policy/diag.h"

#define RESOLVERS_TLS_PORT 853
#define RESOLVERS_MAX      16

struct resolver {
	uid_t uid;
	char name[33];  /* of the user, or the number */
	bool connected; /* to the port above; else it listens for queries */
};

struct resolvers { /* each user once */
	struct resolver resolvers[RESOLVERS_MAX];
	size_t n;
};

/* 0, or a negative errno with `d` filled. */
int resolvers_read(struct resolvers *all, struct diag *d);
