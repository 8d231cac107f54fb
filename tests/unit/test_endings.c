/* SPDX-License-Identifier: MIT */
#include "rulemgr/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

static void test_parse(void **state)
{
	struct endings before, after;

	(void)state;
	assert_int_equal(endings_parse("{\"upstream\":\"direct\",\"ended\":{\"done\":7,"
				       "\"connect-failed\":2}}\n",
				       &before),
			 0);
	assert_true(before.direct);
	assert_int_equal(before.n_rows, 2);
	assert_int_equal(endings_parse("{\"upstream\":\"socks5://h:1\",\"ended\":{\"done\":9,"
				       "\"connect-failed\":1,\"cut\":3}}\n",
				       &after),
			 0);
	assert_false(after.direct);
	assert_int_equal(endings_grown(&before, &after, "done"), 2);
	assert_int_equal(endings_grown(&before, &after, "cut"), 3);
	assert_int_equal(endings_grown(&before, &after, "loop"), 0);
	/* A daemon that has begun anew. */
	assert_int_equal(endings_grown(&before, &after, "connect-failed"), 1);
}

static void test_mistakes(void **state)
{
	static const char *const wrong[] = {
		"",
		"{}\n",
		"{\"error\":\"unknown request\"}\n",
		"{\"ended\":{}}\n",
		"{\"ended\":{\"done\":1",
		"{\"ended\":{\"done\":x}}\n",
		"{\"ended\":{\"a-word-that-is-longer-than-all-of-ours-are\":1}}\n",
	};
	struct endings e;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(endings_parse(wrong[i], &e), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
