/* SPDX-License-Identifier: MIT */
#include "daemon/core/texts.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static void each_goes_back_to_where_it_came_from(void **state)
{
	static const size_t lengths[] = {0, 1, TEXTS_SHORT - 1, TEXTS_SHORT, TEXTS_LONG - 1};
	char text[TEXTS_LONG], *kept[ARRAY_LEN(lengths)];
	struct texts t;

	(void)state;
	texts_init(&t);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		memset(text, 'a' + (int)i, lengths[i]);
		text[lengths[i]] = '\0';
		kept[i] = texts_keep(&t, text);
		assert_non_null(kept[i]);
	}
	assert_int_equal(t.small.live, 3);
	assert_int_equal(t.large.live, 2);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		assert_int_equal(strlen(kept[i]), lengths[i]);
		assert_true(lengths[i] == 0 || kept[i][lengths[i] - 1] == 'a' + (int)i);
		texts_drop(&t, kept[i]);
	}
	assert_int_equal(t.small.live, 0);
	assert_int_equal(t.large.live, 0);
	texts_destroy(&t);
}

static void null_may_be_dropped(void **state)
{
	struct texts t;

	(void)state;
	texts_init(&t);
	texts_drop(&t, NULL);
	texts_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_goes_back_to_where_it_came_from),
		cmocka_unit_test(null_may_be_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
