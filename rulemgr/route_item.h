/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One policy rule ("ip rule") or route of the kernel, as rtnetlink(7) carries it. Pure; a
 * value.
 *
 * The message stands in it whole, as the kernel sent it or as we made it: removing, or putting
 * back, exactly that rule is sending it again.
 */
#include <libmnl/libmnl.h>
#include <stdbool.h>

#include "policy/mark.h"
#include "policy/strbuf.h"

/* Who made a rule or route, FRA_PROTOCOL (Linux 4.17) and rtm_protocol: "T", a number that
 * nobody had claimed; OVN does by now. So what is ours also is in our table, and a rule at our
 * place. */
#define ROUTES_PROTOCOL 84
/* Ours alone: the table, and where its rules stand among the others. */
#define ROUTES_TABLE    1081
#define ROUTES_PRIORITY 1081

/* Bytes of a message behind its header; ours have less than 80. */
#define ROUTE_ITEM_MAX 512

struct route_item {
	bool is_rule;      /* or a route */
	bool plain;        /* the fields below say all of it: packets with the mark look into the
			    * table, or everything is delivered to this host */
	bool inverted;     /* a rule for the packets that do not match */
	uint8_t family;    /* AF_INET, AF_INET6 */
	uint8_t protocol;  /* who made it */
	struct mark mark;  /* of a rule; mask 0: it does not look at marks */
	uint32_t priority; /* of a rule */
	uint32_t table;
	uint32_t len; /* of payload; 0: longer than there is room */
	uint8_t payload[ROUTE_ITEM_MAX];
};

/* What TPROXY needs of each family: the rule "packets with this mark look into ROUTES_TABLE"
 * and the route "all of it is delivered here". */
void route_item_make_rule(struct route_item *item, uint8_t family, const struct mark *mark);
void route_item_make_route(struct route_item *item, uint8_t family);

/* From a message of a list (RTM_NEWRULE or RTM_NEWROUTE). False if it is neither, or not of
 * IPv4 or IPv6. */
bool route_item_read(struct route_item *item, const struct nlmsghdr *h);

/* Appends the request to make it, or to remove it, to the header at `h`, of which only length
 * and type are written. */
void route_item_put(const struct route_item *item, bool add, struct nlmsghdr *h);

/* Made by us: what others made is never changed. */
bool route_item_is_ours(const struct route_item *item);

/* The same rule or route, and both plain. */
bool route_item_equal(const struct route_item *a, const struct route_item *b);

/* As ip(8) takes it behind "add": "rule pref 1081 fwmark 0x10/0x10 lookup 1081", with "-6 " in
 * front for IPv6. */
void route_item_format(const struct route_item *item, struct strbuf *out);
