/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Short texts that flows keep for their whole life, names above all: few are long, so they have two pools. One belongs to
 * one worker; no locks.
 */
#include "daemon/core/pool.h"

#define TEXTS_SHORT 48  /* bytes with the NUL that the first pool has room for */
#define TEXTS_LONG  256 /* no text is longer */

struct texts {
	struct pool small, large;
};

void texts_init(struct texts *t);
/* Every text must be back (BUG otherwise). */
void texts_destroy(struct texts *t);

/* A copy, or NULL: no memory. Its length must not be changed. */
char *texts_keep(struct texts *t, const char *text);
/* NULL is fine. */
void texts_drop(struct texts *t, char *text);
