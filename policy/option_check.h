/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the option types (option_types.c, option_lists.c) have in common: how they refuse a value, in one
 * form of words, and how they print a string. Included by those two only.
 */
#include "policy/mark.h"
#include "policy/option.h"

/* Each returns -errno and fills `d` with the item's place. The text begins with the option's name, or with
 * the flag where the value comes from a command line. */
int option_refuse(const struct option *o, const struct toml_item *item, int err, struct diag *d,
		  const char *fmt, ...) PRINTF_LIKE(5, 6);
/* "... wants an integer, not a list" */
int option_bad_kind(const struct option *o, const struct toml_item *item, const char *wanted,
		    struct diag *d);
/* "...: "text" is not this or that": the string in quotes, escaped and cut if it is long */
int option_bad_text(const struct option *o, const struct toml_item *item, const char *why,
		    struct diag *d);
int option_out_of_memory(const struct option *o, const struct toml_item *item, struct diag *d);

/* For "%s": the string in quotes, escaped (it comes from the file) and cut if it is long. */
const char *option_shown(const struct toml_item *item, char out[128]);

/* Strings become C strings; a byte below blank in any of them is a slip or worse. */
bool option_is_clean(const struct toml_item *item);

/* 0, or -EINVAL: a string without control bytes; an integer in min..max; a list of as many entries as the
 * row allows. */
int option_check_string(const struct option *o, const struct toml_item *item, const char *wanted,
			struct diag *d);
int option_check_integer(const struct option *o, const struct toml_item *item, int64_t min,
			 int64_t max, struct diag *d);
int option_check_entries(const struct option *o, const struct toml_item *item, struct diag *d);

/* As a TOML basic string; its UTF-8 (toml++ has checked it) stays. */
void option_dump_string(struct strbuf *out, const char *text);
void option_dump_mark(struct strbuf *out, const struct mark *mark);
