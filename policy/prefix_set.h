/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A set of networks of both families, built once and then immutable: any thread may ask. A look-up's cost does
 * not grow with the number of networks. Pure.
 */
#include <stdbool.h>
#include <stddef.h>

#include "policy/diag.h"
#include "policy/prefix.h"

struct prefix_set;

/* An empty set, to be filled; NULL: no memory. */
struct prefix_set *prefix_set_new(void);
/* NULL is fine. */
void prefix_set_free(struct prefix_set *s);

/* 0 or -ENOMEM. Twice the same, or one inside another, is fine. */
int prefix_set_add(struct prefix_set *s, const struct prefix *p);
/* Adds the networks of a file's text: one a line as prefix_parse() takes it, '#' begins a comment, blank lines are
 * skipped. 0, or -EINVAL with file and line, or -ENOMEM. */
int prefix_set_add_text(struct prefix_set *s, const char *text, size_t n, const char *file,
			struct diag *d);
/* After the last one was added, before the first question. 0 or -ENOMEM. */
int prefix_set_finish(struct prefix_set *s);

bool prefix_set_contains(const struct prefix_set *s, const struct addr *a);
/* Once finished; without those inside others. */
size_t prefix_set_count(const struct prefix_set *s);
size_t prefix_set_bytes(const struct prefix_set *s);
