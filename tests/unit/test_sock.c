/* SPDX-License-Identifier: MIT */
#include "daemon/net/sock.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/peer_of.h"

static const struct sock_listen_options listening = {.keepalive_ms = 90000};
static const struct sock_listen_options first_of_them = {.first = true};
static const struct sock_listen_options transparently = {.transparent = true};

static const struct sock_options options = {.mark = {0}};

static int get_int(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static struct addr loopback(const char *ip)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, ip), 0);
	return a;
}

static int accept_one(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 5000), 1);
	return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void check_stream(int fd)
{
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void connect_and_accept(const char *ip)
{
	struct addr a = loopback(ip), at;
	int listener = sock_listen(&a, &listening, NULL), fd, accepted, rc;

	if (listener == -EAFNOSUPPORT || listener == -EADDRNOTAVAIL)
		skip(); /* a host without IPv6 */
	assert_true(listener >= 0);
	at = sock_local(listener);
	assert_true(addr_equal_ip(&at, &a));
	assert_int_not_equal(at.port, 0);
	fd = sock_stream(at.family, &options);
	assert_true(fd >= 0);
	check_stream(fd);
	rc = sock_connect(fd, &at);
	assert_true(rc == 0 || rc == -EINPROGRESS);
	accepted = accept_one(listener);
	assert_true(accepted >= 0);
	check_stream(accepted); /* inherited from the listener */
	assert_int_equal(get_int(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(get_int(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 90);
	assert_int_equal(get_int(accepted, IPPROTO_TCP, TCP_KEEPINTVL), 10);
	wait_for(fd, POLLOUT);
	assert_int_equal(sock_error(fd), 0);
	a = peer_of(fd);
	assert_true(addr_equal(&a, &at));
	a = sock_local(fd);
	at = peer_of(accepted);
	assert_true(addr_equal(&a, &at));
	close(accepted);
	close(fd);
	close(listener);
}

static void connects_over_ipv4(void **state)
{
	(void)state;
	connect_and_accept("127.0.0.1");
}

static void connects_over_ipv6(void **state)
{
	(void)state;
	connect_and_accept("::1");
}

static void keepalive_seconds(void **state)
{
	static const struct {
		int64_t ms;
		int on, idle_s, probe_s; /* seconds count only if on */
	} cases[] = {
		{0, 0, 0, 0},
		{1, 1, 1, 1},
		{1000, 1, 1, 1},
		{1001, 1, 2, 1},
		{60000, 1, 60, 7},
		{90000, 1, 90, 10},
		{7200000, 1, 7200, 800},
		{INT64_C(1) << 40, 1, 32767, 3641},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int fd = sock_stream(AF_INET, &options);

		assert_true(fd >= 0);
		assert_int_equal(sock_keepalive(fd, cases[i].ms), 0);
		assert_int_equal(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), cases[i].on);
		if (cases[i].on) {
			assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE), cases[i].idle_s);
			assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL), cases[i].probe_s);
		}
		close(fd);
	}
}

/* Whether a connection is there for its listener before a byte was sent over it. */
static bool seen_before_first_byte(const struct sock_options *o)
{
	struct addr a = loopback("127.0.0.1");
	int listener = sock_listen(&a, &listening, NULL), fd = sock_stream(AF_INET, o), accepted;
	bool seen;

	assert_true(listener >= 0 && fd >= 0);
	a = sock_local(listener);
	assert_int_equal(sock_connect(fd, &a), -EINPROGRESS);
	wait_for(fd, POLLOUT);
	accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	seen = accepted >= 0;
	if (!seen) {
		assert_int_equal(errno, EAGAIN);
		assert_int_equal(send(fd, "x", 1, 0), 1);
		wait_for(listener, POLLIN);
		accepted = accept_one(listener);
		assert_true(accepted >= 0);
	}
	close(accepted);
	close(fd);
	close(listener);
	return seen;
}

static void last_ack_waits_for_the_first_byte(void **state)
{
	const struct sock_options first = {.speaks_first = true};
	bool seen = true;

	(void)state;
	assert_true(seen_before_first_byte(&options));
	/* The kernel waits 200 ms for that byte; once in a while this process sleeps longer. */
	for (int i = 0; i < 5 && seen; i++)
		seen = seen_before_first_byte(&first);
	assert_false(seen);
}

static void two_listeners_share_a_port(void **state)
{
	struct addr a = loopback("127.0.0.1");
	int first = sock_listen(&a, &listening, NULL), second;

	(void)state;
	a = sock_local(first);
	second = sock_listen(&a, &listening, NULL);
	assert_true(second >= 0);
	close(first);
	close(second);
}

/* The first one is alone when it comes, and takes its share of the connections afterwards. */
static void first_listener_shares_with_later_ones(void **state)
{
	struct addr a = loopback("127.0.0.1");
	int listeners[2], fds[64], n_accepted[2] = {0, 0};

	(void)state;
	listeners[0] = sock_listen(&a, &first_of_them, NULL);
	assert_true(listeners[0] >= 0);
	a = sock_local(listeners[0]);
	assert_int_equal(sock_listen(&a, &first_of_them, NULL), -EADDRINUSE);
	listeners[1] = sock_listen(&a, &listening, NULL);
	assert_true(listeners[1] >= 0);
	assert_int_equal(sock_listen(&a, &first_of_them, NULL), -EADDRINUSE);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = sock_stream(AF_INET, &options);
		sock_connect(fds[i], &a);
		wait_for(fds[i], POLLOUT);
	}
	for (size_t i = 0; i < 2; i++) {
		int fd;

		while ((fd = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			n_accepted[i]++;
			close(fd);
		}
		assert_true(n_accepted[i] > 0);
		close(listeners[i]);
	}
	assert_int_equal(n_accepted[0] + n_accepted[1], ARRAY_LEN(fds));
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
}

static struct addr race_at;
static pthread_barrier_t race_start;

static void *racer_main(void *arg)
{
	int *fd = arg;

	pthread_barrier_wait(&race_start);
	*fd = sock_listen(&race_at, &first_of_them, NULL);
	if (*fd >= 0) /* as the daemon does for its second worker */
		close(sock_listen(&race_at, &listening, NULL));
	return NULL;
}

static void first_listener_is_one(void **state)
{
	pthread_t threads[2];
	unsigned n_won = 0;
	int fds[2];

	(void)state;
	race_at = loopback("127.0.0.1");
	fds[0] = sock_listen(&race_at, &first_of_them, NULL);
	race_at = sock_local(fds[0]);
	close(fds[0]);
	pthread_barrier_init(&race_start, NULL, 2);
	for (int round = 0; round < 500; round++) {
		for (size_t i = 0; i < 2; i++)
			pthread_create(&threads[i], NULL, racer_main, &fds[i]);
		for (size_t i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		assert_true(fds[0] < 0 || fds[1] < 0);
		for (size_t i = 0; i < 2; i++) {
			if (fds[i] < 0) {
				assert_int_equal(fds[i], -EADDRINUSE);
				continue;
			}
			n_won++;
			close(fds[i]);
		}
	}
	assert_true(n_won > 0);
	pthread_barrier_destroy(&race_start);
}

static void listening_fails_with_the_address(void **state)
{
	struct addr a = loopback("127.0.0.1");
	char want[200], text[ADDR_TEXT_MAX];
	struct diag d;
	int plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);

	(void)state;
	/* Without SO_REUSEPORT, so that it does not share. */
	assert_int_equal(bind(plain, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(listen(plain, 1), 0);
	a = sock_local(plain);
	assert_int_equal(sock_listen(&a, &listening, &d), -EADDRINUSE);
	snprintf(want, sizeof(want), "cannot listen on %s: Address already in use",
		 addr_format(&a, text, sizeof(text)));
	assert_string_equal(d.text, want);
	close(plain);

	a = loopback("192.0.2.1");
	a.port = 1;
	assert_int_equal(sock_listen(&a, &listening, &d), -EADDRNOTAVAIL);
	assert_string_equal(d.text,
			    "cannot listen on 192.0.2.1:1: Cannot assign requested address");
}

static void ipv6_any_leaves_ipv4_alone(void **state)
{
	struct addr six = loopback("::"), four = loopback("0.0.0.0");
	int a = sock_listen(&six, &listening, NULL), b;

	(void)state;
	if (a == -EAFNOSUPPORT)
		skip(); /* a host without IPv6 */
	assert_true(a >= 0);
	assert_int_equal(get_int(a, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	four.port = sock_local(a).port;
	b = sock_listen(&four, &listening, NULL);
	assert_true(b >= 0 || b == -EADDRINUSE);
	if (b >= 0)
		close(b);
	close(a);
}

static void refusal_is_the_pending_error(void **state)
{
	struct addr a = loopback("127.0.0.1");
	int listener = sock_listen(&a, &listening, NULL), fd = sock_stream(AF_INET, &options), rc;

	(void)state;
	a = sock_local(listener);
	close(listener);
	rc = sock_connect(fd, &a);
	if (rc == -EINPROGRESS) {
		wait_for(fd, POLLOUT);
		rc = sock_error(fd);
	}
	assert_int_equal(rc, -ECONNREFUSED);
	assert_int_equal(sock_error(fd), 0); /* taken */
	close(fd);
	assert_int_equal(sock_error(-1), -EBADF);
	assert_int_equal(sock_local(-1).family, AF_UNSPEC);
}

static void closing_with_reset(void **state)
{
	struct addr a = loopback("127.0.0.1");
	int listener = sock_listen(&a, &listening, NULL), fd = sock_stream(AF_INET, &options), peer;
	char byte;

	(void)state;
	a = sock_local(listener);
	assert_int_equal(sock_connect(fd, &a) == 0 || errno == EINPROGRESS, 1);
	peer = accept_one(listener);
	assert_true(peer >= 0);
	wait_for(fd, POLLOUT);
	sock_close_reset(fd);
	wait_for(peer, POLLIN);
	assert_int_equal(read(peer, &byte, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close(peer);
	close(listener);
}

static void mark_is_set_or_refused(void **state)
{
	const struct sock_options o = {.mark = {.value = 0x1000, .mask = 0x1000}};
	const struct mark none = {0, 0};
	int fd = sock_stream(AF_INET, &o);

	(void)state;
	assert_int_equal(sock_mark(-1, &none), 0); /* no mark, no system call */
	assert_int_equal(sock_mark(-1, &o.mark), -EBADF);
	if (fd == -EPERM)
		skip(); /* without CAP_NET_RAW or CAP_NET_ADMIN */
	assert_true(fd >= 0);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_MARK), 0x1000);
	close(fd);
}

/* It needs a privilege, and says so where that is missing. */
static void transparent_listener(void **state)
{
	struct addr a = loopback("127.0.0.1");
	struct diag d;
	int fd = sock_listen(&a, &transparently, &d);

	(void)state;
	if (fd == -EPERM) {
		assert_non_null(strstr(d.text, "CAP_NET_RAW"));
		skip();
	}
	assert_true(fd >= 0);
	assert_int_equal(get_int(fd, IPPROTO_IP, IP_TRANSPARENT), 1);
	close(fd);
	a = loopback("::1");
	fd = sock_listen(&a, &transparently, NULL);
	if (fd < 0)
		skip(); /* a host without IPv6 */
	assert_int_equal(get_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT), 1);
	close(fd);
}

/* What a host has towards itself it has everywhere, and nothing is asked for at the other end. */
static void route_is_the_own_address(void **state)
{
	static const char *const ips[] = {"127.0.0.9", "::1"};
	struct addr to, own = {.family = AF_UNSPEC};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ips); i++) {
		to = loopback(ips[i]);
		if (i == 1 && !sock_is_own(&to))
			skip(); /* a host without IPv6 */
		assert_int_equal(sock_route(&options, &to, &own), 0);
		assert_int_equal(own.family, to.family);
		assert_int_equal(own.port, 0);
		assert_true(addr_is_loopback(&own));
	}
}

static void interface_is_taken_but_not_for_loopback(void **state)
{
	const struct sock_options o = {.iface = "no-such-if"}, none = {.iface = ""};
	struct addr near = loopback("127.0.0.1"), far = loopback("192.0.2.1"), own = {.port = 7};
	int fd = sock_stream(AF_INET, &o);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(sock_take_iface(fd, &o, &near), 0);
	assert_int_equal(sock_take_iface(fd, &none, &far), 0);
	assert_int_equal(sock_take_iface(fd, &options, &far), 0);
	assert_int_equal(sock_take_iface(fd, &o, &far), -ENODEV);
	assert_int_equal(sock_route(&o, &far, &own), -ENODEV);
	assert_int_equal(own.port, 7);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transparent_listener),
		cmocka_unit_test(connects_over_ipv4),
		cmocka_unit_test(connects_over_ipv6),
		cmocka_unit_test(keepalive_seconds),
		cmocka_unit_test(last_ack_waits_for_the_first_byte),
		cmocka_unit_test(two_listeners_share_a_port),
		cmocka_unit_test(first_listener_shares_with_later_ones),
		cmocka_unit_test(first_listener_is_one),
		cmocka_unit_test(listening_fails_with_the_address),
		cmocka_unit_test(ipv6_any_leaves_ipv4_alone),
		cmocka_unit_test(refusal_is_the_pending_error),
		cmocka_unit_test(closing_with_reset),
		cmocka_unit_test(mark_is_set_or_refused),
		cmocka_unit_test(route_is_the_own_address),
		cmocka_unit_test(interface_is_taken_but_not_for_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
