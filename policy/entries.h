/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The text of a file with one entry a line, as domains_file and networks_file have it: '#' begins a comment, blanks
 * around an entry do not count, nor do lines without one, the CR of CRLF or a byte order mark (UTF-8) in front. Pure.
 */
#include <stdbool.h>

#include "policy/defs.h"

struct entries {
	const char *at, *end; /* what has not been read yet */
	int line;             /* of the entry; the first is 1 */
	const char *entry;    /* within the text, not terminated; any bytes but LF and '#' */
	size_t len;           /* never 0 */
};

void entries_init(struct entries *e, const char *text, size_t n);
/* Goes to the next entry; false: there is none. */
bool entries_next(struct entries *e);

/* For "%s" in a message: `n` bytes from outside in quotes, escaped, and cut if they are many. Returns `out`. */
#define ENTRY_SHOWN_MAX 128
const char *entry_shown(const char *entry, size_t n, char out[ENTRY_SHOWN_MAX]);
