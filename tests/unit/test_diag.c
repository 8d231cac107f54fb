/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/diag.h"

static void test_format(void **state)
{
	static const struct {
		const char *file;
		int line;
		const char *text;
	} cases[] = {
		{"a.toml", 3, "a.toml:3: no 7"},
		{"a.toml", 0, "a.toml: no 7"},
		{"", 3, "no 7"},
		{NULL, 0, "no 7"},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct diag d;
		char out[64];

		assert_int_equal(diag_set(&d, ENOENT, cases[i].file, cases[i].line, "no %d", 7),
				 -ENOENT);
		assert_ptr_equal(diag_format(&d, out, sizeof(out)), out);
		assert_string_equal(out, cases[i].text);
	}
}

static void test_cut(void **state)
{
	char huge[2000], out[16];
	struct diag d;
	(void)state;

	memset(huge, 'x', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = '\0';
	assert_int_equal(diag_set(&d, EINVAL, huge, 1, "%s", huge), -EINVAL);
	assert_int_equal(strlen(d.file), sizeof(d.file) - 1);
	assert_int_equal(strlen(d.text), sizeof(d.text) - 1);
	diag_format(&d, out, sizeof(out));
	assert_string_equal(out, "xxxxxxxxxxxxxxx");
}

static void test_nobody_listens(void **state)
{
	(void)state;

	assert_int_equal(diag_set(NULL, EPERM, "f", 1, "x"), -EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
