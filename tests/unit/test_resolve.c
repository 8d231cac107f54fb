/* SPDX-License-Identifier: MIT */
#include "daemon/net/resolve.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "tests/unit/net_fixture.h"

static const struct fake_name names[] = {
	{.name = "both.test", .family = AF_INET, .addrs = {"192.0.2.1", "192.0.2.2"}},
	{.name = "both.test", .family = AF_INET6, .addrs = {"2001:db8::1"}},
	{.name = "four.test", .family = AF_INET, .addrs = {"192.0.2.4"}},
	{.name = "four.test", .family = AF_INET6},
	{.name = "order.test", .family = AF_INET, .addrs = {"192.0.2.9", "127.0.0.1"}},
	{.name = "broken.test", .family = AF_INET, .rcode = 2},
	{.name = "refused.test", .family = AF_INET, .rcode = 5},
	{.name = "silent.test", .family = AF_INET, .silent = true},
	{.name = "slow.test", .family = AF_INET, .delay_ms = 100, .addrs = {"192.0.2.5"}},
	{.name = "brief.test", .family = AF_INET, .ttl = 1, .addrs = {"192.0.2.7"}},
	{.name = "alias.test", .family = AF_INET, .alias_ttl = 1, .addrs = {"192.0.2.8"}},
	{.name = "cut.test", .family = AF_INET, .cut = true, .addrs = {"192.0.2.6"}},
	{.name = "many.test",
	 .family = AF_INET,
	 .addrs = {"192.0.2.1",  "192.0.2.2",  "192.0.2.3",  "192.0.2.4",  "192.0.2.5",
		   "192.0.2.6",  "192.0.2.7",  "192.0.2.8",  "192.0.2.9",  "192.0.2.10",
		   "192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14", "192.0.2.15",
		   "192.0.2.16", "192.0.2.17", "192.0.2.18", "192.0.2.19", "192.0.2.20",
		   "192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24", "192.0.2.25",
		   "192.0.2.26", "192.0.2.27", "192.0.2.28", "192.0.2.29", "192.0.2.30",
		   "192.0.2.31", "192.0.2.32", "192.0.2.33"}},
};

/* What an answer brought. */
struct probe {
	struct query query;
	unsigned answers;
	int status;
	size_t n;
	struct addr addrs[RESOLVE_ADDRS_MAX];
	struct query *then_cancel;
	const char *then_ask;
};

static unsigned n_waiting;

static void on_answer(struct query *q, int status, const struct addr *addrs, size_t n)
{
	struct probe *p = q->owner;

	assert_null(q->entry);
	p->answers++;
	p->status = status;
	p->n = n;
	assert_true(n <= RESOLVE_ADDRS_MAX);
	assert_int_equal(status == 0, n > 0);
	if (n > 0)
		memcpy(p->addrs, addrs, n * sizeof(*addrs));
	if (p->then_cancel != NULL) {
		query_cancel(p->then_cancel);
		n_waiting--;
	}
	if (p->then_ask != NULL) {
		const char *name = p->then_ask;

		p->then_ask = NULL;
		n_waiting++;
		assert_int_equal(query_start(resolver, q, name, AF_INET, on_answer, p), 0);
		assert_int_equal(p->answers, 1); /* not from inside */
	}
	if (--n_waiting == 0)
		loop_stop(&loop);
}

static int setup(void **state)
{
	const struct sock_options o = {.mark = {0}};

	(void)state;
	n_waiting = 0;
	return net_open(names, ARRAY_LEN(names), &o);
}

static void ask(struct probe *p, const char *name, int family)
{
	unsigned before = p->answers;

	n_waiting++;
	assert_int_equal(query_start(resolver, &p->query, name, family, on_answer, p), 0);
	assert_int_equal(p->answers, before); /* never from inside */
	assert_non_null(p->query.entry);
}

static void answers_become_addresses(void **state)
{
	static const struct {
		const char *name;
		int family;
		int status;
		size_t n;
		const char *first;
	} cases[] = {
		{"both.test", AF_INET, 0, 2, "192.0.2.1"},
		{"both.test", AF_INET6, 0, 1, "2001:db8::1"},
		{"four.test", AF_INET, 0, 1, "192.0.2.4"},
		{"four.test", AF_INET6, -ENOENT, 0, NULL},
		{"nowhere.test", AF_INET, -ENOENT, 0, NULL},
		{"nowhere.test", AF_INET6, -ENOENT, 0, NULL},
		{"bad..name", AF_INET, -ENOENT, 0, NULL},
		{"broken.test", AF_INET, -EIO, 0, NULL},
		{"refused.test", AF_INET, -EIO, 0, NULL},
		{"cut.test", AF_INET, 0, 1, "192.0.2.6"},
		{"many.test", AF_INET, 0, RESOLVE_ADDRS_MAX, "192.0.2.1"},
		{"order.test", AF_INET, 0, 2, "192.0.2.9"}, /* the server's, not RFC 6724's */
		{"slow.test", AF_INET, 0, 1, "192.0.2.5"},
		{"localhost", AF_INET, 0, 1, "127.0.0.1"},
		{"localhost", AF_INET6, 0, 1, "::1"},
		{"LocalHost", AF_INET, 0, 1, "127.0.0.1"},
		{"a.localhost", AF_INET6, 0, 1, "::1"},
		{"notlocalhost", AF_INET, -ENOENT, 0, NULL},
		{"192.0.2.77", AF_INET, 0, 1, "192.0.2.77"},
		{"192.0.2.77", AF_INET6, -ENOENT, 0, NULL},
		{"2001:db8::7", AF_INET6, 0, 1, "2001:db8::7"},
		{"2001:db8::7", AF_INET, -ENOENT, 0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct probe p = {.answers = 0};
		char text[ADDR_TEXT_MAX];

		ask(&p, cases[i].name, cases[i].family);
		loop_run(&loop);
		if (p.answers != 1 || p.status != cases[i].status || p.n != cases[i].n)
			print_message("%s: %u answers, status %d, %zu addresses\n", cases[i].name,
				      p.answers, p.status, p.n);
		assert_int_equal(p.answers, 1);
		assert_int_equal(p.status, cases[i].status);
		assert_int_equal(p.n, cases[i].n);
		if (p.n > 0) {
			assert_string_equal(addr_format_ip(&p.addrs[0], text, sizeof(text)),
					    cases[i].first);
			assert_int_equal(p.addrs[0].port, 0);
		}
	}
	assert_int_equal(dns.n_tcp, 2); /* cut.test, and many.test for its length */
}

static void silence_is_a_timeout(void **state)
{
	struct probe p = {.answers = 0};
	uint64_t begin = loop.now_ms;

	(void)state;
	ask(&p, "silent.test", AF_INET);
	loop_run(&loop);
	assert_int_equal(p.answers, 1);
	assert_int_equal(p.status, -ETIMEDOUT);
	assert_int_equal(dns.n_udp, 2);
	assert_true(loop.now_ms - begin >= 3000);
}

/* A name server's port where nobody listens: told by ICMP, no waiting. */
/* However many there are, they share the time: a client waits for the answer. */
static void more_servers_have_no_more_time(void **state)
{
	const struct sock_options o = {.mark = {0}};
	struct addr addrs[3] = {dns.addr, dns.addr, dns.addr};
	struct addr_list servers = {.addrs = addrs, .n = 3};
	struct resolver *usual = resolver;
	struct probe p = {.answers = 0};
	uint64_t began_ms = loop.now_ms;

	(void)state;
	assert_int_equal(resolver_new(&loop, &servers, &o, &resolver, NULL), 0);
	ask(&p, "silent.test", AF_INET);
	loop_run(&loop);
	assert_int_equal(p.status, -ETIMEDOUT);
	assert_in_range(loop.now_ms - began_ms, RESOLVE_MS - 100, 2 * RESOLVE_MS);
	resolver_free(resolver);
	resolver = usual;
}

/* Addresses of one family are enough to go on; that there are none has to be known of both. */
static void what_needs_no_server(void **state)
{
	struct probe p = {.answers = 0};

	(void)state;
	assert_true(resolver_knows(resolver, "localhost"));
	assert_true(resolver_knows(resolver, "192.0.2.1"));
	assert_false(resolver_knows(resolver, "slow.test"));
	ask(&p, "slow.test", AF_INET);
	assert_false(resolver_knows(resolver, "slow.test")); /* asked, and waited for */
	loop_run(&loop);
	assert_int_equal(p.status, 0);
	assert_true(resolver_knows(resolver, "Slow.Test"));
	for (int family = AF_INET;; family = AF_INET6) {
		assert_false(resolver_knows(resolver, "nosuch.test"));
		ask(&p, "nosuch.test", family);
		loop_run(&loop);
		assert_int_equal(p.status, -ENOENT);
		if (family == AF_INET6)
			break;
	}
	assert_true(resolver_knows(resolver, "nosuch.test"));
}

static void a_dead_server_fails_and_the_next_is_asked(void **state)
{
	const struct sock_options o = {.mark = {0}};
	struct addr both[2] = {dns.addr, dns.addr};
	struct addr_list servers = {.addrs = both, .n = 1};
	struct resolver *usual = resolver;
	struct probe p = {.answers = 0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;
	socklen_t len;

	(void)state;
	both[0].port = 0;
	len = addr_to_sockaddr(&both[0], &ss);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	both[0] = sock_local(fd);
	close(fd);
	for (servers.n = 1; servers.n <= 2; servers.n++) {
		assert_int_equal(resolver_new(&loop, &servers, &o, &resolver, NULL), 0);
		ask(&p, "both.test", AF_INET);
		loop_run(&loop);
		assert_int_equal(p.answers, servers.n);
		assert_int_equal(p.status, servers.n == 1 ? -EIO : 0);
		resolver_free(resolver);
	}
	resolver = usual;
}

static void an_answer_after_the_cancel_is_dropped(void **state)
{
	struct probe p = {.answers = 0}, other = {.answers = 0};

	(void)state;
	ask(&p, "slow.test", AF_INET);
	query_cancel(&p.query);
	query_cancel(&p.query);
	assert_null(p.query.entry);
	run_for(10); /* asked, not answered */
	assert_int_equal(dns.n_udp, 1);
	n_waiting--;
	ask(&p, "slow.test", AF_INET); /* the struct may be used again meanwhile */
	run_for(20);
	query_cancel(&p.query);
	n_waiting--;
	run_for(200);
	assert_int_equal(dns.n_sent, 1); /* the second one waited for the same answer */
	assert_int_equal(p.answers, 0);

	/* Cancelled between its end and its report: localhost is known at once. */
	ask(&p, "localhost", AF_INET);
	query_cancel(&p.query);
	n_waiting--;
	ask(&other, "both.test", AF_INET);
	loop_run(&loop);
	assert_int_equal(other.answers, 1);
	assert_int_equal(p.answers, 0);
}

static void ending_with_an_orphan_leaks_nothing(void **state)
{
	struct probe p = {.answers = 0}, ended = {.answers = 0};

	(void)state;
	ask(&p, "silent.test", AF_INET);
	run_for(10);
	query_cancel(&p.query);
	ask(&ended, "localhost", AF_INET);
	query_cancel(&ended.query);
	/* net_close() counts */
	n_waiting = 0;
}

static void a_callback_may_cancel_and_ask(void **state)
{
	struct probe first = {.answers = 0}, second = {.answers = 0};

	(void)state;
	/* Both end at once; the first to be reported cancels the other. */
	ask(&first, "localhost", AF_INET);
	ask(&second, "localhost", AF_INET);
	first.then_cancel = &second.query;
	loop_run(&loop);
	assert_int_equal(first.answers, 1);
	assert_int_equal(second.answers, 0);

	first = (struct probe){.then_ask = "localhost"};
	ask(&first, "both.test", AF_INET);
	loop_run(&loop);
	assert_int_equal(first.answers, 2);
	assert_int_equal(first.status, 0);
}

static void many_at_once(void **state)
{
	static struct probe probes[500];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(probes); i++)
		ask(&probes[i], i % 2 ? "both.test" : "slow.test", AF_INET);
	loop_run(&loop);
	for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
		assert_int_equal(probes[i].answers, 1);
		assert_int_equal(probes[i].status, 0);
		assert_int_equal(probes[i].n, i % 2 ? 2 : 1);
	}
	assert_int_equal(dns.n_udp, 2); /* one for each name */
}

/* Asks and waits; how many queries that took. */
static unsigned ask_servers(struct probe *p, const char *name, int family)
{
	unsigned before = dns.n_udp;

	*p = (struct probe){.answers = 0};
	ask(p, name, family);
	loop_run(&loop);
	assert_int_equal(p->answers, 1);
	return dns.n_udp - before;
}

static void answers_are_kept(void **state)
{
	struct probe p;

	(void)state;
	assert_int_equal(ask_servers(&p, "both.test", AF_INET), 1);
	assert_int_equal(ask_servers(&p, "both.test", AF_INET), 0);
	assert_int_equal(p.status, 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(ask_servers(&p, "BOTH.Test", AF_INET), 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(ask_servers(&p, "both.test", AF_INET6), 1); /* each family is one answer */
	assert_int_equal(p.n, 1);
	assert_int_equal(ask_servers(&p, "nowhere.test", AF_INET), 1);
	assert_int_equal(ask_servers(&p, "nowhere.test", AF_INET), 0);
	assert_int_equal(p.status, -ENOENT);
	assert_int_equal(ask_servers(&p, "four.test", AF_INET6), 1); /* no such family */
	assert_int_equal(ask_servers(&p, "four.test", AF_INET6), 0);
	assert_int_equal(p.status, -ENOENT);
	run_for(RESOLVE_TTL_MIN_S * 1000 + 100);
	assert_int_equal(ask_servers(&p, "both.test", AF_INET), 0);
}

/* The TTL of the addresses, or of what leads to them. */
static void answers_expire(void **state)
{
	static const char *const brief[] = {"brief.test", "alias.test"};
	struct probe p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(brief); i++) {
		assert_int_equal(ask_servers(&p, brief[i], AF_INET), 1);
		assert_int_equal(p.status, 0);
		assert_int_equal(ask_servers(&p, brief[i], AF_INET), 0);
	}
	run_for(1100);
	for (size_t i = 0; i < ARRAY_LEN(brief); i++)
		assert_int_equal(ask_servers(&p, brief[i], AF_INET), 1);
}

static uint64_t answers_of(const struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(h->counts); i++)
		n += h->counts[i];
	return n;
}

/* Who asks is counted by where the answer came from; the servers' answers, and their time, by what they were. */
static void queries_are_counted(void **state)
{
	struct resolve_counts counts = {.queries = {0}};
	struct probe p = {.answers = 0}, q = {.answers = 0};

	(void)state;
	ask_servers(&p, "both.test", AF_INET); /* not counted yet */
	resolver_count(resolver, &counts);
	ask_servers(&p, "both.test", AF_INET);
	ask_servers(&p, "both.test", AF_INET6);
	ask_servers(&p, "192.0.2.77", AF_INET);
	ask_servers(&p, "localhost", AF_INET6);
	ask_servers(&p, "nowhere.test", AF_INET);
	ask_servers(&p, "broken.test", AF_INET);
	ask(&p, "slow.test", AF_INET);
	ask(&q, "slow.test", AF_INET);
	loop_run(&loop);
	ask_servers(&p, "brief.test", AF_INET);
	run_for(1100);
	dns.rcode = 2;
	ask_servers(&p, "brief.test", AF_INET);
	ask_servers(&p, "brief.test", AF_INET);
	assert_int_equal(counts.queries[RESOLVE_FROM_HERE], 2);
	assert_int_equal(counts.queries[RESOLVE_FROM_CACHE], 1);
	assert_int_equal(counts.queries[RESOLVE_FROM_STALE], 1);
	assert_int_equal(counts.queries[RESOLVE_FROM_SERVERS], 7);
	assert_int_equal(answers_of(&counts.asked_ms[RESOLVE_FOUND]), 3);
	assert_int_equal(answers_of(&counts.asked_ms[RESOLVE_NONE]), 1);
	assert_int_equal(answers_of(&counts.asked_ms[RESOLVE_FAILED]), 2);
	assert_int_equal(answers_of(&counts.asked_ms[RESOLVE_TIMEOUT]), 0);
	assert_true(counts.asked_ms[RESOLVE_FOUND].sum >= 95); /* slow.test takes 100 ms */
}

/* RFC 8767: addresses that have expired are better than none. What was never there stays a failure. */
static void failing_servers_leave_old_answers(void **state)
{
	struct probe p;

	(void)state;
	ask_servers(&p, "brief.test", AF_INET);
	run_for(1100);
	dns.rcode = 2;
	assert_true(ask_servers(&p, "brief.test", AF_INET) > 0);
	assert_int_equal(p.status, 0);
	assert_int_equal(p.n, 1);
	assert_int_equal(ask_servers(&p, "brief.test", AF_INET), 0); /* nor asked each time */
	assert_int_equal(p.status, 0);
	assert_true(ask_servers(&p, "both.test", AF_INET) > 0);
	assert_int_equal(p.status, -EIO);
	assert_int_equal(ask_servers(&p, "both.test", AF_INET), 0);
	assert_int_equal(p.status, -EIO);
	dns.rcode = 0;
	run_for(1100);
	assert_int_equal(ask_servers(&p, "both.test", AF_INET), 1);
	assert_int_equal(p.status, 0);
}

static void silent_servers_leave_old_answers(void **state)
{
	struct probe p;

	(void)state;
	ask_servers(&p, "brief.test", AF_INET);
	run_for(1100);
	dns.silent = true;
	assert_int_equal(ask_servers(&p, "brief.test", AF_INET), 2);
	assert_int_equal(p.status, 0);
	assert_int_equal(ask_servers(&p, "brief.test", AF_INET), 0);
	assert_int_equal(p.status, 0);
}

/* The name is asked for while another asks; the one who asked first goes away. */
static void waiting_is_shared(void **state)
{
	struct probe first = {.answers = 0}, second = {.answers = 0};

	(void)state;
	ask(&first, "slow.test", AF_INET);
	ask(&second, "slow.test", AF_INET);
	query_cancel(&first.query);
	n_waiting--;
	loop_run(&loop);
	assert_int_equal(second.answers, 1);
	assert_int_equal(second.status, 0);
	assert_int_equal(first.answers, 0);
	assert_int_equal(dns.n_udp, 1);
	assert_int_equal(ask_servers(&first, "slow.test", AF_INET), 0);
}

/* Names longer than any can be, and as long as they may be. */
static void long_names(void **state)
{
	char name[300];
	struct probe p;

	(void)state;
	memset(name, 'a', sizeof(name));
	for (size_t i = 50; i < sizeof(name); i += 50)
		name[i] = '.';
	name[299] = '\0';
	assert_int_equal(ask_servers(&p, name, AF_INET), 0);
	assert_int_equal(p.status, -ENOENT);
	name[253] = '\0';
	assert_int_equal(ask_servers(&p, name, AF_INET), 1);
	assert_int_equal(p.status, -ENOENT);
	assert_int_equal(ask_servers(&p, name, AF_INET), 0);
}

/* The value of SO_MARK on the one UDP socket that is not the name server's; -1: there is none. */
static int mark_of_the_asking_socket(void)
{
	for (int fd = 3; fd < 64; fd++) {
		int type = 0, mark = -1;
		socklen_t len = sizeof(type);

		if (fd == dns.udp->fd || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
		    type != SOCK_DGRAM)
			continue;
		len = sizeof(mark);
		assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &len), 0);
		return mark;
	}
	return -1;
}

static void queries_carry_the_mark(void **state)
{
	const struct sock_options o = {.mark = {.value = 0x1000, .mask = 0x1000}};
	struct addr_list servers = {.addrs = &dns.addr, .n = 1};
	struct resolver *usual = resolver;
	struct probe p = {.answers = 0};
	int mark;

	(void)state;
	assert_int_equal(resolver_new(&loop, &servers, &o, &resolver, NULL), 0);
	ask(&p, "slow.test", AF_INET);
	mark = mark_of_the_asking_socket();
	loop_run(&loop);
	resolver_free(resolver);
	resolver = usual;
	assert_int_equal(p.answers, 1);
	if (mark < 0) {
		assert_int_equal(p.status, -EIO); /* never unmarked */
		skip();                           /* without CAP_NET_RAW or CAP_NET_ADMIN */
	}
	assert_int_equal(mark, 0x1000);
	assert_int_equal(p.status, 0);
}

static void servers_of_the_system_are_the_default(void **state)
{
	const struct sock_options o = {.mark = {0}};
	const struct addr_list none = {.n = 0};
	struct resolver *usual = resolver;
	struct probe p = {.answers = 0};

	(void)state;
	resolver = NULL;
	assert_int_equal(resolver_new(&loop, &none, &o, &resolver, NULL), 0);
	ask(&p, "localhost", AF_INET); /* asks no server */
	loop_run(&loop);
	assert_int_equal(p.status, 0);
	resolver_free(resolver);
	resolver_free(NULL);
	resolver = usual;
}

int main(void)
{
#define RESOLVE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, net_close)
	const struct CMUnitTest tests[] = {
		RESOLVE_TEST(answers_become_addresses),
		RESOLVE_TEST(silence_is_a_timeout),
		RESOLVE_TEST(what_needs_no_server),
		RESOLVE_TEST(more_servers_have_no_more_time),
		RESOLVE_TEST(a_dead_server_fails_and_the_next_is_asked),
		RESOLVE_TEST(an_answer_after_the_cancel_is_dropped),
		RESOLVE_TEST(ending_with_an_orphan_leaks_nothing),
		RESOLVE_TEST(a_callback_may_cancel_and_ask),
		RESOLVE_TEST(many_at_once),
		RESOLVE_TEST(answers_are_kept),
		RESOLVE_TEST(answers_expire),
		RESOLVE_TEST(queries_are_counted),
		RESOLVE_TEST(failing_servers_leave_old_answers),
		RESOLVE_TEST(silent_servers_leave_old_answers),
		RESOLVE_TEST(waiting_is_shared),
		RESOLVE_TEST(long_names),
		RESOLVE_TEST(queries_carry_the_mark),
		RESOLVE_TEST(servers_of_the_system_are_the_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
