/* SPDX-License-Identifier: MIT */
#include "daemon/core/pool.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

static void objects_are_apart_and_aligned(void **state)
{
	static const size_t sizes[] = {1, 8, 24, 100, 4096, 65536, 200000};
	unsigned char *objs[100];

	(void)state;
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		struct pool p;

		pool_init(&p, sizes[s]);
		assert_true(p.size >= sizes[s]);
		for (size_t i = 0; i < ARRAY_LEN(objs); i++) {
			objs[i] = pool_get(&p);
			assert_non_null(objs[i]);
			assert_int_equal((uintptr_t)objs[i] % 16, 0);
			memset(objs[i], (int)i, sizes[s]);
		}
		assert_int_equal(p.live, ARRAY_LEN(objs));
		for (size_t i = 0; i < ARRAY_LEN(objs); i++) {
			assert_int_equal(objs[i][0], i);
			assert_int_equal(objs[i][sizes[s] - 1], i);
			pool_put(&p, objs[i]);
		}
		assert_int_equal(p.live, 0);
		pool_destroy(&p);
	}
}

static void null_may_be_put(void **state)
{
	struct pool p;

	(void)state;
	pool_init(&p, 32);
	pool_put(&p, NULL);
	assert_int_equal(p.live, 0);
	pool_destroy(&p);
}

#ifdef POOL_DEBUG

static void debug_objects_are_filled(void **state)
{
	struct pool p;
	unsigned char *obj;

	(void)state;
	pool_init(&p, 40);
	obj = pool_get(&p);
	assert_non_null(obj);
	for (size_t i = 0; i < 40; i++)
		assert_int_equal(obj[i], 0xa5);
	pool_put(&p, obj);
	pool_destroy(&p);
}

#else

static void last_in_is_first_out(void **state)
{
	struct pool p;
	void *a, *b;

	(void)state;
	pool_init(&p, 64);
	a = pool_get(&p);
	b = pool_get(&p);
	pool_put(&p, a);
	pool_put(&p, b);
	assert_int_equal(p.idle, 2);
	assert_ptr_equal(pool_get(&p), b);
	assert_ptr_equal(pool_get(&p), a);
	assert_int_equal(p.idle, 0);
	pool_put(&p, a);
	pool_put(&p, b);
	pool_destroy(&p);
}

/* The pages of an object that nobody asked for must not be in memory. */
static void untouched_objects_cost_nothing(void **state)
{
	const size_t size = 65536;
	unsigned char resident[16];
	struct pool p;
	char *obj, *next_page;

	(void)state;
	pool_init(&p, size);
	obj = pool_get(&p);
	assert_non_null(obj);
	obj[0] = 1;
	next_page = (char *)(((uintptr_t)obj + size + 8191) & ~(uintptr_t)4095);
	assert_int_equal(mincore(next_page, sizeof(resident) * 4096, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		assert_int_equal(resident[i] & 1, 0);
	pool_put(&p, obj);
	pool_destroy(&p);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_apart_and_aligned),
		cmocka_unit_test(null_may_be_put),
#ifdef POOL_DEBUG
		cmocka_unit_test(debug_objects_are_filled),
#else
		cmocka_unit_test(last_in_is_first_out),
		cmocka_unit_test(untouched_objects_cost_nothing),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
