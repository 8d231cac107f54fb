/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The types of configuration options: for each, which field it fills. Used in rows of struct option;
 * all state is in the field. Every one refuses a value of another TOML type, naming both.
 */
#include "policy/option.h"

/* Lists with min > 0 that are empty have not been set: dumped as nothing. */

/* unsigned; integer in min..max */
extern const struct option_type option_integer;
/* int; integer in min..max */
extern const struct option_type option_signed;
/* uint16_t; integer 1..65535 (the row's range is not looked at) */
extern const struct option_type option_port;
/* char *, owned; min..max bytes, no control bytes */
extern const struct option_type option_string;
/* an enum whose values are the indices of the row's words */
extern const struct option_type option_word;
/* unsigned; a list of min..max of the row's words, each the bit of its index */
extern const struct option_type option_word_set;
/* int64_t, milliseconds in min..max; the integer 0, or a string such as "250ms", "5s", "1h30m" */
extern const struct option_type option_duration;
/* struct addr_list; a string or a list of strings "address:port", ":port" (0.0.0.0 and ::) or
 * "localhost:port" (127.0.0.1 and ::1); min..max entries */
extern const struct option_type option_listen;
/* struct addr_list, port 0; a list of address literals, min..max entries */
extern const struct option_type option_addresses;
/* struct addr_list; a list of "address" (port 53) or "address:port", min..max entries */
extern const struct option_type option_dns_servers;
/* struct string_list, min..max entries; names of network interfaces: up to IFNAMSIZ - 1 bytes, of which the
 * kernel would take an interface's name */
extern const struct option_type option_interfaces;
/* struct string_list, min..max entries; names of users, or their numbers as strings or integers */
extern const struct option_type option_users;
/* struct string_list, min..max entries; users of auth.file, 1..USERS_NAME_MAX bytes. Kept sorted */
extern const struct option_type option_logins;
/* struct string_list, min..max entries; control groups as paths, kept without "/sys/fs/cgroup" and the
 * slashes around them */
extern const struct option_type option_cgroups;
/* struct prefix_list, min..max entries; networks "10.0.0.0/8" and addresses */
extern const struct option_type option_prefixes;
/* the same; bits behind the prefix are cleared instead of refused */
extern const struct option_type option_clients;
/* as option_prefixes; each meets a range of special_prefixes4 or special_prefixes6 */
extern const struct option_type option_special_prefixes;
/* struct port_list, min..max entries; ports 1..65535 as integers or strings, and ranges "8000-8999". Kept
 * sorted, and joined where they meet */
extern const struct option_type option_ports;
/* struct mark_list, min..max entries as option_mark takes them, without "0/0" */
extern const struct option_type option_marks;
/* struct mark; "VALUE/MASK" or "VALUE" (all bits), hexadecimal or decimal; "0" or "0/0": none */
extern const struct option_type option_mark;
/* struct proxy_url; dumped whole, password included */
extern const struct option_type option_proxy_url;
/* The same within a struct upstream_conf; what came from its auth_file is not dumped */
extern const struct option_type option_upstream_url;
/* bool */
extern const struct option_type option_boolean;
/* char *, owned; "" or the path of a file, from the root */
extern const struct option_type option_path;
/* char *, owned; the NAME of a table [group.NAME] */
extern const struct option_type option_key;
/* char *, owned; "" or "host:port", an IPv6 address in brackets */
extern const struct option_type option_endpoint;
/* struct string_list, min..max entries; domain names, as domain_set_add() takes them; kept as written */
extern const struct option_type option_domains;
/* struct string_list, min..max entries: "", names with or without a dot in front, and addresses; kept as written */
extern const struct option_type option_sites;

/* struct egress_list, min..max entries as egress_entry_parse() takes them; the first of each address counts */
extern const struct option_type option_egress;

/* The index of `text` in `words` (ends with NULL), directly or through `aliases` (pairs of another
 * spelling and its word, ends with NULL; or NULL itself); -1 if it is not there. */
int option_word_index(const char *const *words, const char *const *aliases, const char *text);
