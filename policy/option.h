/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Configuration options from tables. An option is one row: name, type, range, default, help. Parsing,
 * range checks, errors with the nearest known name, --dump-config and the test that holds manual and
 * sample file against the program all read that row.
 *
 * Pure: values come in as toml_item (policy/toml.h), which knows its file and line.
 */
#include "policy/diag.h"
#include "policy/strbuf.h"
#include "policy/toml.h"

#include <stdint.h>

struct option_type;

struct option {
	const char *name;               /* dotted, as in the file: "timeouts.connect" */
	const struct option_type *type; /* how text becomes a field, and back */
	size_t offset;                  /* of the field in the configuration struct */
	const char *def;                /* default as TOML text: "\"5s\"", "0", "[]"; NULL: none */
	int64_t min, max;               /* for numbers and durations (ms), inclusive */
	const char *const
		*words;   /* for words: the allowed ones, ends with NULL; the field is the index */
	const char *help; /* one line, no final stop */
};

/* A type is how a row is read and printed. */
struct option_type {
	const char *name; /* in the manual and in errors: "integer", "duration", ... */
	/* Writes the field at `field`; 0, or -EINVAL with `d` filled (file and line from `item`). */
	int (*set)(const struct option *o, void *field, const struct toml_item *item,
		   struct diag *d);
	/* Appends the value as TOML. */
	void (*dump)(const struct option *o, const void *field, struct strbuf *out);
};

/* Sets every field of `conf` to its default. The defaults are ours: a bad one is a BUG. */
void option_defaults(const struct option *table, void *conf);

/* Finds the row for `item->path` and sets the field. An unknown name is -EINVAL, with the nearest
 * known name in the text if there is one near enough. The table ends with a row whose name is NULL. */
int option_set(const struct option *table, void *conf, const struct toml_item *item,
	       struct diag *d);

/* The whole configuration as TOML, grouped by table, each option with its help as a comment. */
void option_dump(const struct option *table, const void *conf, struct strbuf *out);

/* The entry of `names` (ends with NULL) nearest to `word` by edit distance, or NULL if none is
 * within a third of its length. */
const char *nearest_word(const char *word, const char *const *names);
