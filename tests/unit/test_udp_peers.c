/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/flow/udp_peers.h"

static struct addr numbered(unsigned n, uint16_t port)
{
	const uint8_t ip[4] = {11, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

	return addr_from_bytes(ip, sizeof(ip), port);
}

static struct addr parsed(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_endpoint(&a, text), 0);
	return a;
}

static void test_who_was_sent_to(void **state)
{
	static const char *const known[] = {"11.0.0.1:53", "[2a00:1::1]:53", "[b00:1::]:1"};
	static const char *const others[] = {"11.0.0.2:53", "0.0.0.0:53", "[::]:53",
					     "[2a00:1::2]:53", "[b00:1:0:0:1::]:1"};
	struct udp_peers p = {0};
	struct addr a = parsed("11.0.0.1:53");
	(void)state;

	assert_false(udp_peers_have(&p, &a));
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		a = parsed(known[i]);
		udp_peers_add(&p, &a);
	}
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		a = parsed(known[i]);
		a.port = 9; /* does not count */
		assert_true(udp_peers_have(&p, &a));
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		a = parsed(others[i]);
		assert_false(udp_peers_have(&p, &a));
	}
}

/* However many: the last ones are known, and so is who is sent to again and again. */
static void test_bounded(void **state)
{
	struct udp_peers p = {0};
	struct addr always = parsed("11.255.0.1:53"), a;
	unsigned n = 0;
	(void)state;

	for (unsigned i = 0; i < 10000; i++) {
		a = numbered(i, 53);
		udp_peers_add(&p, &a);
		udp_peers_add(&p, &always);
		for (unsigned back = 0; back < UDP_PEER_WAYS - 1 && back <= i; back++) {
			a = numbered(i - back, 1);
			assert_true(udp_peers_have(&p, &a));
		}
	}
	assert_true(udp_peers_have(&p, &always));
	for (unsigned i = 0; i < 10000; i++) {
		a = numbered(i, 53);
		n += udp_peers_have(&p, &a);
	}
	assert_int_equal(n + 1, UDP_PEER_SETS * UDP_PEER_WAYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_was_sent_to),
		cmocka_unit_test(test_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
