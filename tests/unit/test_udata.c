/* SPDX-License-Identifier: MIT */
#include "rulemgr/udata.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void test_bytes(void **state)
{
	static const uint8_t expected[] = {7, 3, 'h', 'i', 0, 2, 4};
	struct udata u = {.len = 0};
	uint32_t one = 1;

	(void)state;
	assert_int_equal(udata_put_string(&u, 7, "hi"), 0);
	assert_int_equal(udata_put_u32(&u, 2, one), 0);
	assert_int_equal(u.len, 11);
	assert_memory_equal(u.bytes, expected, sizeof(expected));
	assert_memory_equal(u.bytes + sizeof(expected), &one, sizeof(one));
}

/* Several puts share the room: the last that fits does, the first that does not changes nothing. */
static void test_bound(void **state)
{
	struct udata u = {.len = 0};
	uint8_t value[UDATA_MAX] = {0};

	(void)state;
	assert_int_equal(udata_put(&u, 1, value, 126), 0);
	assert_int_equal(udata_put(&u, 2, value, 127), -ENOSPC);
	assert_int_equal(u.len, 128);
	assert_int_equal(udata_put(&u, 2, value, 126), 0);
	assert_int_equal(u.len, UDATA_MAX);
	assert_int_equal(udata_put(&u, 3, value, 0), -ENOSPC);
	assert_int_equal(u.len, UDATA_MAX);
}

static void test_one_value_is_bounded(void **state)
{
	uint8_t value[300] = {0};

	(void)state;
	for (size_t n = 250; n < sizeof(value); n++) {
		struct udata u = {.len = 0};

		assert_int_equal(udata_put(&u, 1, value, n), n <= UDATA_MAX - 2 ? 0 : -ENOSPC);
	}
}

static void test_find(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		uint8_t type;
		const char *found;
	} cases[] = {
		{"\x00\x03hi\x00", 5, 0, "hi"},
		{"\x01\x04"
		 "abcd\x00\x03hi\x00",
		 11, 0, "hi"},
		{"\x00\x03hi\x00", 5, 1, NULL},
		{"\x00\x01\x00", 3, 0, ""},
		{"\x00\x00", 2, 0, NULL},           /* no room for a NUL */
		{"\x00\x02hi", 4, 0, NULL},         /* no NUL */
		{"\x00\x04hi\x00", 5, 0, NULL},     /* longer than what is there */
		{"\x01\xff\x00\x03hi", 6, 0, NULL}, /* the one before it is */
		{"\x00", 1, 0, NULL},
		{"", 0, 0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *copy = test_malloc(cases[i].n + 1); /* so that a byte too far is seen */
		const char *found;

		memcpy(copy + 1, cases[i].bytes, cases[i].n);
		found = udata_find_string(copy + 1, cases[i].n, cases[i].type);
		if (cases[i].found == NULL)
			assert_null(found);
		else
			assert_string_equal(found, cases[i].found);
		test_free(copy);
	}
}

static void test_find_number(void **state)
{
	struct udata u = {.len = 0};

	(void)state;
	assert_int_equal(udata_put_string(&u, 0, "hi"), 0);
	assert_int_equal(udata_put_u32(&u, 1, 77), 0);
	assert_int_equal(udata_find_u32(u.bytes, u.len, 1), 77);
	assert_int_equal(udata_find_u32(u.bytes, u.len - 1, 1), 0); /* not whole */
	assert_int_equal(udata_find_u32(u.bytes, u.len, 0), 0);     /* not of that length */
	assert_int_equal(udata_find_u32(u.bytes, u.len, 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_one_value_is_bounded),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_find_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
