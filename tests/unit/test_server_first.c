/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/flow/server_first.h"

static struct addr endpoint(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_endpoint(&a, text), 0);
	return a;
}

static void test_learn_and_forget(void **state)
{
	struct addr smtp = endpoint("11.0.0.1:25"), other = endpoint("11.0.0.1:80");
	struct addr same6 = endpoint("[2a00:1::1]:25");
	struct server_first t;

	(void)state;
	assert_int_equal(server_first_init(&t), 0);
	assert_false(server_first_has(&t, &smtp));
	server_first_forget(&t, &smtp);
	server_first_learn(&t, &smtp);
	assert_true(server_first_has(&t, &smtp));
	assert_false(server_first_has(&t, &other));
	assert_false(server_first_has(&t, &same6));
	server_first_forget(&t, &other);
	assert_true(server_first_has(&t, &smtp));
	server_first_forget(&t, &smtp);
	assert_false(server_first_has(&t, &smtp));
	server_first_destroy(&t);
}

/* More destinations than there is room for: the newest are there, and no other was made up. */
static void test_is_bounded(void **state)
{
	struct addr a = endpoint("11.0.0.0:25");
	struct server_first t;
	size_t known = 0;

	(void)state;
	assert_int_equal(server_first_init(&t), 0);
	for (unsigned i = 0; i < 4 * SERVER_FIRST_MAX; i++) {
		a.ip[2] = (uint8_t)(i >> 8);
		a.ip[3] = (uint8_t)i;
		server_first_learn(&t, &a);
		assert_true(server_first_has(&t, &a));
	}
	for (unsigned i = 0; i < 4 * SERVER_FIRST_MAX; i++) {
		a.ip[2] = (uint8_t)(i >> 8);
		a.ip[3] = (uint8_t)i;
		known += server_first_has(&t, &a);
	}
	assert_in_range(known, SERVER_FIRST_MAX / 2, SERVER_FIRST_MAX);
	a.ip[0] = 12;
	assert_false(server_first_has(&t, &a));
	server_first_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_learn_and_forget),
		cmocka_unit_test(test_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
