/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/flow/clients.h"

static struct addr address(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	return a;
}

static void start(struct clients *c, size_t max)
{
	struct diag d;

	assert_int_equal(clients_init(c, max, 64, &d), 0);
}

static void test_limit(void **state)
{
	struct addr a = address("192.0.2.1"), b = address("2001:db8::1");
	struct clients c;

	(void)state;
	start(&c, 100);
	assert_null(c.buckets); /* nothing is there before it is used */
	for (int i = 0; i < 3; i++) {
		a.port = (uint16_t)(1000 + i);
		assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 3), 0);
	}
	assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 3), -EDQUOT);
	assert_int_equal(clients_take(&c, &b, CLIENT_FLOWS, 3), 0);
	assert_int_equal(c.n, 2);
	clients_put(&c, &a, CLIENT_FLOWS);
	assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 3), 0);
	/* The limit is that of the moment. */
	assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 2), -EDQUOT);
	assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 4), 0);
	for (int i = 0; i < 4; i++)
		clients_put(&c, &a, CLIENT_FLOWS);
	assert_int_equal(c.n, 1);
	clients_put(&c, &b, CLIENT_FLOWS);
	assert_int_equal(c.n, 0);
	clients_destroy(&c);
}

/* The same bytes in both families are two clients. */
static void test_families(void **state)
{
	struct addr v4 = address("32.1.13.184"), v6 = address("2001:db8::");
	struct clients c;

	(void)state;
	assert_memory_equal(v4.ip, v6.ip, sizeof(v4.ip));
	start(&c, 1);
	assert_int_equal(clients_take(&c, &v4, CLIENT_FLOWS, 1), 0);
	assert_int_equal(clients_take(&c, &v6, CLIENT_FLOWS, 1), 0);
	assert_int_equal(clients_take(&c, &v6, CLIENT_FLOWS, 1), -EDQUOT);
	clients_put(&c, &v4, CLIENT_FLOWS);
	assert_int_equal(clients_take(&c, &v6, CLIENT_FLOWS, 1), -EDQUOT);
	clients_put(&c, &v6, CLIENT_FLOWS);
	clients_destroy(&c);
}

/* The counts of a client have nothing to do with each other; the entry goes with the last of them. */
static void test_counts(void **state)
{
	struct addr a = address("192.0.2.1"), b = address("192.0.2.2");
	struct clients c;

	(void)state;
	start(&c, 4);
	assert_false(clients_full(&c, &a, CLIENT_SLOW, 1)); /* no table yet */
	for (unsigned what = 0; what < CLIENT_COUNTS; what++) {
		assert_int_equal(clients_take(&c, &a, what, 1), 0);
		assert_true(clients_full(&c, &a, what, 1));
		assert_false(clients_full(&c, &a, what, 2));
		assert_false(clients_full(&c, &b, what, 1));
		for (unsigned other = what + 1; other < CLIENT_COUNTS; other++)
			assert_false(clients_full(&c, &a, other, 1));
		assert_int_equal(clients_take(&c, &a, what, 1), -EDQUOT);
	}
	for (unsigned what = 0; what < CLIENT_COUNTS; what++) {
		assert_int_equal(c.n, 1);
		clients_put(&c, &a, what);
		assert_false(clients_full(&c, &a, what, 1));
	}
	assert_int_equal(c.n, 0);
	clients_destroy(&c);
}

/* Of IPv6, whoever has the same first bits is the same client. */
static void test_ipv6_bits(void **state)
{
	static const struct {
		unsigned bits;
		const char *one, *same, *other;
	} cases[] = {
		{64, "2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1"},
		{128, "2001:db8::1", "2001:db8::1", "2001:db8::2"},
		{127, "2001:db8::2", "2001:db8::3", "2001:db8::1"},
		{56, "2001:db8::1", "2001:db8:0:ff::", "2001:db8:0:100::"},
		{49, "2001:db8::1", "2001:db8:0:7fff::", "2001:db8:0:8000::"},
		{16, "2001:db8::1", "2001:ffff::1", "2002:db8::1"},
		{16, "192.0.2.1", "192.0.2.1", "192.0.2.2"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr one = address(cases[i].one), same = address(cases[i].same),
			    other = address(cases[i].other), of;
		struct clients c;
		struct diag d;

		assert_int_equal(clients_init(&c, 1, cases[i].bits, &d), 0);
		one.port = 1;
		assert_int_equal(clients_take(&c, &one, CLIENT_FLOWS, 1), 0);
		assert_int_equal(clients_take(&c, &same, CLIENT_FLOWS, 1), -EDQUOT);
		assert_int_equal(clients_take(&c, &other, CLIENT_FLOWS, 1), 0);
		of = clients_of(&c, &one);
		assert_int_equal(of.port, 0);
		same = clients_of(&c, &same);
		assert_true(addr_equal(&of, &same));
		clients_put(&c, &same, CLIENT_FLOWS);
		clients_put(&c, &other, CLIENT_FLOWS);
		assert_int_equal(c.n, 0);
		clients_destroy(&c);
	}
}

/* More addresses than buckets, taken and given back in different orders: chains hold and entries go. */
static void test_many(void **state)
{
	enum { N = 1000 };
	struct clients c;
	uint8_t ip[4] = {10, 0, 0, 0};

	(void)state;
	start(&c, 16);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i++) {
			struct addr a;

			ip[2] = (uint8_t)(i >> 8);
			ip[3] = (uint8_t)i;
			a = addr_from_bytes(ip, 4, 1);
			assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 2), 0);
		}
		assert_int_equal(c.n, N);
	}
	for (int i = 0; i < 2 * N; i++) {
		int k = (i * 7) % N; /* 7 and N share no factor: each twice */
		struct addr a;

		ip[2] = (uint8_t)(k >> 8);
		ip[3] = (uint8_t)k;
		a = addr_from_bytes(ip, 4, 2);
		if (i < N)
			assert_int_equal(clients_take(&c, &a, CLIENT_FLOWS, 2), -EDQUOT);
		clients_put(&c, &a, CLIENT_FLOWS);
	}
	assert_int_equal(c.n, 0);
	clients_destroy(&c);
}

struct racer {
	struct clients *c;
	unsigned most;
};

static unsigned at_once; /* flows of the one client, as the table grants them */

static void *race(void *arg)
{
	struct racer *r = arg;
	struct addr a = address("192.0.2.1");

	for (int i = 0; i < 20000; i++) {
		if (clients_take(r->c, &a, CLIENT_FLOWS, 2) == 0) {
			unsigned n = __atomic_add_fetch(&at_once, 1, __ATOMIC_SEQ_CST);

			if (n > r->most)
				r->most = n;
			__atomic_sub_fetch(&at_once, 1, __ATOMIC_SEQ_CST);
			clients_put(r->c, &a, CLIENT_FLOWS);
		}
	}
	return NULL;
}

/* Four threads on one address: never more at once than the limit. */
static void test_threads(void **state)
{
	struct clients c;
	struct racer racers[4];
	pthread_t threads[4];
	unsigned most = 0;

	(void)state;
	start(&c, 8);
	for (int i = 0; i < 4; i++) {
		racers[i] = (struct racer){.c = &c};
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_in_range(racers[i].most, 0, 2); /* one may have come too late each time */
		most = racers[i].most > most ? racers[i].most : most;
	}
	assert_in_range(most, 1, 2);
	assert_int_equal(c.n, 0);
	clients_destroy(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),  cmocka_unit_test(test_families),
		cmocka_unit_test(test_counts), cmocka_unit_test(test_ipv6_bits),
		cmocka_unit_test(test_many),   cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
