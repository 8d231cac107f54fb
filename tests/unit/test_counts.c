/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/flow/session.h"

/* A flow in a worker that has nothing else; the time is 1000 ms after the flow has come. */
static struct world {
	struct engine engine;
	struct inbound inbound;
	struct setup setup;
	struct session session;
} world;

static int answer(struct session *s, enum why why, int err)
{
	(void)s, (void)why, (void)err;
	return 0;
}

static struct session *begin(bool socks)
{
	memset(&world, 0, sizeof(world));
	world.inbound.answer = socks ? answer : NULL;
	world.engine.inbound = &world.inbound;
	world.engine.loop.now_ms = 6000;
	world.session.engine = &world.engine;
	world.session.setup = &world.setup;
	world.session.start_ms = 5000;
	return &world.session;
}

static uint64_t count_of(const struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(h->counts); i++)
		n += h->counts[i];
	return n;
}

static uint64_t connections(void)
{
	uint64_t n = 0;

	for (size_t v = 0; v < COUNTS_VERSIONS; v++)
		for (size_t i = 0; i < COUNTS_STATUSES; i++)
			n += world.engine.counts.connections[v][i];
	return n;
}

/* What failed is one of connections_total, in the words of the Go program. */
static void test_failures(void **state)
{
	static const struct {
		enum why why;
		int err;
		uint8_t version, reply;
		enum counts_version counted;
		enum counts_status status;
	} cases[] = {
		{WHY_REQUEST_BAD, 0, 0, 0, COUNTS_UNKNOWN, COUNTS_UNKNOWN_VERSION},
		{WHY_REQUEST_BAD, 0, 4, 0, COUNTS_SOCKS4, COUNTS_INVALID},
		{WHY_REQUEST_BAD, 0, 5, 0, COUNTS_SOCKS5, COUNTS_INVALID},
		{WHY_REQUEST_BAD, 0, 5, SOCKS5_GENERAL_FAILURE, COUNTS_SOCKS5, COUNTS_INVALID},
		{WHY_REQUEST_BAD, 0, 5, SOCKS5_BAD_COMMAND, COUNTS_SOCKS5, COUNTS_COMMAND},
		{WHY_REQUEST_BAD, 0, 5, SOCKS5_BAD_ADDRESS_TYPE, COUNTS_SOCKS5, COUNTS_ADDRESS},
		{WHY_AUTH_FAILED, 0, 5, 0, COUNTS_SOCKS5, COUNTS_AUTH},
		{WHY_AUTH_FAILED, 0, 4, 0, COUNTS_SOCKS4, COUNTS_AUTH},
		{WHY_CLIENT_REFUSED, 0, 0, 0, COUNTS_UNKNOWN, COUNTS_NOT_ALLOWED},
		{WHY_CLIENT_LIMIT, 0, 5, 0, COUNTS_SOCKS5, COUNTS_NOT_ALLOWED},
		{WHY_SITE_REFUSED, 0, 5, 0, COUNTS_SOCKS5, COUNTS_NOT_ALLOWED},
		{WHY_SITE_REFUSED, 0, 4, 0, COUNTS_SOCKS4, COUNTS_REJECTED},
		{WHY_RESOLVE_FAILED, 0, 5, 0, COUNTS_SOCKS5, COUNTS_HOST},
		{WHY_CONNECT_FAILED, ECONNREFUSED, 5, 0, COUNTS_SOCKS5, COUNTS_REFUSED},
		{WHY_CONNECT_FAILED, ENETUNREACH, 5, 0, COUNTS_SOCKS5, COUNTS_NETWORK},
		{WHY_CONNECT_FAILED, EHOSTUNREACH, 5, 0, COUNTS_SOCKS5, COUNTS_HOST},
		{WHY_CONNECT_FAILED, ECONNRESET, 5, 0, COUNTS_SOCKS5, COUNTS_FAILURE},
		{WHY_CONNECT_FAILED, ECONNREFUSED, 4, 0, COUNTS_SOCKS4, COUNTS_REJECTED},
		{WHY_CONNECT_TIMEOUT, ETIMEDOUT, 5, 0, COUNTS_SOCKS5, COUNTS_TTL},
		{WHY_REQUEST_TIMEOUT, ETIMEDOUT, 5, 0, COUNTS_SOCKS5, COUNTS_TIMEOUT},
		{WHY_CLIENT_GONE, 0, 0, 0, COUNTS_UNKNOWN, COUNTS_CLIENT_GONE},
		{WHY_NO_MEMORY, ENOMEM, 5, 0, COUNTS_SOCKS5, COUNTS_FAILURE},
		{WHY_CUT, 0, 5, 0, COUNTS_SOCKS5, COUNTS_FAILURE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct session *s = begin(true);

		world.setup.server.version = cases[i].version;
		if (cases[i].version == 5)
			world.setup.server.v5.reply = cases[i].reply;
		counts_ended(s, cases[i].why, cases[i].err);
		assert_int_equal(connections(), 1);
		if (world.engine.counts.connections[cases[i].counted][cases[i].status] != 1)
			fail_msg("case %zu", i);
		assert_int_equal(count_of(&world.engine.counts.lasts_ms[0]), 0);
		assert_int_equal(count_of(&world.engine.counts.lasts_ms[1]), 0);
		assert_int_equal(world.engine.counts.relayed, 0);
	}
}

/* Every reason and every version has some status, and is counted once. */
static void test_all_reasons(void **state)
{
	static const uint8_t versions[] = {0, 4, 5};

	(void)state;
	for (size_t why = 0; why < WHY_COUNT; why++) {
		for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
			struct session *s = begin(true);

			world.setup.server.version = versions[i];
			counts_ended(s, (enum why)why, 0);
			assert_int_equal(connections(), 1);
		}
	}
}

static void test_granted(void **state)
{
	struct counts *c = &world.engine.counts;
	struct session *s = begin(true);

	(void)state;
	world.setup.server.version = 5;
	world.setup.server.v5.by_password = world.setup.server.v5.agreed = true;
	world.setup.server.v5.address = SOCKS5_ADDRESS_NAME;
	s->protocol = SOCKS_PROTOCOL_5;
	s->command = SOCKS5_BIND;
	counts_granted(s);
	s->setup = NULL;
	assert_int_equal(c->requests[SOCKS5_BIND], 1);
	assert_int_equal(c->connections[COUNTS_SOCKS5][COUNTS_GRANTED], 1);
	assert_int_equal(c->auth[true][true], 1);
	assert_int_equal(c->addresses[SOCKS5_ADDRESS_NAME], 1);
	assert_int_equal(c->setup_ms.sum, 1000);
	assert_int_equal(c->relayed, 1);
	world.engine.loop.now_ms += 70;
	s->client.finished = true;
	counts_stream_over(s, COUNTS_UP);
	world.engine.loop.now_ms += 30;
	s->client.nbytes = 5000;
	s->remote.nbytes = 70;
	counts_ended(s, WHY_REMOTE_LOST, ECONNRESET);
	assert_int_equal(connections(), 1);
	assert_int_equal(c->relayed, 0);
	assert_int_equal(c->lasts_ms[1].sum, 100);
	assert_int_equal(count_of(&c->lasts_ms[0]), 0);
	assert_int_equal(c->ways[COUNTS_UP].flow_lasts_ms.sum, 70);
	assert_int_equal(c->ways[COUNTS_DOWN].flow_lasts_ms.sum, 100);
	assert_int_equal(count_of(&c->ways[COUNTS_UP].flow_lasts_ms), 1);
	assert_int_equal(count_of(&c->ways[COUNTS_DOWN].flow_lasts_ms), 1);
	assert_int_equal(c->ways[COUNTS_UP].flow_bytes.sum, 5000);
	assert_int_equal(c->ways[COUNTS_DOWN].flow_bytes.sum, 70);
	assert_int_equal(c->ways[COUNTS_UP].errors, 0);
	assert_int_equal(c->ways[COUNTS_DOWN].errors, 1);
}

static void test_done(void **state)
{
	struct counts *c = &world.engine.counts;
	struct session *s = begin(false);

	(void)state;
	counts_granted(s);
	s->client.finished = s->remote.finished = true;
	counts_ended(s, WHY_DONE, 0);
	assert_int_equal(count_of(&c->lasts_ms[0]), 1);
	assert_int_equal(c->ways[COUNTS_UP].errors + c->ways[COUNTS_DOWN].errors, 0);
	assert_int_equal(connections(), 0); /* transocksd has no clients that speak SOCKS */
}

/* How the handshake went, where it failed. */
static void test_handshakes(void **state)
{
	static const struct {
		bool by_password, agreed;
		enum socks5_address address;
	} cases[] = {
		{false, false, SOCKS5_ADDRESS_UNREAD}, {true, false, SOCKS5_ADDRESS_UNREAD},
		{true, true, SOCKS5_ADDRESS_UNREAD},   {false, true, SOCKS5_ADDRESS_IPV4},
		{false, true, SOCKS5_ADDRESS_IPV6},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct counts *c = &world.engine.counts;
		struct session *s = begin(true);
		uint64_t addresses = 0;

		world.setup.server.version = 5;
		world.setup.server.v5.by_password = cases[i].by_password;
		world.setup.server.v5.agreed = cases[i].agreed;
		world.setup.server.v5.address = cases[i].address;
		counts_ended(s, WHY_CLIENT_GONE, 0);
		assert_int_equal(c->auth[cases[i].by_password][cases[i].agreed], 1);
		for (size_t k = 0; k < SOCKS5_ADDRESSES; k++)
			addresses += c->addresses[k];
		assert_int_equal(addresses, cases[i].agreed);
		assert_int_equal(c->addresses[cases[i].address], cases[i].agreed);
	}
}

static void test_acl(void **state)
{
	struct session *s = begin(true);

	(void)state;
	for (size_t v = 1; v < ACL_VERDICTS; v++) {
		counts_acl(s, (enum acl_verdict)v);
		assert_int_equal(world.engine.counts.acl[v], 1);
		assert_string_not_equal(acl_word((enum acl_verdict)v), "");
		for (size_t k = 0; k < v; k++)
			assert_string_not_equal(acl_word((enum acl_verdict)v),
						acl_word((enum acl_verdict)k));
	}
	s->refused = true;
	counts_acl(s, ACL_CLIENT);
	assert_int_equal(world.engine.counts.acl[ACL_CLIENT], 1);
}

static void test_collect(void **state)
{
	struct counts sum = {.relayed = 5};

	(void)state;
	begin(true);
	histogram_add(&world.engine.counts.ways[COUNTS_DOWN].flow_bytes, &histogram_bytes, 4096);
	world.engine.counts.relayed = 2;
	world.engine.counts.acl[ACL_OWN_ADDRESS] = 3; /* the last one */
	counts_collect(&sum, &world.engine.counts);
	counts_collect(&sum, &world.engine.counts);
	assert_int_equal(sum.relayed, 9);
	assert_int_equal(sum.acl[ACL_OWN_ADDRESS], 6);
	assert_int_equal(sum.ways[COUNTS_DOWN].flow_bytes.counts[1], 2);
	assert_int_equal(sum.ways[COUNTS_DOWN].flow_bytes.sum, 8192);
	assert_int_equal(sum.ways[COUNTS_UP].flow_bytes.sum, 0);
}

static void test_dial(void **state)
{
	(void)state;
	begin(true);
	counts_dial(&world.engine, COUNTS_DIAL_FAILED, 5960);
	assert_int_equal(world.engine.counts.dial_ms[COUNTS_DIAL_FAILED].sum, 40);
	assert_int_equal(count_of(&world.engine.counts.dial_ms[COUNTS_DIAL_CONNECTED]), 0);
	counts_dropped(&world.engine);
	assert_int_equal(world.engine.counts.connections[COUNTS_UNKNOWN][COUNTS_FAILURE], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures),   cmocka_unit_test(test_all_reasons),
		cmocka_unit_test(test_granted),    cmocka_unit_test(test_done),
		cmocka_unit_test(test_handshakes), cmocka_unit_test(test_acl),
		cmocka_unit_test(test_dial),       cmocka_unit_test(test_collect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
