/* SPDX-License-Identifier: MIT */
#include "rulemgr/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_neighbour_of(void **state)
{
	static const struct {
		const char *own, *mask, *neighbour; /* NULL: none */
	} rows[] = {
		{"10.0.0.1", "255.255.255.0", "10.0.0.2"},
		{"10.0.0.254", "255.255.255.0", "10.0.0.253"},
		{"10.0.0.255", "255.255.0.0", "10.0.1.0"},
		{"10.0.255.254", "255.255.0.0", "10.0.255.253"},
		{"10.0.0.1", "255.255.255.252", "10.0.0.2"},
		{"10.0.0.2", "255.255.255.252", "10.0.0.1"},
		{"10.0.0.4", "255.255.255.254", "10.0.0.5"},
		{"10.0.0.5", "255.255.255.254", "10.0.0.4"},
		{"10.0.0.5", "255.255.255.255", NULL},
		{"2001:db8::1", "ffff:ffff:ffff:ffff::", "2001:db8::2"},
		{"2001:db8::7", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "2001:db8::6"},
		{"2001:db8::7", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr own, mask, found;
		char text[ADDR_TEXT_MAX];

		assert_int_equal(addr_parse(&own, rows[i].own), 0);
		assert_int_equal(addr_parse(&mask, rows[i].mask), 0);
		assert_int_equal(neighbour_of(&own, &mask, &found), rows[i].neighbour != NULL);
		if (rows[i].neighbour != NULL)
			assert_string_equal(addr_format_ip(&found, text, sizeof(text)),
					    rows[i].neighbour);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neighbour_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
