/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "daemon/admin/control.h"

static void test_parse(void **state)
{
	static const struct {
		const char *bytes;
		size_t len; /* 0: of the string */
		bool ended;
		enum control_request want;
	} cases[] = {
		{"status\n", 0, false, CONTROL_STATUS},
		{"status\n", 0, true, CONTROL_STATUS},
		{"status text\n", 0, false, CONTROL_STATUS_TEXT},
		{"rules keep\n", 0, false, CONTROL_RULES_KEEP},
		{"rules lend\n", 0, false, CONTROL_RULES_LEND},
		{"rules lend anyway\n", 0, false, CONTROL_RULES_LEND_ANYWAY},
		{"give way\n", 0, false, CONTROL_GIVE_WAY},
		{"give way redirect 1081\n", 0, false, CONTROL_GIVE_WAY},
		{"give way redirect 1081", 0, true, CONTROL_UNKNOWN},
		{"give way a\nb\n", 0, false, CONTROL_UNKNOWN},
		{"rules drop\n", 0, false, CONTROL_RULES_DROP},
		{"rules\n", 0, false, CONTROL_UNKNOWN},
		{"s", 0, false, CONTROL_MORE},
		{"suggest\n", 0, false, CONTROL_SUGGEST},
		{"suggest", 0, false, CONTROL_MORE},
		{"status", 0, false, CONTROL_MORE},
		{"status text", 0, false, CONTROL_MORE},
		{"anything else", 0, false, CONTROL_MORE},
		{"status", 0, true, CONTROL_UNKNOWN},
		{"", 0, true, CONTROL_UNKNOWN},
		{"\n", 0, false, CONTROL_UNKNOWN},
		{"Status\n", 0, false, CONTROL_UNKNOWN},
		{"status\r\n", 0, false, CONTROL_UNKNOWN},
		{"status \n", 0, false, CONTROL_UNKNOWN},
		{" status\n", 0, false, CONTROL_UNKNOWN},
		{"status\nx", 0, false, CONTROL_UNKNOWN},
		{"status\nstatus\n", 0, false, CONTROL_UNKNOWN},
		{"status text\n\n", 0, false, CONTROL_UNKNOWN},
		{"status\0\n", 8, false, CONTROL_UNKNOWN},
		{"\0status\n", 8, false, CONTROL_UNKNOWN},
		{"GET / HTTP/1.1\r\n", 0, false, CONTROL_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t len = cases[i].len > 0 ? cases[i].len : strlen(cases[i].bytes);
		enum control_request got = control_parse(cases[i].bytes, len, cases[i].ended);

		if (got != cases[i].want)
			fail_msg("case %zu: %d, not %d", i, (int)got, (int)cases[i].want);
	}
}

/* Room for a request of 256 bytes, and never an endless wait for more. */
static void test_longest(void **state)
{
	char bytes[CONTROL_REQUEST_MAX];

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(control_parse(bytes, sizeof(bytes) - 1, false), CONTROL_MORE);
	assert_int_equal(control_parse(bytes, sizeof(bytes), false), CONTROL_UNKNOWN);
}

/* Every part of a request but the whole is not yet one. */
static void test_every_split(void **state)
{
	static const char *const lines[] = {"status\n",
					    "status text\n",
					    "rules keep\n",
					    "rules lend\n",
					    "suggest\n",
					    "rules drop\n",
					    "rules lend anyway\n",
					    "give way\n",
					    "give way redirect 1081\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		size_t len = strlen(lines[i]);

		for (size_t n = 0; n < len; n++)
			assert_int_equal(control_parse(lines[i], n, false), CONTROL_MORE);
		assert_in_range(control_parse(lines[i], len, false), CONTROL_STATUS,
				CONTROL_GIVE_WAY);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_every_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
