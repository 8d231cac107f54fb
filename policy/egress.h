/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the operator wants of usocksd's own addresses towards destinations: options of [outgoing] in usocksd.toml.
 * Pure; the configuration owns everything.
 */
#include <stdbool.h>

#include "policy/diag.h"
#include "policy/place.h"
#include "policy/prefix_set.h"
#include "policy/redirect.h"
#include "policy/users.h"

#define EGRESS_WEIGHT_MAX 1000
/* So that the nibbles of an IPv6 address have room in front of it. */
#define EGRESS_DNSBL_MAX (253 - 64)
/* Of one list. */
#define EGRESS_ADDRESSES_MAX 1024
/* Room for "PREFIX weight=1000" and the NUL. */
#define EGRESS_TEXT_MAX (PREFIX_TEXT_MAX + 16)

/* An own address, or an IPv6 prefix of which each client gets an address. */
struct egress_entry {
	struct prefix prefix;
	unsigned
		weight; /* 1..EGRESS_WEIGHT_MAX: its share of clients, beside the others of its family */
};

struct egress_list {
	struct egress_entry *entries;
	size_t n;
};

/* [[outgoing.users]] */
struct egress_users {
	struct place place;
	struct places places;
	struct prefix_list clients; /* empty: any */
	struct string_list users;   /* who have logged in, in byte order; empty: any, or nobody */
	struct egress_list addresses;
	struct prefix_set *set; /* of `clients`, compiled */
};

struct egress_conf {
	struct egress_list addresses; /* empty: the kernel chooses */
	struct place addresses_place;
	struct egress_users *users; /* who has others: the first that has the client */
	size_t n_users;
	char *dnsbl_domain;     /* "": no blocklist is asked */
	int64_t dnsbl_interval; /* ms, from one round to the next */
	char *iface;            /* that all goes through; "": as routes say */
};

/* "203.0.113.10", "2001:db8::1" or "2001:db8:1::/64", " weight=N" behind it or not. 0, or -EINVAL with what is wrong
 * in *why (constant words that follow "is not"). */
int egress_entry_parse(struct egress_entry *e, const char *text, const char **why);
/* The same without a weight of 1; returns `out`. */
const char *egress_entry_format(const struct egress_entry *e, char *out, size_t cap);
/* An address without its length, a prefix with it; returns `out` (PREFIX_TEXT_MAX bytes are enough). */
const char *egress_prefix_format(const struct prefix *p, char *out, size_t cap);

bool egress_is_address(const struct prefix *p);
/* The address of `p` that is the client's: of a prefix by a hash of the client's address, the same in every process; never
 * the prefix's first one, which means its routers (RFC 4291 section 2.6.1). Port 0. */
struct addr egress_address(const struct prefix *p, const struct addr *client);

/* What no single row can check; compiles what is asked for each flow. Again is fine. 0, or -EINVAL or -ENOMEM with `d`. */
int egress_finish(struct egress_conf *c, const char *file, struct diag *d);
/* Frees what egress_finish() built; the written fields belong to their options. */
void egress_release(struct egress_conf *c);

/* Whether all users that are named can log in; `known` NULL: nobody can. 0, or -EINVAL with `d`. */
int egress_check_users(const struct egress_conf *c, const struct users *known, struct diag *d);

#define EGRESS_NO_USERS SIZE_MAX
/* The index in `users` of the first that has the client and `user`, as which it has logged in (NULL: it has not), or
 * EGRESS_NO_USERS. */
size_t egress_users_of(const struct egress_conf *c, const struct addr *client, const char *user);
