/* SPDX-License-Identifier: MIT */
#include "rulemgr/endings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/flow/why.h"

static void test_parse(void **state)
{
	struct endings before, after;

	(void)state;
	assert_int_equal(
		endings_parse("{\"upstreams\":[{\"url\":\"direct://\"}],\"ended\":{\"done\":7,"
			      "\"connect-failed\":2}}\n",
			      &before),
		0);
	assert_true(before.direct);
	assert_int_equal(before.n_rows, 2);
	assert_int_equal(
		endings_parse("{\"upstreams\":[{\"url\":\"socks5://h:1\"}],\"ended\":{\"done\":9,"
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

static void judge(const char *ended, bool direct, const char *words, bool hopeless)
{
	struct endings before = {.n_rows = 0}, after;
	struct endings_verdict v;
	char answer[256];

	snprintf(answer, sizeof(answer), "{\"upstreams\":[{\"url\":\"%s\"}],\"ended\":{%s}}\n",
		 direct ? "direct://" : "socks5://h:1", ended);
	assert_int_equal(endings_parse(answer, &after), 0);
	assert_int_equal(endings_judge(&before, &after, &v), words != NULL);
	if (words == NULL)
		return;
	assert_string_equal(v.words, words);
	assert_int_equal(v.hopeless, hopeless);
	assert_true(!hopeless || v.hint != NULL);
}

static void test_judge(void **state)
{
	(void)state;
	judge("\"done\":3,\"client-lost\":1,\"loop\":0", false, NULL, false);
	judge("\"connect-failed\":1", false, "connect-failed", true);
	judge("\"connect-failed\":1", true, "connect-failed", false);
	judge("\"loop\":1", true, "loop", true);
	judge("\"reply-refused\":1", false, "reply-refused", false);
	/* One of them is ours; which one is not known. */
	judge("\"loop\":1,\"connect-failed\":1", false, "loop or connect-failed", true);
	judge("\"cut\":1,\"connect-failed\":1", false, "connect-failed or cut", false);
}

/* Each is a word of the daemon's, and all that it has fit. */
static void test_words(void **state)
{
	(void)state;
	assert_true(WHY_COUNT <= ENDINGS_MAX);
	for (const struct ending *e = endings_early; e->word != NULL; e++) {
		bool known = false;

		for (size_t i = 0; i < WHY_COUNT; i++)
			known |= strcmp(why_rows[i].word, e->word) == 0;
		assert_true(known);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
