/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From what the operator asks for to the table that does it. Pure: no kernel, no user database.
 *
 * struct want is the whole wish with everything looked up on this host: what every backend and every
 * command starts from. It borrows the configuration, which must outlive it.
 *
 * The order of the rules is the loop guard: the mark first, because it survives every change of
 * user, the user second, then what is local or special-purpose anyway.
 */
#include <sys/types.h>

#include "policy/conf.h"
#include "rulemgr/model.h"

/* Interfaces of one gateway; users, marks and control groups that are exempt. */
#define WANT_GATEWAYS_MAX 64
#define WANT_EXEMPT_MAX   64
/* Addresses of upstreams: two each, if there are as many as there may be. */
#define WANT_UPSTREAMS_MAX (2 * UPSTREAMS_MAX)

/* A control group (v2) as rules see it. */
struct want_cgroup {
	const char *path; /* below /sys/fs/cgroup, without a leading slash */
	uint64_t id;      /* the inode number of its directory */
	uint32_t level;   /* names in the path */
};

/* The comment of the rule for a family that is left out, "IPv4" or "IPv6". */
#define WANT_COMMENT_FAMILY "%s is not redirected"
/* In the comment of the rule for clients that option share leaves out. */
#define WANT_COMMENT_SHARE "client outside the share of"

/* The names of the sets. */
#define WANT_SET_SPECIAL4    "special4" /* and 6: special-purpose ranges, less redirect_anyway */
#define WANT_SET_SPECIAL6    "special6"
#define WANT_SET_CONFIGURED4 "configured4" /* option bypass; only there if not empty */
#define WANT_SET_CONFIGURED6 "configured6"
#define WANT_SET_BYPASS4     "bypass4" /* live exceptions: what is in them is not ours to judge */
#define WANT_SET_BYPASS6     "bypass6"
#define WANT_SET_UPSTREAM4   "upstream4" /* address and port; only there if not empty */
#define WANT_SET_UPSTREAM6   "upstream6"
#define WANT_SET_UIDS        "exempt_uids"    /* only there if not empty */
#define WANT_SET_CGROUPS     "exempt_cgroups" /* only there if not empty; systemd may add to it */
#define WANT_SET_PORTS       "ports"          /* only there if not empty */
#define WANT_SET_GATEWAY     "gateway"        /* with --gateway, and under TPROXY */

struct want {
	const struct redirect *redirect; /* share, quic, ports, bypass, redirect_anyway, priority,
					  * exempt_marks, when_daemon_down: as they stand there */
	enum redirect_mode mode;
	bool family[2];          /* taken: LISTENERS_IPV4, LISTENERS_IPV6 */
	uint16_t port;           /* 1..65535, where transocksd listens */
	uid_t uid;               /* whose flows are never redirected */
	struct mark mark;        /* nor flows with this mark; mask 0: no such rule */
	struct mark tproxy_mark; /* mode tproxy */
	char gateways[WANT_GATEWAYS_MAX][IFNAMSIZ]; /* forwarded flows are taken from these */
	size_t n_gateways;
	uid_t exempt_uids[WANT_EXEMPT_MAX];
	size_t n_exempt_uids;
	struct want_cgroup exempt_cgroups[WANT_EXEMPT_MAX];
	size_t n_exempt_cgroups;
	struct addr upstreams[WANT_UPSTREAMS_MAX]; /* with port; their flows go direct */
	size_t n_upstreams;
	uint16_t earlier_ports[MODEL_PORTS_MAX]; /* of tables that this one replaces */
	size_t n_earlier_ports;
};

/* The mark that ip rules and routes of TPROXY are for; NULL: none are wanted. */
static inline const struct mark *want_routes_mark(const struct want *w)
{
	return w->mode == REDIRECT_MODE_TPROXY ? &w->tproxy_mark : NULL;
}

/* Builds the table. *m is written only on success and then owned by the caller (model_free).
 * 0 or -ENOMEM. */
int want_build(const struct want *w, struct model *m);
