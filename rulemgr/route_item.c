/* SPDX-License-Identifier: MIT */
#include "rulemgr/route_item.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#define LOOPBACK_IFINDEX 1 /* in every network namespace, include/net/flow.h */

/* A message under construction, for what stands behind the header. */
union message {
	struct nlmsghdr header;
	char bytes[MNL_NLMSG_HDRLEN + ROUTE_ITEM_MAX];
};

static void keep_payload(struct route_item *item, const struct nlmsghdr *h)
{
	size_t len = mnl_nlmsg_get_payload_len(h);

	item->len = 0;
	if (len > sizeof(item->payload))
		return;
	memcpy(item->payload, mnl_nlmsg_get_payload(h), len);
	item->len = (uint32_t)len;
}

void route_item_make_rule(struct route_item *item, uint8_t family, const struct mark *mark)
{
	union message m = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(&m);
	struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(h, sizeof(*rule));

	rule->family = family;
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(h, FRA_PRIORITY, ROUTES_PRIORITY);
	mnl_attr_put_u32(h, FRA_FWMARK, mark->value);
	mnl_attr_put_u32(h, FRA_FWMASK, mark->mask);
	mnl_attr_put_u32(h, FRA_TABLE, ROUTES_TABLE);
	mnl_attr_put_u8(h, FRA_PROTOCOL, ROUTES_PROTOCOL);
	*item = (struct route_item){
		.is_rule = true,
		.plain = true,
		.family = family,
		.protocol = ROUTES_PROTOCOL,
		.mark = *mark,
		.priority = ROUTES_PRIORITY,
		.table = ROUTES_TABLE,
	};
	keep_payload(item, h);
}

void route_item_make_route(struct route_item *item, uint8_t family)
{
	union message m = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(&m);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(h, sizeof(*route));

	route->rtm_family = family;
	route->rtm_protocol = ROUTES_PROTOCOL;
	route->rtm_scope = RT_SCOPE_HOST;
	route->rtm_type = RTN_LOCAL;
	mnl_attr_put_u32(h, RTA_TABLE, ROUTES_TABLE);
	mnl_attr_put_u32(h, RTA_OIF, LOOPBACK_IFINDEX);
	*item = (struct route_item){
		.plain = true,
		.family = family,
		.protocol = ROUTES_PROTOCOL,
		.table = ROUTES_TABLE,
	};
	keep_payload(item, h);
}

/* 0 for what is no number of 32 bits, which the kernel does not send. */
static uint32_t attr_u32(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_U32) < 0 ? 0 : mnl_attr_get_u32(a);
}

static void read_rule_attr(struct route_item *item, const struct nlattr *a)
{
	switch (mnl_attr_get_type(a)) {
	case FRA_TABLE:
		item->table = attr_u32(a);
		break;
	case FRA_PRIORITY:
		item->priority = attr_u32(a);
		break;
	case FRA_FWMARK:
		item->mark.value = attr_u32(a);
		break;
	case FRA_FWMASK:
		item->mark.mask = attr_u32(a);
		break;
	case FRA_PROTOCOL:
		if (mnl_attr_validate(a, MNL_TYPE_U8) >= 0)
			item->protocol = mnl_attr_get_u8(a);
		break;
	case FRA_SUPPRESS_PREFIXLEN: /* always there; -1: it suppresses nothing */
	case FRA_SUPPRESS_IFGROUP:
		item->plain &= attr_u32(a) == UINT32_MAX;
		break;
	case FRA_DST:
	case FRA_SRC:
	case FRA_IIFNAME:
	case FRA_OIFNAME:
	case FRA_GOTO:
	case FRA_FLOW:
	case FRA_TUN_ID:
	case FRA_L3MDEV:
	case FRA_UID_RANGE:
	case FRA_IP_PROTO:
	case FRA_SPORT_RANGE:
	case FRA_DPORT_RANGE:
		item->plain = false;
		break;
	}
}

static bool read_rule(struct route_item *item, const struct nlmsghdr *h)
{
	const struct fib_rule_hdr *rule = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*rule))
		return false;
	*item = (struct route_item){
		.is_rule = true,
		.plain = rule->action == FR_ACT_TO_TBL && rule->dst_len == 0 &&
			 rule->src_len == 0 && rule->tos == 0 && rule->flags == 0,
		.inverted = rule->flags & FIB_RULE_INVERT,
		.family = rule->family,
		.table = rule->table,
	};
	mnl_attr_for_each(a, h, sizeof(*rule)) read_rule_attr(item, a);
	return true;
}

static bool read_route(struct route_item *item, const struct nlmsghdr *h)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(h);
	uint32_t interface = 0;
	const struct nlattr *a;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*route) || route->rtm_flags & RTM_F_CLONED)
		return false;
	*item = (struct route_item){
		.plain = route->rtm_type == RTN_LOCAL && route->rtm_dst_len == 0 &&
			 route->rtm_src_len == 0 && route->rtm_tos == 0,
		.family = route->rtm_family,
		.protocol = route->rtm_protocol,
		.table = route->rtm_table,
	};
	mnl_attr_for_each(a, h, sizeof(*route))
	{
		switch (mnl_attr_get_type(a)) {
		case RTA_TABLE:
			item->table = attr_u32(a);
			break;
		case RTA_OIF:
			interface = attr_u32(a);
			break;
		case RTA_GATEWAY:
		case RTA_VIA:
		case RTA_MULTIPATH:
		case RTA_PREFSRC:
			item->plain = false;
			break;
		}
	}
	item->plain &= interface == LOOPBACK_IFINDEX;
	return true;
}

bool route_item_read(struct route_item *item, const struct nlmsghdr *h)
{
	bool known = (h->nlmsg_type == RTM_NEWRULE && read_rule(item, h)) ||
		     (h->nlmsg_type == RTM_NEWROUTE && read_route(item, h));

	if (!known || (item->family != AF_INET && item->family != AF_INET6))
		return false;
	keep_payload(item, h);
	return true;
}

void route_item_put(const struct route_item *item, bool add, struct nlmsghdr *h)
{
	if (item->is_rule)
		h->nlmsg_type = add ? RTM_NEWRULE : RTM_DELRULE;
	else
		h->nlmsg_type = add ? RTM_NEWROUTE : RTM_DELROUTE;
	memcpy(mnl_nlmsg_put_extra_header(h, item->len), item->payload, item->len);
}

bool route_item_is_ours(const struct route_item *item)
{
	return item->protocol == ROUTES_PROTOCOL && item->table == ROUTES_TABLE &&
	       (!item->is_rule || item->priority == ROUTES_PRIORITY);
}

bool route_item_equal(const struct route_item *a, const struct route_item *b)
{
	return a->plain && b->plain && a->is_rule == b->is_rule && a->family == b->family &&
	       a->protocol == b->protocol && a->table == b->table && a->priority == b->priority &&
	       a->mark.value == b->mark.value && a->mark.mask == b->mark.mask;
}

void route_item_format(const struct route_item *item, struct strbuf *out)
{
	strbuf_puts(out, item->family == AF_INET6 ? "-6 " : "");
	if (!item->is_rule) {
		strbuf_printf(out, "route %stable %u", item->plain ? "local default dev lo " : "",
			      item->table);
	} else {
		strbuf_printf(out, "rule pref %u%s", item->priority, item->inverted ? " not" : "");
		if (item->mark.mask != 0)
			strbuf_printf(out, " fwmark 0x%x/0x%x", item->mark.value, item->mark.mask);
		strbuf_printf(out, " lookup %u", item->table);
	}
	if (item->protocol != 0)
		strbuf_printf(out, " protocol %u", item->protocol);
}
