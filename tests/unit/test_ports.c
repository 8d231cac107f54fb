/* SPDX-License-Identifier: MIT */
#include "rulemgr/ports.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "rulemgr/want.h"
#include "tests/unit/wants.h"

static struct redirect options;

/* The text is what the list of `comment` becomes for one that replaces it with port 1081. */
static const struct {
	const char *comment; /* of a table whose rules redirect to 1082 */
	uint16_t ports[MODEL_PORTS_MAX];
	size_t n;
	const char *text;
} cases[] = {
	{"mine", {1082}, 1, "mine, earlier ports 1082"},
	{"mine, earlier ports 1 2", {1082, 1, 2}, 3, "mine, earlier ports 1082 1 2"},
	{"mine, earlier ports 1082 1", {1082, 1}, 2, "mine, earlier ports 1082 1"},
	{"mine, earlier ports 1 2 3 4 5 6 7 8 9",
	 {1082, 1, 2, 3, 4, 5, 6, 7},
	 8,
	 "mine, earlier ports 1082 1 2 3 4 5 6 7"},
	{"mine, earlier ports 1081 5", {1082, 1081, 5}, 3, "mine, earlier ports 1082 5"},
	{"mine, earlier ports x 1", {1082}, 1, "mine, earlier ports 1082"},
	{"mine, earlier ports 70000 1", {1082}, 1, "mine, earlier ports 1082"},
};

static void test_one_after_another(void **state)
{
	struct want w = want_default(&options);
	struct model m, next;

	(void)state;
	assert_int_equal(want_build(&w, &next), 0);
	w.port = 1082;
	assert_int_equal(want_build(&w, &m), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ports p;

		strcpy(m.comment, cases[i].comment);
		p = ports_of(&m);
		assert_int_equal(p.n, cases[i].n);
		assert_memory_equal(p.list, cases[i].ports, p.n * sizeof(p.list[0]));
		strcpy(next.comment, "mine, earlier ports 99");
		ports_remember(&next, &p);
		assert_string_equal(next.comment, cases[i].text);
	}
	model_free(&m);
	model_free(&next);
}

/* Half a number would be another port. */
static void test_full(void **state)
{
	struct ports p = {.list = {11111, 22222}, .n = 2};
	struct model m = {.comment = ""};

	(void)state;
	memset(m.comment, 'x', MODEL_COMMENT_MAX - 1 - strlen(", earlier ports 11111 2222"));
	ports_remember(&m, &p);
	assert_string_equal(strchr(m.comment, ','), ", earlier ports 11111");
	memset(m.comment, 'x', MODEL_COMMENT_MAX - 1);
	ports_remember(&m, &p);
	assert_int_equal(strspn(m.comment, "x"), MODEL_COMMENT_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_after_another),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
