/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/addr.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *ip; /* NULL: refused */
		int family;
	} cases[] = {
		{"192.0.2.1", "192.0.2.1", AF_INET},
		{"0.0.0.0", "0.0.0.0", AF_INET},
		{"2001:DB8::1", "2001:db8::1", AF_INET6},
		{"[2001:db8::1]", "2001:db8::1", AF_INET6},
		{"::", "::", AF_INET6},
		{"::ffff:192.0.2.1", "192.0.2.1", AF_INET},
		{"[::ffff:c000:201]", "192.0.2.1", AF_INET},
		{"::192.0.2.1", "::192.0.2.1", AF_INET6},
		{"", NULL, 0},
		{"[]", NULL, 0},
		{"[", NULL, 0},
		{"192.0.2", NULL, 0},
		{"192.0.2.256", NULL, 0},
		{"192.0.2.01", NULL, 0},
		{"0x7f.0.0.1", NULL, 0},
		{"127.1", NULL, 0},
		{"2130706433", NULL, 0},
		{" 192.0.2.1", NULL, 0},
		{"192.0.2.1 ", NULL, 0},
		{"[192.0.2.1]", NULL, 0},
		{"[::1", NULL, 0},
		{"::1]", NULL, 0},
		{"fe80::1%eth0", NULL, 0},
		{"1:2:3:4:5:6:7:8:9", NULL, 0},
		{"host", NULL, 0},
		{"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]", NULL, 0},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr a = {.port = 99};
		char out[ADDR_TEXT_MAX];
		int r = addr_parse(&a, cases[i].text);

		if (cases[i].ip == NULL) {
			if (r != -EINVAL)
				fail_msg("%s was taken", cases[i].text);
			assert_int_equal(a.port, 99);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(a.family, cases[i].family);
		assert_int_equal(a.port, 0);
		assert_string_equal(addr_format_ip(&a, out, sizeof(out)), cases[i].ip);
	}
}

static void test_parse_endpoint(void **state)
{
	static const struct {
		const char *text, *shown; /* NULL: refused */
	} cases[] = {
		{"192.0.2.1:80", "192.0.2.1:80"},
		{"192.0.2.1:0", "192.0.2.1:0"},
		{"[2001:db8::1]:65535", "[2001:db8::1]:65535"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
		{"", NULL},
		{":", NULL},
		{":80", NULL},
		{"192.0.2.1", NULL},
		{"192.0.2.1:", NULL},
		{"192.0.2.1:65536", NULL},
		{"192.0.2.1:-1", NULL},
		{"192.0.2.1:8x", NULL},
		{"192.0.2.1:80:80", NULL},
		{"::1:80", NULL},
		{"[::1]", NULL},
		{"[::1]80", NULL},
		{"[::1:80", NULL},
		{"localhost:80", NULL},
		{"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:80", NULL},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr a;
		char out[ADDR_TEXT_MAX];
		int r = addr_parse_endpoint(&a, cases[i].text);

		assert_int_equal(r, cases[i].shown != NULL ? 0 : -EINVAL);
		if (r == 0)
			assert_string_equal(addr_format(&a, out, sizeof(out)), cases[i].shown);
	}
}

static void test_port(void **state)
{
	static const struct {
		const char *text;
		int port; /* -1: refused */
	} cases[] = {
		{"0", 0},    {"1", 1},      {"65535", 65535}, {"00080", 80}, {"65536", -1},
		{"", -1},    {"-1", -1},    {"+1", -1},       {" 1", -1},    {"1 ", -1},
		{"0x1", -1}, {"99999", -1}, {"000080", -1},   {"1a", -1},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint16_t port = 7;

		assert_int_equal(port_parse(&port, cases[i].text), cases[i].port < 0 ? -EINVAL : 0);
		assert_int_equal(port, cases[i].port < 0 ? 7 : cases[i].port);
	}
}

static void test_sockaddr(void **state)
{
	static const struct {
		const char *text;
		int family;
		socklen_t len;
	} cases[] = {
		{"192.0.2.1:80", AF_INET, sizeof(struct sockaddr_in)},
		{"[2001:db8::1]:443", AF_INET6, sizeof(struct sockaddr_in6)},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sockaddr_storage ss;
		struct addr a, back;

		assert_int_equal(addr_parse_endpoint(&a, cases[i].text), 0);
		assert_int_equal(addr_len(&a), cases[i].family == AF_INET ? 4 : 16);
		a.scope = cases[i].family == AF_INET6 ? 3 : 0;
		assert_int_equal(addr_to_sockaddr(&a, &ss), cases[i].len);
		assert_int_equal(ss.ss_family, cases[i].family);
		back = addr_from_sockaddr((struct sockaddr *)&ss);
		assert_true(addr_equal(&a, &back));
		assert_int_equal(back.scope, a.scope);
	}
}

static void test_sockaddr_mapped(void **state)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	struct sockaddr other = {.sa_family = AF_UNIX};
	struct addr a;
	char out[ADDR_TEXT_MAX];
	(void)state;

	in6.sin6_scope_id = 7;
	in6.sin6_addr.s6_addr[10] = 0xff;
	in6.sin6_addr.s6_addr[11] = 0xff;
	in6.sin6_addr.s6_addr[12] = 10;
	a = addr_from_sockaddr((struct sockaddr *)&in6);
	assert_string_equal(addr_format(&a, out, sizeof(out)), "10.0.0.0:80");
	assert_int_equal(a.scope, 0);
	a = addr_from_sockaddr(&other);
	assert_int_equal(a.family, AF_UNSPEC);
	assert_string_equal(addr_format(&a, out, sizeof(out)), "-");
	assert_string_equal(addr_format_ip(&a, out, sizeof(out)), "-");
}

static void test_format_scope(void **state)
{
	struct addr a;
	char out[ADDR_TEXT_MAX], small[8];
	(void)state;

	assert_int_equal(addr_parse(&a, "fe80::1"), 0);
	a.scope = 2;
	a.port = 80;
	assert_string_equal(addr_format(&a, out, sizeof(out)), "[fe80::1%2]:80");
	assert_string_equal(addr_format(&a, small, sizeof(small)), "[fe80::");
	assert_int_equal(addr_parse(&a, "1111:2222:3333:4444:5555:6666:7777:8888"), 0);
	a.scope = UINT32_MAX;
	a.port = 65535;
	assert_string_equal(addr_format(&a, out, sizeof(out)),
			    "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535");
}

static void test_predicates(void **state)
{
	static const struct {
		const char *text;
		bool any, loopback;
	} cases[] = {
		{"0.0.0.0", true, false},   {"::", true, false},
		{"127.0.0.1", false, true}, {"127.9.9.9", false, true},
		{"::1", false, true},       {"128.0.0.1", false, false},
		{"::2", false, false},      {"::127.0.0.1", false, false},
	};
	struct addr none = {.family = AF_UNSPEC};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr a;

		assert_int_equal(addr_parse(&a, cases[i].text), 0);
		assert_int_equal(addr_is_any(&a), cases[i].any);
		assert_int_equal(addr_is_loopback(&a), cases[i].loopback);
	}
	assert_false(addr_is_any(&none));
	assert_false(addr_is_loopback(&none));
}

static void test_equal(void **state)
{
	struct addr a, b, c, zero4, zero6;
	(void)state;

	assert_int_equal(addr_parse_endpoint(&a, "10.0.0.1:80"), 0);
	assert_int_equal(addr_parse_endpoint(&b, "[::ffff:10.0.0.1]:80"), 0);
	assert_int_equal(addr_parse_endpoint(&c, "10.0.0.1:81"), 0);
	assert_int_equal(addr_parse(&zero4, "0.0.0.0"), 0);
	assert_int_equal(addr_parse(&zero6, "::"), 0);
	assert_true(addr_equal(&a, &b));
	assert_false(addr_equal(&a, &c));
	assert_true(addr_equal_ip(&a, &c));
	assert_false(addr_equal_ip(&zero4, &zero6)); /* the same bytes, another family */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_endpoint),
		cmocka_unit_test(test_port),
		cmocka_unit_test(test_sockaddr),
		cmocka_unit_test(test_sockaddr_mapped),
		cmocka_unit_test(test_format_scope),
		cmocka_unit_test(test_predicates),
		cmocka_unit_test(test_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
