/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "daemon/upstream/upstreams.h"
#include "tests/unit/log_files.h"

#define T0 UINT64_C(1000000)
#define N  4

/* Upstreams a, b and c in one group, and d alone in another. */
struct world {
	struct conf conf;
	struct upstream_conf upstreams[N];
	struct group_conf groups[2];
	size_t members[N];
	struct upstreams *all;
};

static struct world world;

static struct addr client(uint8_t last)
{
	uint8_t ip[4] = {192, 0, 2, last};
	return addr_from_bytes(ip, 4, 0);
}

static void world_fill(struct world *w, enum group_choose choose)
{
	static const char *const names[N] = {"a", "b", "c", "d"};

	*w = (struct world){0};
	atomic_init(&w->conf.refs, 1);
	for (size_t i = 0; i < N; i++) {
		w->upstreams[i] = (struct upstream_conf){
			.name = (char *)names[i],
			.group = (char *)(i < 3 ? "default" : "other"),
			.group_index = i / 3,
			.weight = 1,
		};
		w->upstreams[i].url.scheme = PROXY_SOCKS5;
		w->upstreams[i].url.port = (uint16_t)(1080 + i);
		snprintf(w->upstreams[i].url.host, sizeof(w->upstreams[i].url.host), "%s.test",
			 names[i]);
		w->members[i] = i;
	}
	w->groups[0] = (struct group_conf){
		.name = (char *)"default", .choose = choose, .members = w->members, .n_members = 3};
	w->groups[1] = (struct group_conf){.name = (char *)"other",
					   .choose = choose,
					   .members = w->members + 3,
					   .n_members = 1};
	w->conf.upstreams = w->upstreams;
	w->conf.n_upstreams = N;
	w->conf.groups = w->groups;
	w->conf.n_groups = 2;
}

static void world_open(enum group_choose choose)
{
	world_fill(&world, choose);
	assert_int_equal(upstreams_new(&world.conf, NULL, &world.all, NULL), 0);
	assert_int_equal(atomic_load(&world.conf.refs), 2);
}

/* To what `fill` made of `to`. */
static void reload(struct world *to)
{
	struct upstreams *next;

	assert_int_equal(upstreams_new(&to->conf, world.all, &next, NULL), 0);
	upstreams_unref(world.all);
	world.all = next;
}

static int setup(void **state)
{
	make_dir(state);
	configure(path_of("log"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	return 0;
}

static int teardown(void **state)
{
	upstreams_unref(world.all);
	world.all = NULL;
	log_stop();
	return remove_dir(state);
}

static struct upstream *up(size_t i)
{
	return &world.all->items[i];
}

static void fail_one(size_t i, uint64_t now)
{
	upstream_failed(up(i), UPSTREAM_FAILED_CONNECT, ECONNREFUSED, NULL, now, now);
}

static void eject(size_t i, uint64_t now)
{
	for (unsigned k = 0; k < HEALTH_FAILURES; k++)
		fail_one(i, now);
	assert_int_equal(health_share(&up(i)->run->health, now), 0);
}

static uint64_t until(size_t i)
{
	return atomic_load(&up(i)->run->health.until_ms);
}

/* The order for a client as a text, such as "bca". */
static const char *order_of(size_t group, const struct addr *who, uint64_t now)
{
	static char text[UPSTREAM_TRIES_MAX + 1];
	uint16_t out[UPSTREAM_TRIES_MAX];
	size_t n = upstreams_order(world.all, group, who, now, out);

	assert_in_range(n, 0, UPSTREAM_TRIES_MAX);
	for (size_t i = 0; i < n; i++)
		text[i] = up(out[i])->conf->name[0];
	text[n] = '\0';
	return text;
}

static const char *order(uint64_t now)
{
	struct addr who = client(1);
	return order_of(0, &who, now);
}

static unsigned log_count(const char *part)
{
	size_t len;
	char *text = slurp_file("log", &len);
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, part)) != NULL; p++)
		n++;
	free(text);
	return n;
}

static void test_failover(void **state)
{
	uint64_t due;
	struct addr who = client(1);

	(void)state;
	world_open(GROUP_FAILOVER);
	assert_string_equal(order(T0), "abc");
	assert_string_equal(order_of(1, &who, T0), "d");
	eject(0, T0);
	assert_string_equal(order(T0), "bca");
	/* A quarter of each ejection is left to chance. */
	eject(1, T0 + HEALTH_BACKOFF_MS / 4);
	assert_string_equal(order(T0 + HEALTH_BACKOFF_MS / 4), "cab");
	/* Ejected: the one that is due first goes first. */
	eject(2, T0 + 50);
	assert_true(upstreams_are_down(world.all, 0, T0 + 100));
	assert_false(upstreams_are_down(world.all, 1, T0 + 100));
	assert_int_equal(strlen(order(T0 + 100)), 3);
	for (size_t i = 0; i < 3; i++)
		atomic_store(&up(i)->run->health.until_ms, T0 + 1000 - 100 * i);
	assert_string_equal(order(T0 + 100), "cba");
	assert_string_equal(order_of(1, &who, T0), "d");
	/* The first one in the order gets its trial, others do not queue behind that flow. */
	due = T0 + 1000;
	assert_string_equal(order(due), "acb");
	assert_int_equal(atomic_load(&up(0)->run->health.state), HEALTH_TRIAL);
	assert_string_equal(order(due), "bca");
	upstream_greeted(up(1), due, due + 1);
	assert_string_equal(order(due + HEALTH_RAMP_MS + 1), "bca");
}

static void test_direct_takes_nobody_who_is_ejected(void **state)
{
	(void)state;
	world_open(GROUP_FAILOVER);
	world.groups[0].when_all_down = GROUP_ALL_DOWN_DIRECT;
	eject(0, T0);
	assert_string_equal(order(T0), "bc");
	eject(1, T0);
	eject(2, T0);
	assert_string_equal(order(T0), "");
	assert_string_equal(order(T0 + HEALTH_BACKOFF_MS), "a");
	assert_string_equal(order(T0 + HEALTH_BACKOFF_MS), "b");
	assert_string_equal(order(T0 + HEALTH_BACKOFF_MS), "c");
	assert_string_equal(order(T0 + HEALTH_BACKOFF_MS), "");
}

/* How often each comes first, over so many clients and turns. */
static void firsts(uint64_t now, unsigned n, unsigned count[N])
{
	for (size_t i = 0; i < N; i++)
		count[i] = 0;
	for (unsigned i = 0; i < n; i++) {
		struct addr who = client((uint8_t)i);

		count[order_of(0, &who, now)[0] - 'a']++;
	}
}

static void test_spreads(void **state)
{
	static const enum group_choose ways[] = {GROUP_HASH_CLIENT, GROUP_ROUND_ROBIN,
						 GROUP_LEAST_FLOWS};
	unsigned count[N];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		upstreams_unref(world.all);
		world_open(ways[i]);
		firsts(T0, 240, count);
		for (size_t k = 0; k < 3; k++)
			assert_in_range(count[k], 50, 110);
		eject(1, T0);
		firsts(T0, 240, count);
		assert_int_equal(count[1], 0);
		assert_in_range(count[0], 80, 160);
	}
}

static void test_least_flows(void **state)
{
	(void)state;
	world_open(GROUP_LEAST_FLOWS);
	upstream_flow_begin(up(0));
	upstream_flow_begin(up(0));
	upstream_flow_begin(up(1));
	assert_string_equal(order(T0), "cba");
	upstream_flow_end(up(0));
	upstream_flow_end(up(0));
	upstream_flow_begin(up(2));
	assert_string_equal(order(T0), "abc");
}

/* Losing one moves only its own clients, and they come back one by one. */
static void test_hash_moves_only_who_must(void **state)
{
	char before[200];
	unsigned moved = 0;
	uint64_t now = T0;

	(void)state;
	world_open(GROUP_HASH_CLIENT);
	for (unsigned i = 0; i < sizeof(before); i++) {
		struct addr who = client((uint8_t)i);

		before[i] = order_of(0, &who, now)[0];
	}
	eject(1, now);
	for (unsigned i = 0; i < sizeof(before); i++) {
		struct addr who = client((uint8_t)i);
		char c = order_of(0, &who, now)[0];

		assert_true(before[i] == 'b' ? c != 'b' : c == before[i]);
	}
	upstream_greeted(up(1), now + 1, now + 2);
	now += 2;
	for (unsigned ms = 0; ms <= HEALTH_RAMP_MS; ms += HEALTH_RAMP_MS / 20) {
		unsigned n = 0;

		for (unsigned i = 0; i < sizeof(before); i++) {
			struct addr who = client((uint8_t)i);
			char c = order_of(0, &who, now + ms)[0];

			assert_true(before[i] == 'b' || c == before[i]);
			n += before[i] == 'b' && c == 'b';
		}
		assert_true(n >= moved);
		if (ms == 0)
			assert_in_range(n, 0, 20);
		moved = n;
	}
	assert_in_range(moved, 40, 100);
}

static void test_failover_returns_slowly(void **state)
{
	unsigned count[N];

	(void)state;
	world_open(GROUP_FAILOVER);
	eject(0, T0);
	firsts(T0, 200, count);
	assert_int_equal(count[1], 200);
	upstream_greeted(up(0), T0 + 1, T0 + 2);
	firsts(T0 + 2 + HEALTH_RAMP_MS / 10, 1000, count);
	assert_in_range(count[0], 50, 170);
	firsts(T0 + 2 + HEALTH_RAMP_MS / 2, 1000, count);
	assert_in_range(count[0], 400, 600);
	firsts(T0 + 2 + HEALTH_RAMP_MS, 1000, count);
	assert_int_equal(count[0], 1000);
}

/* What a scanner causes, and what this host lacks, is held against nobody. */
static void test_what_does_not_count(void **state)
{
	static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM,
				     EPERM,  EACCES, ENOSPC,  EADDRNOTAVAIL};

	(void)state;
	world_open(GROUP_FAILOVER);
	for (unsigned i = 0; i < 100; i++)
		upstream_failed(up(0), UPSTREAM_FAILED_CONNECT, errors[i % ARRAY_LEN(errors)], NULL,
				T0 + i, T0 + i);
	assert_string_equal(order(T0 + 100), "abc");
	for (unsigned i = 0; i < 100; i++) {
		upstream_connected(up(0));
		upstream_greeted(up(0), T0, T0);
		upstream_replied(up(0), (enum upstream_reply)(i % UPSTREAM_REPLY_COUNT), T0, T0);
		upstream_unknown(up(0), T0 + i);
	}
	assert_string_equal(order(T0 + 100), "abc");
	assert_int_equal(atomic_load(&up(0)->run->connects), 100);
	assert_int_equal(atomic_load(&up(0)->run->failures[UPSTREAM_FAILED_CONNECT]), 100);
	assert_int_equal(atomic_load(&up(0)->run->replies[UPSTREAM_REPLY_DEST]), 20);
	assert_int_equal(log_count("upstream"), 0);
	/* What is reached directly is a destination, too. */
	world.upstreams[0].url.scheme = PROXY_DIRECT;
	for (unsigned i = 0; i < 100; i++)
		fail_one(0, T0 + i);
	assert_string_equal(order(T0 + 100), "abc");
}

static void test_what_counts(void **state)
{
	static const struct {
		enum upstream_failure kind;
		int err;
	} rows[] = {
		{UPSTREAM_FAILED_CONNECT, ECONNREFUSED}, {UPSTREAM_FAILED_CONNECT, ETIMEDOUT},
		{UPSTREAM_FAILED_CONNECT, EHOSTUNREACH}, {UPSTREAM_FAILED_CONNECT, ENETUNREACH},
		{UPSTREAM_FAILED_CONNECT, ECONNRESET},   {UPSTREAM_FAILED_GREETING, ETIMEDOUT},
		{UPSTREAM_FAILED_GREETING, 0},           {UPSTREAM_FAILED_RESOLVE, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		upstreams_unref(world.all);
		world_open(GROUP_FAILOVER);
		for (unsigned k = 0; k < HEALTH_FAILURES; k++) {
			/* Accepting alone does not make it healthy: it has a greeting to answer. */
			upstream_connected(up(0));
			upstream_failed(up(0), rows[i].kind, rows[i].err, "x", T0, T0);
		}
		assert_string_equal(order(T0), "bca");
	}
}

static enum health_state state_of(size_t i)
{
	return (enum health_state)atomic_load(&up(i)->run->health.state);
}

/* Where there is no greeting it is the reply that shows that it works, whatever it is; not that the kernel has accepted. */
static void test_without_a_greeting(void **state)
{
	static const struct {
		enum upstream_reply reply;
		enum health_state health;
	} rows[] = {
		{UPSTREAM_REPLY_DONE, HEALTH_RETURNING},   {UPSTREAM_REPLY_DEST, HEALTH_RETURNING},
		{UPSTREAM_REPLY_POLICY, HEALTH_RETURNING}, {UPSTREAM_REPLY_NONE, HEALTH_EJECTED},
		{UPSTREAM_REPLY_UPSTREAM, HEALTH_EJECTED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		upstreams_unref(world.all);
		world_open(GROUP_FAILOVER);
		world.upstreams[1].url.scheme = PROXY_HTTP;
		eject(1, T0);
		upstream_connected(up(1));
		upstream_greeted(up(1), T0 + 1, T0 + 2); /* nothing to be told */
		assert_int_equal(state_of(1), HEALTH_EJECTED);
		upstream_replied(up(1), rows[i].reply, T0 + 1, T0 + 2);
		assert_int_equal(state_of(1), rows[i].health);
	}
	/* Failures in a row, though it was connected to in between. */
	world.upstreams[0].url.scheme = PROXY_HTTP;
	for (unsigned k = 0; k < HEALTH_FAILURES; k++) {
		upstream_connected(up(0));
		upstream_failed(up(0), UPSTREAM_FAILED_PROBE, ETIMEDOUT, NULL, T0, T0);
	}
	assert_int_equal(state_of(0), HEALTH_EJECTED);
}

/* A probe that nobody has answered a word ends no ejection, and the trial that it was is free again. */
static void test_a_probe_that_only_connects(void **state)
{
	(void)state;
	world_open(GROUP_FAILOVER);
	fail_one(0, T0);
	upstream_probed(up(0), true, T0, T0);
	assert_int_equal(atomic_load(&up(0)->run->health.failures), 0);
	eject(0, T0);
	assert_true(health_take_trial(&up(0)->run->health, until(0)));
	upstream_probed(up(0), true, until(0), until(0));
	assert_int_equal(state_of(0), HEALTH_EJECTED);
	assert_true(health_take_trial(&up(0)->run->health, until(0)));
	upstream_probed(up(0), false, until(0), until(0));
	assert_int_equal(state_of(0), HEALTH_RETURNING);
}

static void test_changes_are_logged_once(void **state)
{
	(void)state;
	world_open(GROUP_FAILOVER);
	for (unsigned i = 0; i < 500; i++)
		upstream_failed(up(0), UPSTREAM_FAILED_GREETING, 0, "it says nothing", T0, T0 + i);
	assert_int_equal(log_count("upstream ejected"), 1);
	assert_int_equal(log_count("warning: \"upstream ejected\" upstream=a group=default "
				   "url=socks5://a.test:1080 error=\"greeting: it says nothing\" "
				   "ejected_for="),
			 1);
	for (unsigned i = 0; i < 5; i++) { /* not a word about every trial */
		struct addr who = client(1);
		uint64_t now = until(0);

		eject(1, now);
		order_of(0, &who, now);
		fail_one(0, now);
		health_destroy(&up(1)->run->health);
		health_init(&up(1)->run->health);
	}
	assert_int_equal(log_count("upstream=a"), 1);
	upstream_greeted(up(0), until(0), until(0));
	upstream_greeted(up(0), until(0), until(0));
	assert_int_equal(log_count("\"upstream works again, returning slowly\" upstream=a"), 1);
	for (unsigned i = 0; i < 5; i++)
		order(until(0) + HEALTH_RAMP_MS);
	assert_int_equal(log_count("\"upstream has returned\" upstream=a group=default\n"), 1);
}

static void test_a_group_that_is_down_is_logged_once(void **state)
{
	uint64_t now = T0;

	(void)state;
	world_open(GROUP_FAILOVER);
	for (unsigned round = 1; round <= 2; round++) {
		for (size_t i = 0; i < 3; i++) {
			assert_int_equal(log_count("every upstream"), round - 1);
			eject(i, now);
		}
		assert_int_equal(log_count("error: \"every upstream of the group is ejected, they "
					   "are tried all the same\" group=default\n"),
				 round);
		fail_one(0, now + 1);
		now += 5;
		for (size_t i = 0; i < 3; i++)
			upstream_greeted(up(i), now, now);
		now += HEALTH_RAMP_MS;
	}
	/* Where there is only one, that has been said. */
	eject(3, now);
	assert_int_equal(log_count("group=other"), 1);
	upstream_greeted(up(3), now + 1, now + 1);
	world.groups[1].when_all_down = GROUP_ALL_DOWN_DIRECT;
	eject(3, now + 2);
	assert_int_equal(
		log_count("\"every upstream of the group is ejected, its flows go direct\" "
			  "group=other"),
		1);
}

static void test_reload(void **state)
{
	struct world next;
	struct upstreams *old;

	(void)state;
	world_open(GROUP_FAILOVER);
	eject(0, T0);
	eject(1, T0);
	upstream_flow_begin(up(0));
	upstream_flow_begin(up(2));
	upstream_connected(up(2));
	old = upstreams_ref(world.all);
	world_fill(&next, GROUP_FAILOVER);
	next.upstreams[0].name = (char *)"c"; /* another order, */
	next.upstreams[0].url = world.upstreams[2].url;
	next.upstreams[2].name = (char *)"a";
	next.upstreams[2].url = world.upstreams[0].url;
	snprintf(next.upstreams[1].url.password, sizeof(next.upstreams[1].url.password), "new");
	reload(&next);
	assert_string_equal(order(T0), "cba"); /* with another password it is another one */
	assert_int_equal(atomic_load(&up(0)->run->connects), 1);
	assert_int_equal(atomic_load(&up(0)->run->flows), 1);
	assert_int_equal(atomic_load(&up(2)->run->flows), 1);
	/* Flows of the time before. */
	upstream_flow_end(&old->items[0]);
	upstream_flow_end(&old->items[2]);
	upstream_greeted(&old->items[0], T0 + 1, T0 + 2);
	assert_int_equal(atomic_load(&up(0)->run->flows), 0);
	assert_int_equal(atomic_load(&up(2)->run->flows), 0);
	assert_int_equal(atomic_load(&up(2)->run->health.state), HEALTH_RETURNING);
	assert_int_equal(atomic_load(&world.conf.refs), 2);
	upstreams_unref(old);
	assert_int_equal(atomic_load(&world.conf.refs), 1);
	upstreams_unref(world.all);
	world.all = NULL;
	assert_int_equal(atomic_load(&next.conf.refs), 1);
}

static void test_sources(void **state)
{
	static const uint8_t six[16] = {0x20, 1, 0xd, 0xb8};
	struct addr addrs[3] = {client(1), client(2), addr_from_bytes(six, 16, 0)};
	static struct world next, last;

	(void)state;
	world_fill(&world, GROUP_FAILOVER);
	world.upstreams[0].source = (struct addr_list){addrs, 3};
	assert_int_equal(upstreams_new(&world.conf, NULL, &world.all, NULL), 0);
	for (unsigned i = 0; i < 10; i++) {
		struct sock_options o = upstream_sock_options(up(0), true);

		assert_int_equal(sock_source(&o, AF_INET6, 0), 2);
		upstream_port_take(up(0), (int)sock_source(&o, AF_INET, 0)); /* in turn */
		upstream_port_take(up(1), -1);
	}
	assert_int_equal(atomic_load(&up(0)->sources[0]->ports), 5);
	assert_int_equal(atomic_load(&up(0)->sources[1]->ports), 5);
	assert_int_equal(atomic_load(&up(0)->sources[2]->ports), 0);
	assert_int_equal(atomic_load(&up(1)->sources[0]->ports), 10);
	/* They belong to the address, wherever the next configuration names it. */
	world_fill(&next, GROUP_FAILOVER);
	next.upstreams[0].source = (struct addr_list){addrs + 1, 1};
	reload(&next);
	assert_int_equal(atomic_load(&up(0)->sources[0]->ports), 5);
	world_fill(&last, GROUP_FAILOVER);
	reload(&last);
	assert_int_equal(atomic_load(&up(0)->sources[0]->ports), 0);
}

/* By whatever name, and with whatever password: ports are used up towards an address. */
static void test_ports_of_one_address(void **state)
{
	static struct world next;

	(void)state;
	world_fill(&world, GROUP_FAILOVER);
	for (size_t i = 1; i < 3; i++) {
		snprintf(world.upstreams[i].url.host, sizeof(world.upstreams[i].url.host), "%s",
			 i == 1 ? "A.test" : "a.test");
		world.upstreams[i].url.port = world.upstreams[0].url.port + (i == 2);
	}
	snprintf(world.upstreams[1].url.user, sizeof(world.upstreams[1].url.user), "bob");
	assert_int_equal(upstreams_new(&world.conf, NULL, &world.all, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		upstream_port_take(up(i), -1);
	assert_int_equal(atomic_load(&up(0)->sources[0]->ports), 2);
	assert_int_equal(atomic_load(&up(1)->sources[0]->ports), 2);
	assert_int_equal(atomic_load(&up(2)->sources[0]->ports), 1); /* another port */
	/* Also of one that has just been named. */
	world_fill(&next, GROUP_FAILOVER);
	next.upstreams[0].name = (char *)"new";
	reload(&next);
	assert_int_equal(atomic_load(&up(0)->sources[0]->ports), 2);
	upstream_port_put(up(0), -1);
	upstream_port_put(up(0), -1);
}

static void test_scarce_ports_are_logged_once(void **state)
{
	(void)state;
	world_open(GROUP_FAILOVER);
	assert_in_range(world.all->n_ports, 1, 65535);
	world.all->n_ports = 100;
	for (unsigned round = 1; round <= 2; round++) {
		for (unsigned i = 0; i < 79; i++)
			upstream_port_take(up(0), 0);
		assert_int_equal(log_count("scarce"), round - 1);
		upstream_port_take(up(0), 0);
		for (unsigned i = 0; i < 10; i++) /* 70..80: said already */
			upstream_port_put(up(0), 0);
		for (unsigned i = 0; i < 20; i++)
			upstream_port_take(up(0), 0);
		assert_int_equal(log_count("scarce"), round);
		assert_int_equal(log_count("upstream=a ports=80 max_ports=100\n"), round);
		for (unsigned i = 0; i < 90; i++)
			upstream_port_put(up(0), 0);
	}
}

static void test_words(void **state)
{
	char text[UPSTREAM_FAILURE_TEXT_MAX];
	uint64_t now;

	(void)state;
	world_open(GROUP_FAILOVER);
	assert_string_equal(upstream_failure_format(up(0), text, sizeof(text)), "");
	assert_string_equal(upstream_state_format(up(0), T0, text, sizeof(text)), "up");
	eject(0, T0);
	assert_string_equal(upstream_failure_format(up(0), text, sizeof(text)),
			    "connect: Connection refused");
	now = until(0);
	assert_string_equal(upstream_state_format(up(0), now - 1, text, sizeof(text)),
			    "ejected for 1 s");
	assert_string_equal(upstream_state_format(up(0), now, text, sizeof(text)),
			    "ejected, the next flow tries it");
	order(now);
	assert_string_equal(upstream_state_format(up(0), now, text, sizeof(text)),
			    "ejected, being tried");
	upstream_greeted(up(0), now, now);
	assert_string_equal(upstream_state_format(up(0), now + 5000, text, sizeof(text)),
			    "returning, 50 %");
	assert_string_equal(upstream_state_format(up(0), now + HEALTH_RAMP_MS, text, sizeof(text)),
			    "up");
}

#define MANY (UPSTREAM_TRIES_MAX + 8)

/* More members than tries, all ejected: those that are due first, in that order. */
static void test_many_members(void **state)
{
	static struct upstream_conf many[MANY];
	size_t members[MANY];
	uint16_t out[UPSTREAM_TRIES_MAX];
	struct addr who = client(1);

	(void)state;
	world_fill(&world, GROUP_ROUND_ROBIN);
	for (size_t i = 0; i < MANY; i++) {
		many[i] = world.upstreams[0];
		many[i].url.port = (uint16_t)(i + 1);
		members[i] = i;
	}
	world.conf.upstreams = many;
	world.conf.n_upstreams = MANY;
	world.groups[0].members = members;
	world.groups[0].n_members = MANY;
	world.conf.n_groups = 1;
	assert_int_equal(upstreams_new(&world.conf, NULL, &world.all, NULL), 0);
	assert_int_equal(upstreams_order(world.all, 0, &who, T0, out), UPSTREAM_TRIES_MAX);
	for (size_t i = 0; i < MANY; i++) {
		eject(i, T0);
		atomic_store(&up(i)->run->health.until_ms, T0 + 500 + (i * 7) % MANY);
	}
	assert_int_equal(upstreams_order(world.all, 0, &who, T0, out), UPSTREAM_TRIES_MAX);
	for (size_t i = 0; i < UPSTREAM_TRIES_MAX; i++)
		assert_int_equal(until(out[i]), T0 + 500 + i);
}

#define THREADS 4

/* What flows of several workers do at once, while the upstreams come and go. */
static void *worker(void *arg)
{
	struct upstreams *u = arg;
	uint16_t out[UPSTREAM_TRIES_MAX];

	for (unsigned i = 0; i < 20000; i++) {
		struct addr who = client((uint8_t)i);
		uint64_t now = T0 + i;

		for (size_t k = 0; k < upstreams_order(u, 0, &who, now, out) && k < 2; k++) {
			struct upstream *one = &u->items[out[k]];

			upstream_flow_begin(one);
			upstream_port_take(one, 0);
			if ((i >> 10) % 3 == out[k])
				upstream_failed(one, UPSTREAM_FAILED_CONNECT, ECONNREFUSED, NULL,
						now, now);
			else
				upstream_greeted(one, now, now);
			upstream_port_put(one, 0);
			upstream_flow_end(one);
		}
	}
	upstreams_unref(u);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	world_open(GROUP_ROUND_ROBIN);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, worker, upstreams_ref(world.all)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(atomic_load(&up(i)->run->flows), 0);
		assert_int_equal(atomic_load(&up(i)->sources[0]->ports), 0);
	}
	assert_int_equal(atomic_load(&world.all->refs), 1);
}

int main(void)
{
#define UPSTREAMS_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		UPSTREAMS_TEST(test_failover),
		UPSTREAMS_TEST(test_direct_takes_nobody_who_is_ejected),
		UPSTREAMS_TEST(test_spreads),
		UPSTREAMS_TEST(test_least_flows),
		UPSTREAMS_TEST(test_hash_moves_only_who_must),
		UPSTREAMS_TEST(test_failover_returns_slowly),
		UPSTREAMS_TEST(test_what_does_not_count),
		UPSTREAMS_TEST(test_what_counts),
		UPSTREAMS_TEST(test_without_a_greeting),
		UPSTREAMS_TEST(test_a_probe_that_only_connects),
		UPSTREAMS_TEST(test_changes_are_logged_once),
		UPSTREAMS_TEST(test_a_group_that_is_down_is_logged_once),
		UPSTREAMS_TEST(test_reload),
		UPSTREAMS_TEST(test_sources),
		UPSTREAMS_TEST(test_ports_of_one_address),
		UPSTREAMS_TEST(test_scarce_ports_are_logged_once),
		UPSTREAMS_TEST(test_words),
		UPSTREAMS_TEST(test_many_members),
		UPSTREAMS_TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
