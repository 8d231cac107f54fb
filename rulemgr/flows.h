/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The live flows that our rules carry, redirected (conntrack.c) or by TPROXY (transparent.c). One thread, blocking.
 */
#include "policy/addr.h"
#include "rulemgr/have.h"

/* So many of a family are kept by name. */
#define FLOWS_NAMED_MAX 10

struct flow {
	struct addr client, dest; /* where it comes from and where it wanted to go, with ports */
};

/* In the order of want.family: IPv4, IPv6. */
struct flows {
	size_t n[2];
	struct flow named[2][FLOWS_NAMED_MAX]; /* the first of them */
};

static inline size_t flows_total(const struct flows *f)
{
	return f->n[0] + f->n[1];
}

/* Those of the table of `have`. Writes *f. 0, or a negative errno with `d` filled. */
int flows_read(const struct have *have, struct flows *f, struct diag *d);

void flows_add(struct flows *f, const struct flow *flow);

/* The addresses of this host when they were read: what goes on to another's is no flow of ours. */
struct own_addresses {
	struct addr *addresses;
	size_t n;
};

/* 0 or a negative errno; *own is the caller's (own_addresses_free), whatever came of it. */
int own_addresses_read(struct own_addresses *own);
void own_addresses_free(struct own_addresses *own);
/* Loopback addresses always are. */
bool own_addresses_have(const struct own_addresses *own, const struct addr *a);
