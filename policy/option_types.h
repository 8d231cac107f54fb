/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The types of configuration options: for each, which field it fills. Used in rows of struct option;
 * all state is in the field. Every one refuses a value of another TOML type, naming both.
 */
#include "policy/option.h"

/* unsigned; integer in min..max */
extern const struct option_type option_integer;
/* uint16_t; integer 1..65535 (the row's range is not looked at) */
extern const struct option_type option_port;
/* char *, owned; min..max bytes, no control bytes */
extern const struct option_type option_string;
/* an enum whose values are the indices of the row's words */
extern const struct option_type option_word;
/* int64_t, milliseconds in min..max; the integer 0, or a string such as "250ms", "5s", "1h30m" */
extern const struct option_type option_duration;
/* struct addr_list; a string or a list of strings "address:port", ":port" (0.0.0.0 and ::) or
 * "localhost:port" (127.0.0.1 and ::1); min..max entries */
extern const struct option_type option_listen;
/* struct addr_list, port 0; a list of address literals, min..max entries */
extern const struct option_type option_addresses;
/* struct addr_list; a list of "address" (port 53) or "address:port", min..max entries */
extern const struct option_type option_dns_servers;
/* struct mark; "VALUE/MASK" or "VALUE" (all bits), hexadecimal or decimal; "0" or "0/0": none */
extern const struct option_type option_mark;
/* struct proxy_url; dumped whole, password included */
extern const struct option_type option_proxy_url;

/* The index of `text` in `words` (ends with NULL), directly or through `aliases` (pairs of another
 * spelling and its word, ends with NULL; or NULL itself); -1 if it is not there. */
int option_word_index(const char *const *words, const char *const *aliases, const char *text);
