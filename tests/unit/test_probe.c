/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/probe.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/core/log.h"
#include "tests/unit/fake_proxy.h"
#include "tests/unit/net_fixture.h"

static struct conf conf;
static struct upstream_conf upstreams[2];
static struct group_conf groups[2];
static size_t members[2] = {0, 1};
static struct upstreams *all;
static struct probes *probes;

static int setup(void **state)
{
	const struct sock_options o = {.mark = {0}};

	(void)state;
	memset(&server, 0, sizeof(server));
	if (net_open(NULL, 0, &o) < 0)
		return -1;
	server_open(&loop);
	log_configure("test", LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN, "", NULL);
	for (size_t i = 0; i < 2; i++) {
		upstreams[i] = (struct upstream_conf){.name = (char *)(i == 0 ? "one" : "two"),
						      .group = (char *)"g",
						      .group_index = i,
						      .weight = 1};
		upstreams[i].url.scheme = PROXY_SOCKS5;
		assert_int_equal(addr_parse(&upstreams[i].url.addr, "127.0.0.1"), 0);
		upstreams[i].url.port = upstreams[i].url.addr.port = server.port;
		groups[i] = (struct group_conf){.name = (char *)"g",
						.members = &members[i],
						.n_members = 1,
						.probe_dest = (char *)""};
	}
	groups[0].probe_interval = 50;
	conf = (struct conf){
		.upstreams = upstreams, .n_upstreams = 2, .groups = groups, .n_groups = 2};
	atomic_init(&conf.refs, 1);
	conf.timeouts.connect = conf.timeouts.greeting = conf.timeouts.reply = 100;
	return 0;
}

static int teardown(void **state)
{
	probes_free(probes);
	probes = NULL;
	upstreams_unref(all);
	run_for(0); /* releases what was buried */
	server_close();
	return net_close(state) < 0 || atomic_load(&conf.refs) != 1 ? -1 : 0;
}

static void begin(void)
{
	assert_int_equal(upstreams_new(&conf, NULL, &all, NULL), 0);
	assert_int_equal(probes_new(&loop, all, &probes, NULL), 0);
	assert_non_null(probes);
}

static enum health_state health(size_t i)
{
	return (enum health_state)atomic_load(&all->items[i].run->health.state);
}

static void wait_health(enum health_state want)
{
	while (health(0) != want && !guard_fired)
		run_for(5);
	assert_int_equal(health(0), want);
}

static unsigned failures(enum upstream_failure kind)
{
	return (unsigned)atomic_load(&all->items[0].run->failures[kind]);
}

static void test_none(void **state)
{
	(void)state;
	groups[0].probe_interval = 0;
	assert_int_equal(probes_descriptors(&conf), 0);
	assert_int_equal(upstreams_new(&conf, NULL, &all, NULL), 0);
	assert_int_equal(probes_new(&loop, all, &probes, NULL), 0);
	assert_null(probes);
}

/* Again and again, one after the other, up to the greeting; and only in the group that has them. */
static void test_again_and_again(void **state)
{
	(void)state;
	begin();
	while (server.n_accepted < 5 && !guard_fired)
		run_for(5);
	assert_int_equal(server.n_requests, 0);
	assert_in_range(server.n_open, 0, 2); /* the server hears of an end a moment later */
	assert_int_equal(health(0), HEALTH_UP);
	assert_int_equal(atomic_load(&all->items[1].run->connects), 0);
	assert_true(probes_descriptors(&conf) > 0);
}

/* Without a flow: gone, silent, and here again. */
static void test_ejects_and_brings_back(void **state)
{
	static const struct {
		enum manner manner;
		enum upstream_failure kind;
	} rows[] = {
		{ANSWERS, UPSTREAM_FAILED_CONNECT}, /* if it did */
		{SILENT, UPSTREAM_FAILED_GREETING},
		{CLOSES, UPSTREAM_FAILED_GREETING},
	};

	(void)state;
	begin();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned n = failures(rows[i].kind);

		server.manner = rows[i].manner;
		if (rows[i].kind == UPSTREAM_FAILED_CONNECT)
			server_close();
		wait_health(HEALTH_EJECTED);
		assert_true(failures(rows[i].kind) > n);
		if (rows[i].kind == UPSTREAM_FAILED_CONNECT)
			server_open(&loop);
		server.manner = ANSWERS;
		wait_health(HEALTH_RETURNING);
	}
}

/* All the way: what the greeting does not show. */
static void test_full(void **state)
{
	(void)state;
	groups[0].probe_dest = (char *)"www.example.com:80";
	begin();
	while (server.n_requests < 3 && !guard_fired)
		run_for(5);
	assert_int_equal(health(0), HEALTH_UP);
	server.reply = 7; /* it has no CONNECT */
	wait_health(HEALTH_EJECTED);
	assert_true(failures(UPSTREAM_FAILED_PROBE) >= HEALTH_FAILURES);
	assert_int_equal(failures(UPSTREAM_FAILED_GREETING), 0);
	server.reply = 0;
	wait_health(HEALTH_RETURNING);
}

/* Where nobody else reaches the destination it is that one's fault, for all that is known. */
static void test_full_with_nobody_to_compare(void **state)
{
	static const uint8_t replies[] = {1, 2, 4, 5, 255};

	(void)state;
	groups[0].probe_dest = (char *)"www.example.com:80";
	begin();
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		unsigned n = server.n_requests;

		server.reply = replies[i];
		while (server.n_requests < n + 5 && !guard_fired)
			run_for(5);
		assert_int_equal(health(0), HEALTH_UP);
		assert_int_equal(failures(UPSTREAM_FAILED_PROBE), 0);
	}
	/* No answer ends no ejection, and any answer does. */
	server.manner = SILENT;
	wait_health(HEALTH_EJECTED);
	server.manner = ANSWERS;
	for (unsigned n = server.n_requests; server.n_requests < n + 2 && !guard_fired;)
		run_for(5);
	assert_int_not_equal(health(0), HEALTH_RETURNING);
	server.reply = 4;
	wait_health(HEALTH_RETURNING);
}

static void test_full_to_an_address(void **state)
{
	(void)state;
	groups[0].probe_dest = (char *)"[2001:db8::1]:443";
	begin();
	while (server.n_requests < 1 && !guard_fired)
		run_for(5);
	assert_int_equal(server.n_requests, 1);
}

static void test_stops_at_any_time(void **state)
{
	(void)state;
	groups[0].probe_dest = (char *)"192.0.2.1:80";
	server.reply = 255;
	for (unsigned ms = 0; ms < 1200; ms += 150) {
		unsigned fds = fds_open();

		begin();
		run_for(ms);
		probes_free(probes);
		probes = NULL;
		upstreams_unref(all);
		all = NULL;
		run_for(0);
		server_close_peers();
		run_for(20);
		server_close_peers();
		assert_int_equal(fds_open(), fds);
	}
}

int main(void)
{
#define PROBE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		PROBE_TEST(test_none),
		PROBE_TEST(test_again_and_again),
		PROBE_TEST(test_ejects_and_brings_back),
		PROBE_TEST(test_full),
		PROBE_TEST(test_full_with_nobody_to_compare),
		PROBE_TEST(test_full_to_an_address),
		PROBE_TEST(test_stops_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
