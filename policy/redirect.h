/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the operator wants redirected: the table [redirect] of transocks.toml, read by transocks-rules. Pure;
 * the configuration that holds it owns the lists.
 */
#include "policy/mark.h"
#include "policy/prefix.h"

/* How flows reach transocksd: by REDIRECT (NAT), or TPROXY (the destination stays on the packet). */
enum redirect_mode { REDIRECT_MODE_REDIRECT, REDIRECT_MODE_TPROXY };
enum redirect_backend { REDIRECT_BACKEND_AUTO, REDIRECT_BACKEND_NFT, REDIRECT_BACKEND_IPTABLES };
enum redirect_family { REDIRECT_FAMILY_BOTH, REDIRECT_FAMILY_IPV4, REDIRECT_FAMILY_IPV6 };
enum redirect_quic { REDIRECT_QUIC_PASS, REDIRECT_QUIC_REJECT };
/* New flows while the daemon is not there: refused, or direct. */
enum redirect_down { REDIRECT_DOWN_CLOSED, REDIRECT_DOWN_OPEN };

/* In the order of the enums, NULL at the end. */
extern const char *const redirect_mode_words[];
extern const char *const redirect_backend_words[];
extern const char *const redirect_family_words[];
extern const char *const redirect_quic_words[];
extern const char *const redirect_down_words[];

struct prefix_list {
	struct prefix *prefixes;
	size_t n;
};

struct port_range {
	uint16_t first, last; /* inclusive */
};

struct port_list { /* sorted, no two of them meet */
	struct port_range *ranges;
	size_t n;
};

bool port_list_contains(const struct port_list *list, uint16_t port);

struct mark_list {
	struct mark *marks;
	size_t n;
};

struct string_list {
	char **strings;
	size_t n;
};

struct redirect {
	enum redirect_backend backend;
	enum redirect_family family;
	enum redirect_quic quic;
	enum redirect_down when_daemon_down;
	int priority;                       /* of the nat chains; nft's "dstnat" is -100 */
	unsigned share;                     /* percent of the clients, 0..100 */
	struct string_list gateway;         /* interface names */
	struct prefix_list bypass;          /* never redirected, beside the special-purpose ones */
	struct prefix_list redirect_anyway; /* special-purpose, redirected all the same */
	struct port_list ports;             /* destination ports taken; empty: all */
	struct string_list exempt_uids;     /* users, by name or number, whose flows go direct */
	struct string_list exempt_cgroups;  /* paths below /sys/fs/cgroup, the same */
	struct mark_list exempt_marks;      /* the same */
};
