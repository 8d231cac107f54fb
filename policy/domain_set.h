/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A set of domain names, built once and then immutable: any thread may ask. An entry "example.com" is that name
 * alone; ".example.com" is the name and everything below it. A look-up costs one probe for each label of the
 * name, however many entries there are. Pure.
 */
#include <stdbool.h>
#include <stddef.h>

#include "policy/diag.h"

struct domain_set;

/* An empty set, to be filled; NULL: no memory. */
struct domain_set *domain_set_new(void);
/* NULL is fine. */
void domain_set_free(struct domain_set *s);

/* Adds an entry of `n` bytes in any spelling that name_normalise() takes, with or without a leading dot. 0;
 * -EINVAL with a reason in `d` (no file or line); -ENOMEM. Twice the same is fine. */
int domain_set_add(struct domain_set *s, const char *entry, size_t n, struct diag *d);
/* Adds the entries of a file's text: one a line, '#' begins a comment, blank lines are skipped. 0, or -EINVAL with
 * file and line, or -ENOMEM. */
int domain_set_add_text(struct domain_set *s, const char *text, size_t n, const char *file,
			struct diag *d);

/* `name` as name_normalise() gives it. */
bool domain_set_contains(const struct domain_set *s, const char *name);
/* Entries, without those that another one covers only if that was seen while adding. */
size_t domain_set_count(const struct domain_set *s);
size_t domain_set_bytes(const struct domain_set *s);
