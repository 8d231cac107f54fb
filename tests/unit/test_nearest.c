/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/defs.h"
#include "policy/nearest.h"

static void test_nearest(void **state)
{
	static const char *const names[] = {"listen",    "proxy_url", "timeouts.connect",
					    "log.level", "user",      NULL};
	static const struct {
		const char *word, *nearest;
	} cases[] = {
		{"prox_url", "proxy_url"},
		{"proxyurl", "proxy_url"},
		{"PROXY_URL", "proxy_url"},
		{"listne", "listen"},
		{"timeout.connect", "timeouts.connect"},
		{"log.levle", "log.level"},
		{"usr", "user"},
		{"user", "user"},
		{"", NULL},
		{"zzz", NULL},
		{"completely_different", NULL},
	};
	static const char *const none[] = {NULL};
	char huge[100000];
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *found = nearest_word(cases[i].word, names);

		if (cases[i].nearest == NULL)
			assert_null(found);
		else
			assert_string_equal(found != NULL ? found : "(none)", cases[i].nearest);
	}
	assert_null(nearest_word("user", none));
	memset(huge, 'u', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = '\0';
	assert_null(nearest_word(huge, names));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_nearest)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
