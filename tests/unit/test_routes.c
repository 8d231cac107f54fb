/* SPDX-License-Identifier: MIT */
/*
 * The ip rules and routes of TPROXY: what is sent, what is planned, and what the kernel makes
 * of it, in a network namespace of its own (skipped where there is none).
 */
#include "rulemgr/routes.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "rulemgr/route_events.h"

static const struct mark mark = {0x10, 0x10};
static const bool both[LISTENERS_FAMILIES] = {true, true};
static const bool only_ipv4[LISTENERS_FAMILIES] = {true, false};
static const bool only_ipv6[LISTENERS_FAMILIES] = {false, true};

/* Messages */

static void expect_bytes(const struct route_item *item, const uint8_t *bytes, size_t len)
{
	char buf[MNL_NLMSG_HDRLEN + ROUTE_ITEM_MAX] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	route_item_put(item, true, h);
	assert_int_equal(h->nlmsg_type, item->is_rule ? RTM_NEWRULE : RTM_NEWROUTE);
	assert_int_equal(mnl_nlmsg_get_payload_len(h), len);
	assert_memory_equal(mnl_nlmsg_get_payload(h), bytes, len);
}

/* Numbers of host byte order are written for little endian. */
static void test_bytes(void **state)
{
	/* clang-format off */
	static const uint8_t rule[] = {
		AF_INET, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
		8, 0, 6, 0, 0x39, 4, 0, 0,    /* FRA_PRIORITY 1081 */
		8, 0, 10, 0, 0x10, 0, 0, 0,   /* FRA_FWMARK */
		8, 0, 16, 0, 0x10, 0, 0, 0,   /* FRA_FWMASK */
		8, 0, 15, 0, 0x39, 4, 0, 0,   /* FRA_TABLE 1081 */
		5, 0, 21, 0, 84, 0, 0, 0,     /* FRA_PROTOCOL */
	};
	static const uint8_t route[] = {
		AF_INET6, 0, 0, 0, 0, 84, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0,
		8, 0, 15, 0, 0x39, 4, 0, 0,   /* RTA_TABLE 1081 */
		8, 0, 4, 0, 1, 0, 0, 0,       /* RTA_OIF lo */
	};
	/* clang-format on */
	struct route_item item;

	(void)state;
	if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
		skip();
	route_item_make_rule(&item, AF_INET, &mark);
	expect_bytes(&item, rule, sizeof(rule));
	route_item_make_route(&item, AF_INET6);
	expect_bytes(&item, route, sizeof(route));
}

static void read_back(struct route_item *out, const struct route_item *item)
{
	char buf[MNL_NLMSG_HDRLEN + ROUTE_ITEM_MAX] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	route_item_put(item, true, h);
	assert_true(route_item_read(out, h));
}

static void test_read_back(void **state)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	struct route_item item, got;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		route_item_make_rule(&item, families[i], &mark);
		read_back(&got, &item);
		assert_true(route_item_equal(&got, &item));
		route_item_make_route(&item, families[i]);
		read_back(&got, &item);
		assert_true(route_item_equal(&got, &item));
	}
}

/* One more word in the message makes it another rule or route. */
static void test_not_plain(void **state)
{
	struct route_item item, got;

	(void)state;
	route_item_make_rule(&item, AF_INET, &mark);
	item.payload[2] = 8; /* src_len */
	read_back(&got, &item);
	assert_false(got.plain);
	item.payload[2] = 0;
	item.payload[8] = 2; /* FIB_RULE_INVERT */
	read_back(&got, &item);
	assert_true(got.inverted);
	assert_false(got.plain);
	route_item_make_route(&item, AF_INET);
	item.payload[7] = RTN_UNICAST;
	read_back(&got, &item);
	assert_false(got.plain);
	route_item_make_route(&item, AF_INET);
	item.payload[sizeof(struct rtmsg) + 12] = 2; /* another interface */
	read_back(&got, &item);
	assert_false(got.plain);
}

static void test_short_messages(void **state)
{
	char buf[MNL_NLMSG_HDRLEN + ROUTE_ITEM_MAX] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct route_item item;

	(void)state;
	h->nlmsg_type = RTM_NEWRULE;
	assert_false(route_item_read(&item, h));
	h->nlmsg_type = RTM_NEWROUTE;
	assert_false(route_item_read(&item, h));
	((struct rtmsg *)mnl_nlmsg_put_extra_header(h, sizeof(struct rtmsg)))->rtm_family =
		AF_DECnet;
	assert_false(route_item_read(&item, h));
}

/* Plans */

static char text[2048];

static const char *plan_text(const struct routes *r, const struct mark *m, const bool family[])
{
	struct routes_change c;
	struct strbuf out;

	assert_int_equal(routes_plan(r, m, family, &c), 0);
	strbuf_init(&out, text, sizeof(text));
	routes_change_format(&c, &out);
	routes_change_free(&c);
	return text;
}

#define ROUTE4 "route local default dev lo table 1081 protocol 84\n"
#define RULE4  "rule pref 1081 fwmark 0x10/0x10 lookup 1081 protocol 84\n"

static void test_plan(void **state)
{
	static const struct mark other = {0x20, 0x20};
	struct route_item items[3];
	struct routes r = {.items = items, .host_has = {true, true}};

	(void)state;
	assert_string_equal(plan_text(&r, &mark, both),
			    "add " ROUTE4 "add " RULE4 "add -6 " ROUTE4 "add -6 " RULE4);
	assert_string_equal(plan_text(&r, &mark, only_ipv4), "add " ROUTE4 "add " RULE4);
	assert_string_equal(plan_text(&r, NULL, both), "");
	r.host_has[LISTENERS_IPV6] = false;
	assert_string_equal(plan_text(&r, &mark, both), "add " ROUTE4 "add " RULE4);
	route_item_make_rule(&items[0], AF_INET, &mark);
	route_item_make_route(&items[1], AF_INET);
	r.n = 2;
	assert_string_equal(plan_text(&r, &mark, both), "");
	assert_string_equal(plan_text(&r, NULL, both), "del " RULE4 "del " ROUTE4);
	r.host_has[LISTENERS_IPV6] = true;
	/* Live flows of a family that is not taken any more need theirs. */
	assert_string_equal(plan_text(&r, &mark, only_ipv6), "add -6 " ROUTE4 "add -6 " RULE4);
	/* Another mark: the new rule first, so that there is always one. */
	r.host_has[LISTENERS_IPV6] = false;
	assert_string_equal(plan_text(&r, &other, both),
			    "add rule pref 1081 fwmark 0x20/0x20 lookup 1081 protocol 84\n"
			    "del " RULE4);
	items[2] = items[0]; /* twice */
	r.n = 3;
	assert_string_equal(plan_text(&r, &mark, both), "del " RULE4);
	items[2].protocol = 4; /* somebody else's */
	assert_string_equal(plan_text(&r, &mark, both), "");
	assert_string_equal(plan_text(&r, NULL, both), "del " RULE4 "del " ROUTE4);
}

static void test_conflict(void **state)
{
	static const struct {
		struct mark mark;
		bool inverted;
		uint32_t table;
		bool conflict;
	} cases[] = {
		{{0x10, 0x10}, false, 100, true},
		{{0x10, UINT32_MAX}, false, 100, true},
		{{0x11, 0xff},
		 false,
		 100,
		 true}, /* ours and another bit: a subset of our packets */
		{{0x10, 0x10}, true, 100, false},        /* those that we have not marked */
		{{0x20, 0xff}, false, 100, false},       /* not with our bit */
		{{0, 0x10}, false, 100, false},          /* the same in other words */
		{{0x80000, 0xff0000}, false, 52, false}, /* Tailscale's bits */
		{{0x20, 0x20}, false, ROUTES_TABLE, true},
		{{0, 0}, false, ROUTES_TABLE, true},
	};
	struct route_item item;
	const struct routes r = {.items = &item, .n = 1, .host_has = {true, true}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		route_item_make_rule(&item, AF_INET, &cases[i].mark);
		item.protocol = 4;
		item.inverted = cases[i].inverted;
		item.table = cases[i].table;
		assert_ptr_equal(routes_conflict(&r, &mark, both),
				 cases[i].conflict ? &item : NULL);
		item.family = AF_INET6;
		assert_null(routes_conflict(&r, &mark, only_ipv4));
		/* The number alone does not make it ours. */
		item.protocol = ROUTES_PROTOCOL;
		assert_ptr_equal(routes_conflict(&r, &mark, both),
				 cases[i].conflict && cases[i].table != ROUTES_TABLE ? &item
										     : NULL);
	}
}

/* The kernel */

static bool in_namespace;

static void write_text(const char *path, const char *text_of_it)
{
	FILE *f = fopen(path, "w");

	if (f == NULL)
		return;
	fputs(text_of_it, f);
	fclose(f);
}

/* ip(8) is executed, and only a mapped user keeps its capabilities then. */
static bool enter_user_namespace(void)
{
	char uid_map[32], gid_map[32];

	snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	write_text("/proc/self/setgroups", "deny");
	write_text("/proc/self/uid_map", uid_map);
	write_text("/proc/self/gid_map", gid_map);
	return true;
}

static int setup(void **state)
{
	(void)state;
	in_namespace = unshare(CLONE_NEWNET) == 0 || enter_user_namespace();
	return 0;
}

static void sh(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

/* A fresh network with some rules and routes of others. */
static void start(void)
{
	if (!in_namespace || unshare(CLONE_NEWNET) < 0)
		skip();
	sh("ip link set lo up && "
	   "ip link add w0 type veth peer name w1 && "
	   "ip link set w0 addrgenmode none && ip link set w1 addrgenmode none && "
	   "ip link set w0 up && ip link set w1 up && "
	   "ip addr add 10.91.0.1/24 dev w0 && ip addr add fd91::1/64 dev w0 nodad && "
	   "ip route add 11.0.0.0/8 via 10.91.0.2 protocol 84 && "
	   "ip route add 11.1.0.0/16 via 10.91.0.2 table 100 protocol 84 && "
	   "ip rule add pref 5000 from 192.0.2.7 lookup 100 protocol 84 && "
	   "ip rule add pref 1081 from 192.0.2.8 lookup 100 protocol 84 && "
	   "ip -6 route add local 2a00:1::/64 dev lo table 100 && "
	   "ip rule add pref 1081 fwmark 0x40/0x40 lookup 100 && "
	   "ip -6 rule add pref 500 not fwmark 0x10/0x10 from fd91::/16 lookup 100 protocol "
	   "static");
}

static void snapshot(char *out, size_t cap)
{
	FILE *f = popen("{ ip rule; ip -6 rule; ip route show table all;"
			" ip -6 route show table all; } | sed 's/ expires [0-9]*sec//'",
			"r");
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, cap - 1, f);
	out[n] = '\0';
	assert_int_equal(pclose(f), 0);
}

static char before[16384], now[16384];

static void expect_unchanged(void)
{
	snapshot(now, sizeof(now));
	assert_string_equal(now, before);
}

/* What `install` does, and how many steps it took. */
static size_t install(const struct mark *m, const bool family[])
{
	struct routes_change c;
	struct diag d;
	size_t n;

	if (routes_install(m, family, false, &c, &d) < 0)
		fail_msg("%s", d.text);
	n = c.n;
	routes_change_free(&c);
	return n;
}

static size_t removed(void)
{
	struct routes_change c;
	struct diag d;
	size_t n;

	if (routes_remove(false, &c, &d) < 0)
		fail_msg("%s", d.text);
	n = c.n;
	routes_change_free(&c);
	return n;
}

static void expect_refused(int err, const char *words)
{
	struct routes_change c;
	struct diag d;

	snapshot(before, sizeof(before));
	assert_int_equal(routes_install(&mark, both, false, &c, &d), -err);
	if (strstr(d.text, words) == NULL)
		fail_msg("\"%s\" says nothing of \"%s\"", d.text, words);
	expect_unchanged();
}

static void test_install_and_remove(void **state)
{
	static const struct mark other = {0x20, 0x20};

	(void)state;
	start();
	snapshot(before, sizeof(before));
	assert_int_equal(install(&mark, both), 4);
	snapshot(now, sizeof(now));
	assert_string_not_equal(now, before);
	memcpy(before, now, sizeof(before));
	assert_int_equal(install(&mark, both), 0);
	expect_unchanged();
	assert_int_equal(install(&other, both), 4);
	assert_int_equal(install(&mark, only_ipv4),
			 4); /* one rule new, two rules and a route old */
	assert_int_equal(install(&mark, both), 2);
	expect_unchanged();
	assert_int_equal(install(&mark, only_ipv4), 0); /* live flows of the other family */
	expect_unchanged();
}

static void test_foreign_ones_stay(void **state)
{
	(void)state;
	start();
	snapshot(before, sizeof(before));
	install(&mark, both);
	/* The same as ours, but for who made it; the kernel puts it behind ours. */
	sh("ip rule add pref 1081 fwmark 0x10/0x10 lookup 1081 protocol static");
	assert_int_equal(removed(), 4);
	sh("ip rule | grep -q 'fwmark 0x10/0x10 lookup 1081 proto static'");
	sh("ip rule del pref 1081 fwmark 0x10/0x10 lookup 1081 protocol static");
	expect_unchanged();
	assert_int_equal(removed(), 0);
}

static void test_dry_run_and_undo(void **state)
{
	struct routes_change c;
	struct diag d;

	(void)state;
	start();
	snapshot(before, sizeof(before));
	assert_int_equal(routes_install(&mark, both, true, &c, &d), 0);
	assert_int_equal(c.n, 4);
	routes_change_free(&c);
	expect_unchanged();
	assert_int_equal(routes_install(&mark, both, false, &c, &d), 0);
	assert_int_equal(routes_undo(&c, &d), 0);
	routes_change_free(&c);
	expect_unchanged();
	install(&mark, both);
	snapshot(before, sizeof(before));
	assert_int_equal(routes_remove(true, &c, &d), 0);
	assert_int_equal(c.n, 4);
	routes_change_free(&c);
	expect_unchanged();
	assert_int_equal(routes_remove(false, &c, &d), 0);
	assert_int_equal(routes_undo(&c, &d), 0);
	routes_change_free(&c);
	expect_unchanged();
}

static void test_drift(void **state)
{
	struct routes r;
	struct diag d;

	(void)state;
	start();
	install(&mark, both);
	snapshot(before, sizeof(before));
	sh("ip route del local default dev lo table 1081 && "
	   "ip -6 rule del pref 1081 fwmark 0x10/0x10 lookup 1081 && "
	   "ip rule add pref 1081 fwmark 0x10/0x10 iif lo lookup 1081 protocol 84 && "
	   "ip rule add pref 1081 fwmark 0x4/0x4 lookup 1081 protocol 84 && "
	   "ip route add 11.3.0.0/16 dev lo table 1081 protocol 84");
	assert_int_equal(routes_read(&r, &d), 0);
	plan_text(&r, &mark, both);
	routes_free(&r);
	assert_non_null(strstr(text, "add " ROUTE4));
	assert_non_null(strstr(text, "add -6 " RULE4));
	assert_non_null(strstr(text, "del rule pref 1081 fwmark 0x4/0x4"));
	assert_non_null(strstr(text, "del route table 1081"));
	assert_int_equal(install(&mark, both), 5);
	expect_unchanged();
}

/* A route that stands where ours goes is ours, so it makes room. */
static void test_changed_route(void **state)
{
	(void)state;
	start();
	install(&mark, both);
	snapshot(before, sizeof(before));
	sh("ip route replace blackhole default table 1081 protocol 84 && "
	   "ip -6 route replace blackhole default table 1081 protocol 84");
	snapshot(now, sizeof(now));
	assert_string_not_equal(now, before);
	assert_int_not_equal(install(&mark, both), 0);
	expect_unchanged();
	assert_int_equal(install(&mark, both), 0);
}

/* Whether the command is an event. */
static bool heard(int fd, const char *command)
{
	int r;

	sh(command);
	r = route_events_read(fd);
	assert_in_range(r, 0, 1);
	return r == 1;
}

static void test_events(void **state)
{
	static const char *const ours[] = {
		"ip rule del pref 1081 fwmark 0x10/0x10 lookup 1081",
		"ip -6 rule del pref 1081 fwmark 0x10/0x10 lookup 1081",
		"ip rule add pref 8 lookup 1081",
		"ip route del local default dev lo table 1081",
		"ip -6 route del local default dev lo table 1081",
		"ip route add 11.3.0.0/16 dev lo table 1081",
		"ip -6 route add 2a00:1:3::/64 dev lo table 1081",
	};
	static const char *const others[] = {
		"ip rule add pref 7 lookup 1082 protocol 84",
		"ip route add 11.3.0.0/16 dev lo table 1082 protocol 84",
		"ip rule add pref 9 fwmark 0x10/0x10 lookup 1082",
		"ip -6 rule add pref 9 fwmark 0x10/0x10 lookup 100 protocol static",
		"ip rule del pref 9",
		"ip route add 11.4.0.0/16 dev lo",
		"ip route add 11.4.0.0/16 dev lo table 1082 protocol 83",
		"ip -6 route add 2a00:1:4::/64 dev lo table 100",
		"ip route del 11.4.0.0/16",
	};
	struct diag d;
	int fd;

	(void)state;
	start();
	install(&mark, both);
	fd = route_events_open(&d);
	assert_true(fd >= 0);
	assert_int_equal(route_events_read(fd), 0);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		if (!heard(fd, ours[i]))
			fail_msg("not heard: %s", ours[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (heard(fd, others[i]))
			fail_msg("heard: %s", others[i]);
	}
	close(fd);
}

/* More of them than the socket holds. */
static void test_lost_events(void **state)
{
	struct diag d;
	int fd;

	(void)state;
	start();
	fd = route_events_open(&d);
	assert_true(fd >= 0);
	sh("seq 5000 | sed 's/.*/route add 11.8.0.0\\/32 dev lo metric & table 1081/' | ip -batch "
	   "-");
	assert_int_equal(route_events_read(fd), 1);
	assert_int_equal(route_events_read(fd), 0);
	close(fd);
}

static void test_refusals(void **state)
{
	(void)state;
	start();
	sh("ip rule add pref 2000 fwmark 0x10/0xff lookup 100");
	expect_refused(EEXIST, "\"ip rule pref 2000 fwmark 0x10/0xff lookup 100");
	sh("ip rule del pref 2000 && ip -6 route add 2a00:1:2::/64 dev w0 table 1081");
	expect_refused(EEXIST, "\"ip -6 route table 1081");
	/* IPv6 flows there can be, but not to lo: the steps of IPv4 are taken back. */
	sh("ip -6 route flush table 1081 && echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
	expect_refused(EACCES, "add \"ip -6 route local default dev lo table 1081");
}

static void test_host_without_ipv6(void **state)
{
	(void)state;
	start();
	sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
	snapshot(before, sizeof(before));
	assert_int_equal(install(&mark, both), 2);
	assert_int_equal(removed(), 2);
	expect_unchanged();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_read_back),
		cmocka_unit_test(test_not_plain),
		cmocka_unit_test(test_short_messages),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_install_and_remove),
		cmocka_unit_test(test_foreign_ones_stay),
		cmocka_unit_test(test_dry_run_and_undo),
		cmocka_unit_test(test_drift),
		cmocka_unit_test(test_changed_route),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_lost_events),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_host_without_ipv6),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
