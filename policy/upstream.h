/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the operator wants of upstreams: the tables [[upstream]] and [group.NAME] of transocks.toml. Pure; the
 * configuration owns everything.
 */
#include "policy/place.h"
#include "policy/url.h"

/* What an upstream is told of a destination whose name is known: the name, the name only where a rule on
 * domains decided, or never the name. */
enum upstream_address { UPSTREAM_ADDRESS_NAME, UPSTREAM_ADDRESS_AUTO, UPSTREAM_ADDRESS_IP };
enum group_choose { GROUP_HASH_CLIENT, GROUP_ROUND_ROBIN, GROUP_LEAST_FLOWS, GROUP_FAILOVER };
enum group_all_down { GROUP_ALL_DOWN_REFUSE, GROUP_ALL_DOWN_DIRECT };

/* In the order of the enums, NULL at the end. */
extern const char *const upstream_address_words[];
extern const char *const group_choose_words[];
extern const char *const group_all_down_words[];

/* Whether an upstream is told a name that is known; `by_name` is that of struct rule_verdict. */
bool upstream_address_is_name(enum upstream_address address, bool by_name);

#define UPSTREAMS_MAX 1024
#define DEFAULT_GROUP "default"

struct upstream_conf {
	struct place place;
	struct places places;
	char *name; /* as logs and counters call it; where the file has none: proxy_url_format(), or "direct" */
	struct proxy_url url;
	char *auth_file; /* "": user and password are in the URL, or there are none */
	char *group;
	size_t group_index; /* in conf.groups */
	unsigned weight;    /* 1..1000 */
	unsigned warm;      /* connections kept ready, for the whole daemon */
	enum upstream_address address;
	bool name_fallback;      /* a name that it cannot resolve is followed by the address */
	bool proxy_protocol;     /* PROXY v2 first */
	struct addr_list source; /* port 0; empty: the kernel chooses */
};

struct group_conf {
	struct place place; /* file NULL: nothing was written about it */
	struct places places;
	char *name;
	enum group_choose choose;
	enum group_all_down when_all_down;
	int64_t probe_interval; /* ms; 0: never */
	char *probe_dest;       /* "host:port" that a full probe asks for; "": up to the greeting */
	size_t *members;        /* in conf.upstreams, in the order of the file */
	size_t n_members;
};
