/* SPDX-License-Identifier: MIT */
#include "daemon/core/pipes.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/fds.h"

static void test_reuse(void **state)
{
	unsigned fds = fds_open();
	struct pipe *a, *b;
	struct pipes p;

	(void)state;
	pipes_init(&p, 2);
	a = pipes_get(&p);
	b = pipes_get(&p);
	assert_non_null(a);
	assert_non_null(b);
	assert_true(a->cap >= PIPE_BYTES_MIN);
	assert_null(pipes_get(&p)); /* the limit */
	assert_int_equal(fds_open(), fds + 4);
	pipes_put(&p, a);
	assert_int_equal(p.idle, 1);
	assert_ptr_equal(pipes_get(&p), a);
	pipes_put(&p, a);
	pipes_put(&p, b);
	pipes_put(&p, NULL);
	assert_int_equal(p.live, 0);
	pipes_destroy(&p);
	assert_int_equal(fds_open(), fds);
}

/* Somebody else's bytes must not come out of it. */
static void test_filled_is_not_reused(void **state)
{
	unsigned fds = fds_open();
	struct pipes p;
	struct pipe *a;

	(void)state;
	pipes_init(&p, 1);
	a = pipes_get(&p);
	assert_non_null(a);
	assert_int_equal(write(a->in, "x", 1), 1);
	a->fill = 1;
	pipes_put(&p, a);
	assert_int_equal(p.idle, 0);
	assert_int_equal(fds_open(), fds);
	pipes_destroy(&p);
}

static void test_out_of_descriptors(void **state)
{
	struct rlimit usual, none;
	struct pipes p;
	struct pipe *a, *b;

	(void)state;
	pipes_init(&p, 8);
	a = pipes_get(&p);
	assert_non_null(a);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = usual.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_null(pipes_get(&p));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	assert_null(pipes_get(&p)); /* not tried again while one is out that may come back */
	pipes_put(&p, a);
	a = pipes_get(&p);
	b = pipes_get(&p);
	assert_non_null(b);
	pipes_put(&p, a);
	pipes_put(&p, b);
	pipes_destroy(&p);
}

static void test_limit(void **state)
{
	(void)state;
	assert_true(pipes_limit() > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_filled_is_not_reused),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
