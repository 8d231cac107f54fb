/* SPDX-License-Identifier: MIT */
#include "daemon/net/dial.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/resource.h>

#include "tests/unit/net_fixture.h"
#include "tests/unit/peer_of.h"

#define SLOW_MS 5000 /* on a busy machine; what is awaited comes within a fraction of it */

static const struct fake_name names[] = {
	{.name = "two.test", .family = AF_INET, .addrs = {"127.0.0.1", "127.0.0.2"}},
	{.name = "two.test", .family = AF_INET6},
	{.name = "both.test", .family = AF_INET, .addrs = {"127.0.0.1"}},
	{.name = "both.test", .family = AF_INET6, .addrs = {"::1"}},
	{.name = "late6.test", .family = AF_INET, .addrs = {"127.0.0.1"}},
	{.name = "late6.test", .family = AF_INET6, .delay_ms = 20, .addrs = {"::1"}},
	{.name = "later6.test", .family = AF_INET, .addrs = {"127.0.0.1"}},
	{.name = "later6.test", .family = AF_INET6, .delay_ms = 100, .addrs = {"::1"}},
	{.name = "lost6.test", .family = AF_INET, .addrs = {"127.0.0.1"}},
	{.name = "lost6.test", .family = AF_INET6, .silent = true},
	{.name = "slow4.test", .family = AF_INET, .delay_ms = 100, .addrs = {"127.0.0.1"}},
	{.name = "slow4.test", .family = AF_INET6},
	{.name = ".slow4.test", .family = AF_INET, .delay_ms = 100, .addrs = {"127.0.0.1"}},
	{.name = ".slow4.test", .family = AF_INET6},
	{.name = "net6.test", .family = AF_INET, .delay_ms = 100, .addrs = {"127.0.0.1"}},
	{.name = "net6.test", .family = AF_INET6, .addrs = {"ff02::1", "::1"}},
	{.name = "mixed.test", .family = AF_INET, .addrs = {"127.0.0.1", "127.0.0.2"}},
	{.name = "mixed.test", .family = AF_INET6, .addrs = {"::1", "ff02::1"}},
	{.name = "none.test", .family = AF_INET},
	{.name = "none.test", .family = AF_INET6},
	{.name = "broken.test", .family = AF_INET, .rcode = 2},
	{.name = "broken.test", .family = AF_INET6},
	{.name = "silent.test", .family = AF_INET, .silent = true},
	{.name = "silent.test", .family = AF_INET6},
};

static const struct sock_options options = {.mark = {0}};

struct probe {
	struct dial dial;
	unsigned ends;
	int status;
	bool again; /* dial once more, to where it led, from within the callback */
	uint64_t begin_ms, took_ms;
};

static void on_done(struct dial *d, int status)
{
	struct probe *p = d->owner;

	p->ends++;
	p->status = status;
	p->took_ms = loop.now_ms - p->begin_ms;
	assert_int_equal(status == 0, d->won != NULL);
	if (p->again) {
		struct addr to = d->addrs[0];

		p->again = false;
		dial_addr(d, &loop, &options, &to, on_done, p);
		assert_int_equal(p->ends, 1);
		return;
	}
	loop_stop(&loop);
}

static int setup(void **state)
{
	(void)state;
	return net_open(names, ARRAY_LEN(names), &options);
}

/* --- peers --- */

static struct addr address(const char *ip, uint16_t port)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, ip), 0);
	a.port = port;
	return a;
}

/* Port 0: any. -errno if the port is taken there, or the family is missing. */
static int peer_open(const char *ip, uint16_t port)
{
	struct addr a = address(ip, port);
	return sock_listen(&a, &(struct sock_listen_options){0}, NULL);
}

#define SILENT_FILLERS 3

/* A listener that drops SYNs: its queue has room for one connection, and nobody accepts. */
struct silent_peer {
	int listener;
	int fillers[SILENT_FILLERS];
};

static int silent_open(struct silent_peer *s, const char *ip, uint16_t port)
{
	const struct sock_options plain = {.mark = {0}};
	struct timespec pause = {.tv_nsec = 20 * 1000000};
	struct addr at;

	s->listener = peer_open(ip, port);
	if (s->listener < 0)
		return s->listener;
	assert_int_equal(listen(s->listener, 0), 0);
	at = sock_local(s->listener);
	for (size_t i = 0; i < SILENT_FILLERS; i++) {
		s->fillers[i] = sock_stream(at.family, &plain);
		assert_true(s->fillers[i] >= 0);
		sock_connect(s->fillers[i], &at);
		nanosleep(&pause, NULL);
	}
	return at.port;
}

static void silent_close(struct silent_peer *s)
{
	for (size_t i = 0; i < SILENT_FILLERS; i++)
		close(s->fillers[i]);
	close(s->listener);
}

static uint16_t port_of(int listener)
{
	return sock_local(listener).port;
}

static bool has_ipv6(void)
{
	int fd = peer_open("::1", 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* --- probes --- */

static void begin_addr(struct probe *p, struct addr to)
{
	run_for(0); /* the loop's time is fresh now */
	*p = (struct probe){.begin_ms = loop.now_ms};
	dial_addr(&p->dial, &loop, &options, &to, on_done, p);
	assert_int_equal(p->ends, 0);
}

static void begin_name(struct probe *p, const char *name, uint16_t port)
{
	run_for(0); /* the loop's time is fresh now */
	*p = (struct probe){.begin_ms = loop.now_ms};
	assert_int_equal(dial_name(&p->dial, &loop, resolver, &options, name, port, on_done, p), 0);
	assert_int_equal(p->ends, 0);
}

/* Refuses ::1 (with 6) and what else is in the text (with 4). */
struct test_filter {
	struct dial_filter filter;
	const char *refused;
};

static int refuses(const struct dial_filter *f, const struct addr *to)
{
	const struct test_filter *t = container_of(f, struct test_filter, filter);
	char text[ADDR_TEXT_MAX];

	if (addr_is_loopback(to) && to->family == AF_INET6)
		return 6;
	return strstr(t->refused, addr_format_ip(to, text, sizeof(text))) != NULL ? 4 : 0;
}

static void begin_filtered(struct probe *p, const char *name, uint16_t port,
			   const struct test_filter *filter)
{
	run_for(0);
	*p = (struct probe){.begin_ms = loop.now_ms, .dial = {.filter = &filter->filter}};
	assert_int_equal(dial_name(&p->dial, &loop, resolver, &options, name, port, on_done, p), 0);
}

static void close_won(struct probe *p)
{
	int fd = p->dial.won->fd;

	loop_unwatch(&loop, p->dial.won);
	close(fd);
	p->dial.won = NULL;
}

/* It connected to `ip`, and that is the only socket it holds. */
static void expect_won(struct probe *p, const char *ip, uint16_t port)
{
	struct addr want = address(ip, port), peer;

	assert_int_equal(p->ends, 1);
	assert_int_equal(p->status, 0);
	assert_true(addr_equal(&p->dial.peer, &want));
	peer = peer_of(p->dial.won->fd);
	assert_true(addr_equal(&peer, &want));
	assert_int_equal(p->dial.n_open, 0);
	dial_cancel(&p->dial); /* after the end: what was won stays */
	assert_int_equal(peer_of(p->dial.won->fd).port, port);
	close_won(p);
}

static void expect_failed(const struct probe *p, enum dial_phase phase, int status)
{
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->dial.phase, phase);
	assert_int_equal(p->status, status);
	assert_int_equal(p->dial.n_open, 0);
}

/* Whoever answers first, refused addresses are not tried, and what is left is. */
static void filter_leaves_addresses_out(void **state)
{
	static const struct {
		const char *name, *refused, *won;
		int said;
	} cases[] = {
		{"two.test", "127.0.0.1", "127.0.0.2", 0},
		{"both.test", "", "127.0.0.1", 0},
		{"late6.test", "", "127.0.0.1", 0},
		{"mixed.test", "127.0.0.1 ff02::1", "127.0.0.2", 0},
		{"two.test", "127.0.0.1 127.0.0.2", "127.0.0.1", 4},
		{"both.test", "127.0.0.1", NULL, 0},
		{"slow4.test", "127.0.0.1", "127.0.0.1", 4},
		{"later6.test", "127.0.0.1", "127.0.0.1", 4},
	};
	int one = peer_open("127.0.0.1", 0);
	uint16_t port = port_of(one);
	int two = peer_open("127.0.0.2", port), six = peer_open("::1", port);

	(void)state;
	assert_true(one >= 0 && two >= 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct test_filter f = {.filter = {refuses}, .refused = cases[i].refused};
		struct addr first;
		struct probe p;

		begin_filtered(&p, cases[i].name, port, &f);
		run_for(SLOW_MS);
		if (cases[i].won != NULL && cases[i].said == 0) {
			expect_won(&p, cases[i].won, port);
			continue;
		}
		expect_failed(&p, DIAL_REFUSED, -EACCES);
		if (cases[i].won == NULL)
			continue;
		first = address(cases[i].won, port);
		assert_int_equal(p.dial.refused, cases[i].said);
		assert_true(addr_equal(&p.dial.peer, &first));
	}
	close(one);
	close(two);
	if (six >= 0)
		close(six);
}

static void filter_refuses_an_address(void **state)
{
	struct test_filter f = {.filter = {refuses}, .refused = "127.0.0.1"};
	int peer = peer_open("127.0.0.1", 0);
	struct addr to = address("127.0.0.1", port_of(peer));
	struct probe p = {.dial = {.filter = &f.filter}};

	(void)state;
	dial_addr(&p.dial, &loop, &options, &to, on_done, &p);
	assert_int_equal(p.ends, 0);
	run_for(SLOW_MS);
	expect_failed(&p, DIAL_REFUSED, -EACCES);
	assert_true(addr_equal(&p.dial.peer, &to));
	assert_true(accept4(peer, NULL, NULL, SOCK_NONBLOCK) < 0);
	close(peer);
}

/* An address that may be tried but fails says more than those that may not. */
static void filter_does_not_hide_a_failure(void **state)
{
	struct test_filter f = {.filter = {refuses}, .refused = "127.0.0.1"};
	int peer = peer_open("127.0.0.3", 0);
	uint16_t port = port_of(peer);
	struct probe p;

	(void)state;
	begin_filtered(&p, "two.test", port, &f);
	run_for(SLOW_MS);
	expect_failed(&p, DIAL_CONNECT, -ECONNREFUSED);
	close(peer);
}

static void address_connects(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.1", 0);

	(void)state;
	begin_addr(&p, address("127.0.0.1", port_of(peer)));
	assert_false(timer_is_set(&p.dial.timer)); /* one address needs none */
	loop_run(&loop);
	expect_won(&p, "127.0.0.1", port_of(peer));
	close(peer);
}

static void address_refused(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.1", 0);
	uint16_t port = port_of(peer);

	(void)state;
	close(peer);
	begin_addr(&p, address("127.0.0.1", port));
	loop_run(&loop);
	expect_failed(&p, DIAL_CONNECT, -ECONNREFUSED);
}

/* connect(2) fails by itself: TCP has no broadcast, and no multicast (net6.test). */
static void address_impossible(void **state)
{
	struct probe p;

	(void)state;
	begin_addr(&p, address("255.255.255.255", 9));
	loop_run(&loop);
	expect_failed(&p, DIAL_CONNECT, -ENETUNREACH);
}

static void callback_may_dial_again(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.1", 0);
	uint16_t port = port_of(peer);

	(void)state;
	close(peer);
	begin_addr(&p, address("127.0.0.1", port));
	p.again = true;
	loop_run(&loop);
	assert_int_equal(p.ends, 2);
	assert_int_equal(p.status, -ECONNREFUSED);
}

static unsigned handed_events;
static char handed_byte;

static void on_handed(struct source *src, uint32_t events)
{
	assert_ptr_equal(src->owner, &handed_events);
	handed_events++;
	if (events & EPOLLIN) {
		assert_int_equal(read(src->fd, &handed_byte, 1), 1);
		loop_stop(&loop);
	}
}

static void handed_over_source_tells_the_new_owner(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.1", 0), accepted;

	(void)state;
	begin_addr(&p, address("127.0.0.1", port_of(peer)));
	loop_run(&loop);
	assert_non_null(p.dial.won);
	assert_null(p.dial.won->on_event);
	p.dial.won->on_event = on_handed;
	p.dial.won->owner = &handed_events;
	accepted = accept(peer, NULL, NULL);
	assert_true(accepted >= 0);
	assert_int_equal(write(accepted, "y", 1), 1);
	loop_run(&loop);
	assert_int_equal(handed_byte, 'y');
	close_won(&p);
	close(accepted);
	close(peer);
}

/* --- names --- */

static void dead_first_address_costs_the_attempt_delay(void **state)
{
	struct silent_peer silent;
	struct probe p;
	int port, peer = -1;

	(void)state;
	for (unsigned tries = 0; peer < 0; tries++) {
		assert_true(tries < 50);
		port = silent_open(&silent, "127.0.0.1", 0);
		assert_true(port > 0);
		peer = peer_open("127.0.0.2", (uint16_t)port);
		if (peer < 0)
			silent_close(&silent);
	}
	begin_name(&p, "two.test", (uint16_t)port);
	loop_run(&loop);
	assert_true(p.took_ms >= DIAL_ATTEMPT_DELAY_MS);
	assert_true(p.took_ms < 900); /* before the SYN is sent again, after a second */
	print_message("dead first address: %u ms\n", (unsigned)p.took_ms);
	expect_won(&p, "127.0.0.2", (uint16_t)port);
	close(peer);
	silent_close(&silent);
}

static void refused_first_address_costs_nothing(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.2", 0);

	(void)state;
	begin_name(&p, "two.test", port_of(peer));
	loop_run(&loop);
	assert_true(p.took_ms < DIAL_ATTEMPT_DELAY_MS);
	expect_won(&p, "127.0.0.2", port_of(peer));
	close(peer);
}

static void all_refused(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.2", 0);
	uint16_t port = port_of(peer);

	(void)state;
	close(peer);
	begin_name(&p, "two.test", port);
	loop_run(&loop);
	expect_failed(&p, DIAL_CONNECT, -ECONNREFUSED);
}

/* Opens a listener on 127.0.0.1 and one on ::1 with the same port. */
static void both_open(int peers[2], uint16_t *port)
{
	for (unsigned tries = 0; tries < 50; tries++) {
		peers[0] = peer_open("127.0.0.1", 0);
		assert_true(peers[0] >= 0);
		*port = port_of(peers[0]);
		peers[1] = peer_open("::1", *port);
		if (peers[1] >= 0)
			return;
		close(peers[0]);
	}
	fail();
}

static void ipv6_is_preferred(void **state)
{
	static const char *const cases[] = {"both.test", "late6.test"};
	struct probe p;
	int peers[2];
	uint16_t port;

	(void)state;
	if (!has_ipv6())
		skip(); /* ::1 is missing */
	both_open(peers, &port);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin_name(&p, cases[i], port);
		loop_run(&loop);
		expect_won(&p, "::1", port);
	}
	close(peers[0]);
	close(peers[1]);
}

/* No answer for AAAA: 50 ms of patience, not the resolver's seconds. */
static void lost_aaaa_costs_the_resolution_delay(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.1", 0);

	(void)state;
	begin_name(&p, "lost6.test", port_of(peer));
	loop_run(&loop);
	assert_true(p.took_ms >= DIAL_RESOLUTION_DELAY_MS);
	assert_true(p.took_ms < 1500); /* c-ares asks again after 2 s */
	print_message("lost AAAA: %u ms\n", (unsigned)p.took_ms);
	expect_won(&p, "127.0.0.1", port_of(peer));
	close(peer);
}

/* AAAA that is not there is no reason to wait, an A that comes later is. */
static void slow_a_is_awaited(void **state)
{
	struct probe p;
	int peer = peer_open("127.0.0.1", 0);

	(void)state;
	begin_name(&p, "slow4.test", port_of(peer));
	loop_run(&loop);
	assert_true(p.took_ms >= 100 - TIMER_TICK_MS);
	expect_won(&p, "127.0.0.1", port_of(peer));

	/* Every IPv6 address has failed by then (unreachable, refused): at once, no delay. */
	begin_name(&p, "net6.test", port_of(peer));
	loop_run(&loop);
	assert_true(p.took_ms >= 100 - TIMER_TICK_MS);
	assert_true(p.took_ms < SLOW_MS);
	expect_won(&p, "127.0.0.1", port_of(peer));
	close(peer);
}

/* AAAA comes when the attempt at A is under way: its turn is after the attempt delay. */
static void late_answer_waits_for_its_turn(void **state)
{
	struct silent_peer silent;
	struct probe p;
	int port, peer = -1;

	(void)state;
	if (!has_ipv6())
		skip(); /* ::1 is missing */
	for (unsigned tries = 0; peer < 0; tries++) {
		assert_true(tries < 50);
		port = silent_open(&silent, "127.0.0.1", 0);
		assert_true(port > 0);
		peer = peer_open("::1", (uint16_t)port);
		if (peer < 0)
			silent_close(&silent);
	}
	begin_name(&p, "later6.test", (uint16_t)port);
	loop_run(&loop);
	assert_true(p.took_ms >= DIAL_RESOLUTION_DELAY_MS + DIAL_ATTEMPT_DELAY_MS);
	assert_true(p.took_ms < 950);
	expect_won(&p, "::1", (uint16_t)port);
	close(peer);
	silent_close(&silent);
}

static bool families_alternate(const struct dial *d)
{
	for (size_t i = 1; i < d->n_addrs; i++)
		if (d->addrs[i].family == d->addrs[i - 1].family)
			return false;
	return true;
}

static void families_take_turns(void **state)
{
	struct probe p;
	int peer;

	(void)state;
	if (!has_ipv6())
		skip(); /* ::1 is missing */
	peer = peer_open("127.0.0.2", 0);
	begin_name(&p, "mixed.test", port_of(peer));
	loop_run(&loop);
	assert_int_equal(p.dial.n_addrs, 4);
	assert_int_equal(p.dial.addrs[0].family, AF_INET6);
	assert_true(families_alternate(&p.dial));
	expect_won(&p, "127.0.0.2", port_of(peer));
	close(peer);
}

static void names_that_fail(void **state)
{
	static const struct {
		const char *name;
		int status;
	} cases[] = {
		{"nowhere.test", -ENOENT},
		{"none.test", -ENOENT},
		{"broken.test", -EIO}, /* more useful than the other family's "no such name" */
		{"silent.test", -ETIMEDOUT}, /* the same */
	};
	struct probe p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin_name(&p, cases[i].name, 1);
		loop_run(&loop);
		expect_failed(&p, DIAL_RESOLVE, cases[i].status);
	}
}

static void literal_and_localhost_need_no_server(void **state)
{
	static const char *const cases[] = {"localhost", "127.0.0.1"};
	struct probe p;
	int peer = peer_open("127.0.0.1", 0);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin_name(&p, cases[i], port_of(peer));
		loop_run(&loop);
		expect_won(&p, "127.0.0.1", port_of(peer));
	}
	close(peer);
}

/* --- cancelling and running out --- */

static void cancelled_at_every_stage(void **state)
{
	/* When, for a name whose answer comes after 100 ms and leads to a peer that is silent. */
	static const uint64_t stages[] = {0, 30, 200, 500};
	static const char *const unasked[] = {"0.slow4.test", "30.slow4.test", "200.slow4.test",
					      "500.slow4.test"};
	struct silent_peer silent;
	int port = silent_open(&silent, "127.0.0.1", 0);
	unsigned fds = fds_open();
	struct dial zeroed = {.done = NULL};
	struct probe p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(stages); i++) {
		begin_name(&p, unasked[i], (uint16_t)port);
		if (stages[i] > 0)
			run_for(stages[i]);
		assert_int_equal(p.dial.n_open, stages[i] > 100);
		dial_cancel(&p.dial);
		dial_cancel(&p.dial);
		memset(&p.dial, 0xee, sizeof(p.dial)); /* nobody looks at it any more */
		run_for(300);
		assert_int_equal(p.ends, 0);
		assert_int_equal(fds_open(), fds);
	}
	begin_addr(&p, address("127.0.0.1", (uint16_t)port));
	dial_cancel(&p.dial);
	begin_addr(&p, address("255.255.255.255", 9)); /* failed, not reported yet */
	dial_cancel(&p.dial);
	memset(&p.dial, 0xee, sizeof(p.dial));
	run_for(20);
	assert_int_equal(p.ends, 0);
	assert_int_equal(loop.sources.live, 3); /* the loop's, the name server's two */
	dial_cancel(&zeroed);
	silent_close(&silent);
}

static void losers_are_closed(void **state)
{
	struct silent_peer silent;
	struct probe p;
	int port = silent_open(&silent, "127.0.0.1", 0), peer;
	unsigned fds;

	(void)state;
	peer = peer_open("127.0.0.2", (uint16_t)port);
	if (peer < 0) {
		silent_close(&silent);
		skip(); /* another program has the port */
	}
	fds = fds_open();
	begin_name(&p, "two.test", (uint16_t)port);
	run_for(150);
	assert_int_equal(p.dial.n_open, 1);
	loop_run(&loop);
	assert_int_equal(fds_open(), fds + 1); /* the winner */
	expect_won(&p, "127.0.0.2", (uint16_t)port);
	close(peer);
	silent_close(&silent);
}

static void out_of_descriptors_ends_at_once(void **state)
{
	struct rlimit usual, none;
	struct probe p;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = usual.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	begin_addr(&p, address("127.0.0.1", 9));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	loop_run(&loop);
	expect_failed(&p, DIAL_CONNECT, -EMFILE);
}

/* No further attempt is made, and the one that is on its way goes on. */
static void out_of_descriptors_later_leaves_what_is_on_its_way(void **state)
{
	struct silent_peer silent;
	struct rlimit usual, none;
	struct probe p;
	int port = silent_open(&silent, "127.0.0.1", 0);

	(void)state;
	begin_name(&p, "two.test", (uint16_t)port);
	run_for(150);
	assert_int_equal(p.dial.n_open, 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = usual.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	run_for(400);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	assert_int_equal(p.ends, 0);
	assert_int_equal(p.dial.n_open, 1);
	assert_int_equal(p.dial.n_tried, p.dial.n_addrs);
	dial_cancel(&p.dial);
	silent_close(&silent);
}

int main(void)
{
#define DIAL_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, net_close)
	const struct CMUnitTest tests[] = {
		DIAL_TEST(address_connects),
		DIAL_TEST(address_refused),
		DIAL_TEST(address_impossible),
		DIAL_TEST(callback_may_dial_again),
		DIAL_TEST(handed_over_source_tells_the_new_owner),
		DIAL_TEST(dead_first_address_costs_the_attempt_delay),
		DIAL_TEST(refused_first_address_costs_nothing),
		DIAL_TEST(all_refused),
		DIAL_TEST(ipv6_is_preferred),
		DIAL_TEST(lost_aaaa_costs_the_resolution_delay),
		DIAL_TEST(slow_a_is_awaited),
		DIAL_TEST(late_answer_waits_for_its_turn),
		DIAL_TEST(families_take_turns),
		DIAL_TEST(names_that_fail),
		DIAL_TEST(filter_leaves_addresses_out),
		DIAL_TEST(filter_refuses_an_address),
		DIAL_TEST(filter_does_not_hide_a_failure),
		DIAL_TEST(literal_and_localhost_need_no_server),
		DIAL_TEST(cancelled_at_every_stage),
		DIAL_TEST(losers_are_closed),
		DIAL_TEST(out_of_descriptors_ends_at_once),
		DIAL_TEST(out_of_descriptors_later_leaves_what_is_on_its_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
