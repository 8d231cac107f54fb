/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Configuration options from tables. An option is one row: name, type, range, default, help. Parsing,
 * range checks, errors with the nearest known name, --dump-config and the test that holds manual and
 * sample file against the program all read that row.
 *
 * Pure: values come in as toml_item (policy/toml.h), which knows its file and line. The types that rows
 * use are in policy/option_types.h.
 */
#include <stdbool.h>
#include <stdint.h>

#include "policy/diag.h"
#include "policy/strbuf.h"
#include "policy/toml.h"

struct option_type;
struct option_list;

struct option {
	const char *name;               /* dotted, as in the file: "timeouts.connect" */
	const struct option_type *type; /* how text becomes a field, and back */
	size_t offset;                  /* of the field in the configuration struct */
	const char *def;                /* default as TOML text: "\"5s\"", "0", "[]"; NULL: none */
	int64_t min, max;           /* inclusive; of a number, a duration (ms), a string (bytes),
					 * a list (entries) */
	const char *const *words;   /* option_word, option_word_set: the allowed ones, ends with
					 * NULL; the field is the index, or has its bit */
	const char *const *aliases; /* option_word: pairs of another spelling and its word, ends
					 * with NULL; or NULL */
	const char *help;           /* one line, no final stop */
	bool at_start;              /* a reload cannot change it */
};

/* A type is how a row is read and printed. */
struct option_type {
	const char *name;     /* as the manual says it: "integer", "duration", ... */
	const char *argument; /* for the help of a flag, such as "NUMBER" */
	/* Writes the field at `field` and frees what it held; 0, or -EINVAL or -ENOMEM with `d` filled
	 * (file and line from `item`) and the field as it was. */
	int (*set)(const struct option *o, void *field, const struct toml_item *item,
		   struct diag *d);
	/* Appends the value as TOML, or nothing if there is none. */
	void (*dump)(const struct option *o, const void *field, struct strbuf *out);
	/* Frees what the field owns and zeroes it; NULL if it owns nothing. */
	void (*release)(const struct option *o, void *field);
	const struct option_list *list; /* NULL: not a list; else for option_lists.c */
};

/* Tables end with a row whose name is NULL. Options without a table in their name come first, those
 * of one table stand together. */

/* Sets every field of `conf` (all zero before) to its default. The defaults are ours: a bad one is a
 * BUG. 0 or -ENOMEM. */
int option_set_defaults(const struct option *table, void *conf);

/* The row of that name, letter case aside; NULL: there is none. */
const struct option *option_find(const struct option *table, const char *path);
/* Whether the item names an option, or a table of options. */
bool option_is_known(const struct option *table, const struct toml_item *item);

/* Finds the row for `item->path` (letter case does not count) and sets the field. An unknown name is
 * -EINVAL, with the nearest known name in the text if there is one near enough. */
int option_set(const struct option *table, void *conf, const struct toml_item *item,
	       struct diag *d);

/* option_set() for every item of a document; the same option twice (in different letter case, TOML
 * itself sees the rest) is an error. Fields set before the first error stay set. */
int option_set_all(const struct option *table, void *conf, const struct toml_doc *doc,
		   struct diag *d);

/* That no two of the items have one path, letter case aside: 0, -EINVAL or -ENOMEM. */
int option_check_twice(const struct toml_item *items, size_t n, struct diag *d);

/* What flags of a command line say of the option `name`, in the same types as a file: of a list all
 * `values`, each cut at commas ("" is the empty list); of anything else the last one. `label`, such as
 * "--share", stands for the option in errors. 0, -EINVAL or -ENOMEM with `d` (no file or line). */
int option_set_values(const struct option *table, void *conf, const char *name, const char *label,
		      const char *const *values, size_t n, struct diag *d);

/* The whole configuration as TOML, grouped by table, each option with its help as a comment. Loading
 * it gives the same configuration. */
void option_dump(const struct option *table, const void *conf, struct strbuf *out);

/* The rows alone, which are of one table, without header and help. */
void option_dump_rows(const struct option *table, const void *conf, struct strbuf *out);

/* The options that a reload cannot change and that `new` says otherwise than `old`: their names, each with the
 * value of `old`, such as `workers (still 2), user (still "a")`. Appends nothing if there are none. */
void option_list_restart(const struct option *table, const void *old, const void *new,
			 struct strbuf *out);

/* Frees what the fields own. `conf` may be half built. */
void option_release(const struct option *table, void *conf);
