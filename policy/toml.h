/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * TOML 1.0 through toml++, behind a C face: a document is flattened into items, one for each leaf
 * value, in the order of the file. The document owns every string and array that an item points to.
 * A table without content is an item too, so that a mistyped [header] does not pass unseen.
 */
#include <stdbool.h>
#include <stdint.h>

#include "policy/diag.h"

#ifdef __cplusplus
extern "C" {
#endif

enum toml_kind {
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_BOOLEAN,
	TOML_ARRAY,
	TOML_TABLE, /* with nothing in it; or as an element of a mixed array, whatever is in it */
	TOML_OTHER, /* a date or time: no option takes one */
};

struct toml_item {
	const char *path; /* "log.level"; an element of an array of tables: "upstream[0].url". A key
			   * that TOML wants in quotes has them here, with escapes as in JSON. */
	const char *file;
	int line;
	int table_line; /* of the header, or of the first key, of the table that it stands in or is; 0: in none */
	enum toml_kind kind;
	const char
		*string; /* TOML_STRING; NUL-terminated, `len` bytes (a NUL inside is possible) */
	size_t len;
	int64_t integer;
	double real;
	bool boolean;
	const struct toml_item *elements; /* TOML_ARRAY: `len` of them; their path is the array's */
};

struct toml_doc;

/* Parses `n` bytes at `text`; `file` is the name for messages. On success *doc is owned by the
 * caller (toml_free). -EINVAL with file, line and reason in `d` (no line where
 * toml++ itself fails on a malformed date); -ENOMEM. */
int toml_parse(const char *text, size_t n, const char *file, struct toml_doc **doc, struct diag *d);
void toml_free(struct toml_doc *doc);

/* The items, in the order of the file; *n of them. They live as long as `doc`. */
const struct toml_item *toml_items(const struct toml_doc *doc, size_t *n);

#ifdef __cplusplus
}
#endif
