/* SPDX-License-Identifier: MIT */
#include "rulemgr/listeners.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy/addr.h"

/* Listens on `text` and any free port, which comes back in *port; -1 if this host cannot. */
static int listen_on(const char *text, bool v6_only, uint16_t *port)
{
	struct sockaddr_storage ss;
	int one = v6_only, fd;
	struct addr a;
	socklen_t len;

	assert_int_equal(addr_parse(&a, text), 0);
	len = addr_to_sockaddr(&a, &ss);
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 1) < 0) {
		close(fd);
		return -1;
	}
	len = sizeof(ss);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	a = addr_from_sockaddr((struct sockaddr *)&ss);
	*port = a.port;
	return fd;
}

static void test_listeners(void **state)
{
	static const struct {
		const char *address;
		bool v6_only;
		bool any4, any6, loopback4, loopback6;
	} cases[] = {
		{"127.0.0.1", false, false, false, true, false},
		{"127.0.0.2", false, false, false, false, false},
		{"0.0.0.0", false, true, false, true, false},
		{"::1", false, false, false, false, true},
		{"::", true, false, true, false, true},
		{"::", false, true, true, true, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct listeners l;
		struct diag d;
		uint16_t port;
		int fd = listen_on(cases[i].address, cases[i].v6_only, &port);

		if (fd < 0)
			continue; /* no IPv6 here */
		assert_int_equal(listeners_read(port, &l, &d), 0);
		assert_int_equal(l.any[LISTENERS_IPV4], cases[i].any4);
		assert_int_equal(l.any[LISTENERS_IPV6], cases[i].any6);
		assert_int_equal(l.loopback[LISTENERS_IPV4], cases[i].loopback4);
		assert_int_equal(l.loopback[LISTENERS_IPV6], cases[i].loopback6);
		assert_true(l.host_has[LISTENERS_IPV4]);
		close(fd);
		assert_int_equal(listeners_read(port, &l, &d), 0);
		assert_false(l.loopback[LISTENERS_IPV4] || l.loopback[LISTENERS_IPV6]);
	}
}

/* A socket that is bound but does not listen is nobody. */
static void test_bound_only(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);
	struct listeners l;
	struct diag d;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	assert_int_equal(listeners_read(ntohs(sin.sin_port), &l, &d), 0);
	assert_false(l.loopback[LISTENERS_IPV4]);
	close(fd);
}

/* What "::" takes of both families by TPROXY; skipped without the privilege that this needs. */
static void test_transparent(void **state)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	socklen_t len = sizeof(sin6);
	struct listeners l;
	struct diag d;

	(void)state;
	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof(one)) < 0)
		skip();
	assert_int_equal(bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin6, &len), 0);
	assert_int_equal(listeners_read(ntohs(sin6.sin6_port), &l, &d), 0);
	assert_true(l.transparent[LISTENERS_IPV4] && l.transparent[LISTENERS_IPV6]);
	assert_false(l.plain[LISTENERS_IPV4] || l.plain[LISTENERS_IPV6]);
	close(fd);
	fd = listen_on("127.0.0.1", false, &sin6.sin6_port);
	assert_true(fd >= 0);
	assert_int_equal(listeners_read(sin6.sin6_port, &l, &d), 0);
	assert_true(l.loopback[LISTENERS_IPV4]);
	assert_false(l.transparent[LISTENERS_IPV4] || l.transparent[LISTENERS_IPV6]);
	assert_true(l.plain[LISTENERS_IPV4] && !l.plain[LISTENERS_IPV6]);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_bound_only),
		cmocka_unit_test(test_transparent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
