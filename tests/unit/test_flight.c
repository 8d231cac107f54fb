/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/flight.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static void test_told(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_STRICT, 0), FLIGHT_STRICT);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_ONE_FLIGHT, 0), FLIGHT_ONE);
	assert_int_equal(f.state, FLIGHT_UNKNOWN);
}

static void test_learns_yes(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 0), FLIGHT_PROBE);
	/* One probe at a time. */
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 0), FLIGHT_STRICT);
	flight_worked(&f);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 0), FLIGHT_ONE);
	/* It worked, and does no more: ask anew. */
	flight_failed(&f, FLIGHT_ONE, 5);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 5), FLIGHT_PROBE);
}

static void test_learns_no(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 100), FLIGHT_PROBE);
	flight_failed(&f, FLIGHT_PROBE, 100);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 101), FLIGHT_STRICT);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 99 + FLIGHT_AGAIN_MS),
			 FLIGHT_STRICT);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 100 + FLIGHT_AGAIN_MS),
			 FLIGHT_PROBE);
}

static void test_forgets(void **state)
{
	struct flight f = {0};

	(void)state;
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 0), FLIGHT_PROBE);
	flight_forget(&f);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 0), FLIGHT_PROBE);
	flight_worked(&f);
	flight_forget(&f);
	assert_int_equal(flight_begin(&f, HANDSHAKE_MODE_AUTO, 0), FLIGHT_ONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_learns_yes),
		cmocka_unit_test(test_learns_no),
		cmocka_unit_test(test_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
