/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Command lines from tables. Every flag of a program is one row; parsing, --help and the test that
 * holds manual and completion against the program read the same row. Go spellings (-logfile) and
 * GNU spellings (--logfile) are both taken.
 */
#include <stdbool.h>

#include "policy/diag.h"
#include "policy/strbuf.h"

struct flag {
	const char *name;     /* long name, without dashes: "logfile" */
	char letter;          /* one-letter spelling or 0 */
	const char *argument; /* upper-case word for the help text, such as "FILE"; NULL: none */
	const char *help;     /* one line */
	int id;               /* what the callback gets */
};

/* Called for each flag in order; `value` is NULL for a flag without argument.
 * 0, or a negative errno with `d` filled. */
typedef int cmdline_fn(void *ctx, int id, const char *value, struct diag *d);

/* Parses argv[1..argc) against `flags` (ends with a row whose name is NULL). Words that are no flag
 * are collected in order at the end of argv; *first_word is the index of the first. Returns 0 or
 * -EINVAL with a text that names the flag; nothing is printed here. */
int cmdline_parse(const struct flag *flags, int argc, char **argv, int *first_word, cmdline_fn *fn,
		  void *ctx, struct diag *d);

/* One aligned line per flag: "  -f, --file FILE   help". */
void cmdline_help(const struct flag *flags, struct strbuf *out);
