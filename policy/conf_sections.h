/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The tables of transocks.toml that there may be many of: [[upstream]], [group.NAME] and [[rule]]. Rows, and what
 * they have to agree on. Pure; the configuration owns what is built. Included by conf*.c and tests only.
 */
#include "policy/conf.h"
#include "policy/option_section.h"

#define GROUPS_MAX 1024
#define RULES_MAX  4096

extern const struct option_section conf_sections[];

/* Once, after all files are read: `proxy_url` becomes an upstream, names and groups that nobody wrote come into being,
 * and what refers to a group gets its index. `file` is named where no line is at fault. Without an upstream:
 * 0, and no group has members. 0, -EINVAL or -ENOMEM with `d`. */
int conf_sections_finish(struct conf *c, const char *file, struct diag *d);

/* User and password of an auth_file, `n` bytes at `text`: "user:password" in one line, or "user" alone for SOCKS4a.
 * 0, or -EINVAL with `d`, which quotes nothing of it; *u is as it was then. */
int conf_parse_auth(struct proxy_url *u, const char *text, size_t n, const char *file,
		    struct diag *d);

/* Where the option of an upstream, "url", was written; else where its table begins, or nowhere. */
struct place conf_upstream_place(const struct upstream_conf *u, const char *option);

/* The same of a rule. */
struct place conf_rule_place(const struct flow_rule *r, const char *option);

bool conf_rule_has_conditions(const struct flow_rule *r);

/* Frees what is there; the configuration may be half built. */
void conf_sections_release(struct conf *c);
