/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "daemon/flow/rest.h"

static struct pool pool;
static struct buf buf;

static void fill(size_t off, size_t n)
{
	memset(buf.data, 0, sizeof(buf.data));
	buf.off = (uint32_t)off;
	buf.len = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		buf_head(&buf)[i] = (uint8_t)(i + 1);
}

static bool is_wiped(void)
{
	for (size_t i = 0; i < sizeof(buf.data); i++) {
		if (buf.data[i] != 0)
			return false;
	}
	return true;
}

/* What goes in comes out, at the beginning of the buffer, and nothing of it stays behind. */
static void test_there_and_back(void **state)
{
	static const size_t lens[] = {1, 2, 255, REST_MAX - 1, REST_MAX};
	struct rest *rest = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		fill(7 * i, lens[i]);
		assert_true(rest_keep(&pool, &rest, &buf));
		assert_int_equal(buf.len + buf.off, 0);
		assert_true(is_wiped());
		assert_int_equal(pool.live, 1);
		rest_take(&pool, &rest, &buf);
		assert_null(rest);
		assert_int_equal(pool.live, 0);
		assert_int_equal(buf.off, 0);
		assert_int_equal(buf.len, lens[i]);
		for (size_t k = 0; k < lens[i]; k++)
			assert_int_equal(buf.data[k], (uint8_t)(k + 1));
	}
}

static void test_too_much(void **state)
{
	struct rest *rest = NULL;

	(void)state;
	fill(3, REST_MAX + 1);
	assert_false(rest_keep(&pool, &rest, &buf));
	assert_null(rest);
	assert_int_equal(buf.off, 3);
	assert_int_equal(buf.len, REST_MAX + 1);
	assert_int_equal(buf_head(&buf)[REST_MAX], (uint8_t)(REST_MAX + 1));
	assert_int_equal(pool.live, 0);
}

static void test_dropped(void **state)
{
	struct rest *rest = NULL;

	(void)state;
	rest_drop(&pool, &rest);
	fill(0, 0);
	rest_take(&pool, &rest, &buf); /* there is none */
	assert_int_equal(buf.len, 0);
	fill(0, 10);
	assert_true(rest_keep(&pool, &rest, &buf));
	rest_drop(&pool, &rest);
	assert_null(rest);
	assert_int_equal(pool.live, 0);
}

static int start(void **state)
{
	(void)state;
	pool_init(&pool, sizeof(struct rest));
	return 0;
}

static int end(void **state)
{
	(void)state;
	pool_destroy(&pool);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_dropped),
	};

	return cmocka_run_group_tests(tests, start, end);
}
