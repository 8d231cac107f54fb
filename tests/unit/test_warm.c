/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/warm.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/tcp.h>

#include "daemon/core/log.h"
#include "tests/unit/fake_proxy.h"
#include "tests/unit/net_fixture.h"
#include "tests/unit/peer_of.h"

static const struct fake_name names[] = {
	{.name = "proxy.test", .family = AF_INET, .addrs = {"127.0.0.1"}},
	{.name = "proxy.test", .family = AF_INET6},
};

/* --- a worker --- */

static struct conf conf;
static struct upstream_conf upstream;
static struct group_conf group;
static size_t member;
static struct upstreams *all;
static struct warms *warms;
static struct buf *scratch;

static void worker_open(unsigned warm)
{
	struct warms_options o = {
		.loop = &loop, .resolver = resolver, .scratch = &scratch, .n_workers = 1};

	upstream.warm = warm;
	upstream.url.port = upstream.url.addr.port = server.port;
	assert_int_equal(upstreams_new(&conf, NULL, &all, NULL), 0);
	o.upstreams = all;
	assert_int_equal(warms_new(&o, &warms, NULL), 0);
}

static int setup(void **state)
{
	const struct sock_options o = {.mark = {0}};

	(void)state;
	memset(&server, 0, sizeof(server));
	if (net_open(names, ARRAY_LEN(names), &o) < 0)
		return -1;
	server_open(&loop);
	log_configure("test", LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN, "", NULL);
	scratch = calloc(1, sizeof(*scratch));
	upstream = (struct upstream_conf){
		.name = (char *)"one", .group = (char *)"default", .weight = 1};
	upstream.url.scheme = PROXY_SOCKS5;
	snprintf(upstream.url.host, sizeof(upstream.url.host), "127.0.0.1");
	assert_int_equal(addr_parse(&upstream.url.addr, "127.0.0.1"), 0);
	group = (struct group_conf){.name = (char *)"default", .members = &member, .n_members = 1};
	conf = (struct conf){
		.upstreams = &upstream, .n_upstreams = 1, .groups = &group, .n_groups = 1};
	atomic_init(&conf.refs, 1);
	conf.timeouts.connect = conf.timeouts.greeting = 200;
	return 0;
}

static size_t n_warm(void)
{
	return atomic_load(&all->items[0].run->warm);
}

static size_t n_ports(void)
{
	return atomic_load(&all->items[0].sources[0]->ports);
}

static enum health_state health(void)
{
	return (enum health_state)atomic_load(&all->items[0].run->health.state);
}

static int teardown(void **state)
{
	bool ports_left;

	warms_stop(warms);
	ports_left = n_warm() > 0 || n_ports() > 0;
	warms_free(warms);
	warms = NULL;
	upstreams_unref(all);
	run_for(0); /* releases what was buried */
	server_close();
	free(scratch);
	return net_close(state) < 0 || ports_left || atomic_load(&conf.refs) != 1 ? -1 : 0;
}

/* Until `n` are ready; a test that waits for ever is stopped by the guard. */
static void wait_warm(size_t n)
{
	while (n_warm() != n && !guard_fired)
		run_for(5);
	assert_int_equal(n_warm(), n);
}

static void on_nothing(struct source *src, uint32_t events)
{
	(void)src;
	(void)events;
}

static void close_taken(struct warm_taken *t)
{
	int fd = t->source->fd;

	loop_unwatch(&loop, t->source);
	close(fd);
	upstream_port_put(&all->items[0], t->egress);
}

/* A connection that was taken, up to the request: whether the server gets it. */
static void expect_usable(struct warm_taken *t, struct handshake *h)
{
	struct proto_dest dest = {.port = 80};
	bool readable = false;

	assert_int_equal(t->peer.port, server.port);
	assert_int_equal(peer_of(t->source->fd).port, server.port);
	t->source->on_event = on_nothing;
	assert_int_equal(addr_parse(&dest.addr, "192.0.2.1"), 0);
	assert_true(h->begun);
	handshake_dest(h, &dest);
	assert_int_equal(handshake_step(h, t->source->fd, scratch, &readable, false),
			 HANDSHAKE_WAIT);
	assert_false(handshake_greeting(h));
	run_for(10);
	close_taken(t);
}

static bool take(struct handshake *h, struct warm_taken *t)
{
	*h = (struct handshake){0};
	return warm_take(warms, 0, h, t);
}

/* --- the tests --- */

static void test_one_is_ready_and_is_replaced(void **state)
{
	struct warm_taken t;
	struct handshake h;

	(void)state;
	worker_open(1);
	assert_false(take(&h, &t)); /* none yet */
	for (unsigned i = 1; i < 5; i++) {
		wait_warm(1);
		assert_int_equal(server.n_accepted, i);
		assert_int_equal(n_ports(), 1);
		assert_true(take(&h, &t));
		assert_true(t.greeted);
		assert_int_equal(n_warm(), 0);
		expect_usable(&t, &h);
	}
	assert_int_equal(atomic_load(&all->items[0].run->connects), server.n_accepted);
}

static void test_as_many_as_are_wanted_together(void **state)
{
	struct warm_taken t;
	struct handshake h;

	(void)state;
	worker_open(8);
	wait_warm(1);
	run_for(100);
	assert_int_equal(n_warm(), 1);
	for (unsigned i = 0; i < 4; i++)
		if (take(&h, &t))
			close_taken(&t);
	wait_warm(5);
	run_for(50);
	assert_int_equal(n_warm(), 5);
	for (unsigned i = 0; i < 100; i++)
		if (take(&h, &t))
			close_taken(&t);
	wait_warm(8); /* its share */
	run_for(50);
	assert_int_equal(n_warm(), 8);
}

/* What was wanted once fades: of those that go, not all are replaced. */
static void test_fewer_as_time_goes_by(void **state)
{
	struct warm_taken t;
	struct handshake h;

	(void)state;
	worker_open(32);
	for (unsigned i = 0; i < 8; i++)
		assert_false(take(&h, &t));
	wait_warm(9);
	run_for(2300); /* two ticks at least, and none is so young that its end is a bad sign */
	assert_int_equal(n_warm(), 9);
	server_close_peers();
	run_for(100);
	assert_in_range(n_warm(), 7, 8);
}

static void test_a_dead_one_is_not_handed_out(void **state)
{
	struct warm_taken t;
	struct handshake h;
	unsigned fds;

	(void)state;
	worker_open(1);
	wait_warm(1);
	fds = fds_open();
	server_close_peers(); /* the loop has not heard of it */
	assert_false(take(&h, &t));
	assert_int_equal(n_warm(), 0);
	assert_true(fds_open() < fds);
	wait_warm(1); /* after a pause, since it was young */
	assert_true(take(&h, &t));
	expect_usable(&t, &h);
}

static void test_one_that_is_closed_goes_by_itself(void **state)
{
	(void)state;
	worker_open(1);
	wait_warm(1);
	server_close_peers();
	run_for(20);
	assert_int_equal(n_warm(), 0);
	assert_int_equal(health(), HEALTH_UP);
	assert_int_equal(atomic_load(&all->items[0].run->failures[UPSTREAM_FAILED_GREETING]), 0);
}

static void test_one_that_talks_goes(void **state)
{
	(void)state;
	worker_open(1);
	wait_warm(1);
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (server.peers[i] != NULL)
			assert_int_equal(send(server.peers[i]->fd, "x", 1, 0), 1);
	run_for(20);
	assert_int_equal(n_warm(), 0);
}

/* Not handed out, and not made over and over again. */
static void expect_useless(enum manner manner)
{
	struct warm_taken t;
	struct handshake h;

	server.manner = manner;
	worker_open(4);
	run_for(300);
	assert_int_equal(n_warm(), 0);
	assert_false(take(&h, &t));
	assert_in_range(server.n_accepted, 1, 4);
}

static void test_ends_at_once(void **state)
{
	(void)state;
	expect_useless(CLOSES_AFTER);
}

static void test_says_too_much(void **state)
{
	(void)state;
	expect_useless(TALKS);
}

static void test_greeting_in_pieces(void **state)
{
	(void)state;
	server.manner = ONE_BYTE;
	worker_open(1);
	run_for(50);
	assert_int_equal(n_warm(), 0);
	memset(scratch->data, 0xee, 16); /* others use it meanwhile */
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (server.peers[i] != NULL)
			assert_int_equal(send(server.peers[i]->fd, "\0", 1, 0), 1);
	wait_warm(1);
}

/* Failures count for its health as those of flows do, and it is tried less often. */
static void test_failures(void **state)
{
	static const struct {
		enum manner manner;
		enum upstream_failure kind;
	} rows[] = {
		{CLOSES, UPSTREAM_FAILED_GREETING},
		{SILENT, UPSTREAM_FAILED_GREETING},
		{ANSWERS, UPSTREAM_FAILED_CONNECT}, /* once it no longer listens */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t n;

		server.manner = rows[i].manner;
		if (rows[i].kind == UPSTREAM_FAILED_CONNECT)
			server_close();
		worker_open(2);
		run_for(500);
		n = atomic_load(&all->items[0].run->failures[rows[i].kind]);
		assert_in_range(n, 1, 2);
		assert_int_equal(n_warm(), 0);
		assert_int_equal(atomic_load(&all->items[0].run->health.failures), n);
		if (i + 1 == ARRAY_LEN(rows))
			break;
		warms_free(warms);
		upstreams_unref(all);
		run_for(0);
	}
}

static void test_makes_the_trial(void **state)
{
	struct warm_taken t;
	struct handshake h;

	(void)state;
	worker_open(2);
	wait_warm(1);
	for (unsigned i = 0; i < HEALTH_FAILURES; i++)
		upstream_failed(&all->items[0], UPSTREAM_FAILED_CONNECT, ECONNREFUSED, NULL,
				loop.now_ms, loop.now_ms);
	assert_int_equal(health(), HEALTH_EJECTED);
	assert_false(take(&h, &t)); /* nobody may trust what was made before */
	while (health() != HEALTH_RETURNING && !guard_fired)
		run_for(5);
	assert_int_equal(n_warm(), 1); /* of now */
	assert_int_equal(health(), HEALTH_RETURNING);
	assert_true(take(&h, &t));
	expect_usable(&t, &h);
}

/* Where the client's address goes first, a connection is all that there is to be ready. */
static void test_connected_only(void **state)
{
	struct warm_taken t;
	struct handshake h;

	(void)state;
	upstream.proxy_protocol = true;
	worker_open(1);
	wait_warm(1);
	assert_true(take(&h, &t));
	assert_false(t.greeted);
	assert_false(h.begun);
	close_taken(&t);
	/* The others have no greeting; theirs goes on all the same. */
	warms_free(warms);
	upstreams_unref(all);
	upstream.proxy_protocol = false;
	upstream.url.scheme = PROXY_HTTP;
	worker_open(1);
	wait_warm(1);
	assert_true(take(&h, &t));
	assert_true(t.greeted);
	expect_usable(&t, &h);
}

static void test_by_name(void **state)
{
	struct warm_taken t;
	struct handshake h;

	(void)state;
	upstream.url.addr = (struct addr){.family = AF_UNSPEC};
	snprintf(upstream.url.host, sizeof(upstream.url.host), "proxy.test");
	worker_open(1);
	wait_warm(1);
	assert_true(take(&h, &t));
	expect_usable(&t, &h);
}

static void test_stops(void **state)
{
	unsigned fds;

	(void)state;
	fds = fds_open();
	worker_open(4);
	warms_stop(warms); /* while they are made */
	run_for(50);
	assert_int_equal(fds_open(), fds);
	warms_free(warms);
	upstreams_unref(all);
	worker_open(4);
	wait_warm(1);
	warms_stop(warms);
	assert_int_equal(n_warm(), 0);
	run_for(50);
	assert_int_equal(fds_open(), fds);
	assert_false(warm_take(warms, 0, NULL, NULL));
}

static void test_gives_up_soon_on_silence(void **state)
{
	struct warm_taken t;
	struct handshake h;
	unsigned ms = 0;
	socklen_t len = sizeof(ms);

	(void)state;
	worker_open(1);
	wait_warm(1);
	assert_true(take(&h, &t));
	assert_int_equal(getsockopt(t.source->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &len), 0);
	assert_in_range(ms, WARM_SILENT_MS, 10 * WARM_SILENT_MS);
	warm_proved(t.source->fd);
	assert_int_equal(getsockopt(t.source->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &len), 0);
	assert_int_equal(ms, 0);
	close_taken(&t);
}

static void test_shares(void **state)
{
	size_t sum = 0;

	(void)state;
	upstream.warm = 10;
	assert_int_equal(warms_descriptors(&conf), 10);
	upstream.url.scheme = PROXY_DIRECT;
	assert_int_equal(warms_descriptors(&conf), 0);
	upstream.url.scheme = PROXY_SOCKS5;
	upstream.url.port = upstream.url.addr.port = server.port;
	/* Of four workers, all flows at once: ten in all. */
	assert_int_equal(upstreams_new(&conf, NULL, &all, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct warms_options o = {.loop = &loop,
					  .upstreams = all,
					  .resolver = resolver,
					  .scratch = &scratch,
					  .worker = i,
					  .n_workers = 4};
		struct warm_taken t;
		struct handshake h;

		assert_int_equal(warms_new(&o, &warms, NULL), 0);
		for (unsigned k = 0; k < 20; k++)
			assert_false(warm_take(warms, 0, &h, &t));
		wait_warm(10 / 4 + (i < 2));
		run_for(20);
		sum += n_warm();
		warms_free(warms);
	}
	assert_int_equal(sum, 10);
	warms = NULL;
	assert_false(warm_take(NULL, 0, NULL, NULL));
}

int main(void)
{
#define WARM_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		WARM_TEST(test_one_is_ready_and_is_replaced),
		WARM_TEST(test_as_many_as_are_wanted_together),
		WARM_TEST(test_fewer_as_time_goes_by),
		WARM_TEST(test_a_dead_one_is_not_handed_out),
		WARM_TEST(test_one_that_is_closed_goes_by_itself),
		WARM_TEST(test_one_that_talks_goes),
		WARM_TEST(test_ends_at_once),
		WARM_TEST(test_says_too_much),
		WARM_TEST(test_greeting_in_pieces),
		WARM_TEST(test_failures),
		WARM_TEST(test_makes_the_trial),
		WARM_TEST(test_connected_only),
		WARM_TEST(test_by_name),
		WARM_TEST(test_stops),
		WARM_TEST(test_gives_up_soon_on_silence),
		WARM_TEST(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
