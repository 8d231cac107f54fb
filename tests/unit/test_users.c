/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "policy/users.h"

/* clang-format off */
#define SHA512   "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
#define YESCRYPT "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
#define BCRYPT   "$2b$05$abcdefghijklmnopqrstuu5Cw5dnnAHfOgKGmrGMBKVQpbNYWpTjG"
/* clang-format on */

static struct users *parse(const char *text)
{
	struct users *u = NULL;
	struct diag d;

	assert_int_equal(users_parse(text, strlen(text), "users", &u, &d), 0);
	return u;
}

static void test_find(void **state)
{
	struct users *u = parse("# those of the office\n\nbob:" SHA512 "\nalice:" YESCRYPT
				"\nbo:" BCRYPT "\nJ\xc3\xbcrgen K.:" SHA512);

	(void)state;
	assert_int_equal(u->n, 4);
	assert_string_equal(users_find(u, "bob", 3)->hash, SHA512);
	assert_string_equal(users_find(u, "alice", 5)->hash, YESCRYPT);
	assert_string_equal(users_find(u, "bo", 2)->hash, BCRYPT);
	assert_string_equal(users_find(u, "bobby", 3)->hash, SHA512);
	assert_non_null(users_find(u, "J\xc3\xbcrgen K.", 10));
	assert_null(users_find(u, "", 0));
	assert_null(users_find(u, "b", 1));
	assert_null(users_find(u, "bobb", 4));
	assert_null(users_find(u, "BOB", 3));
	assert_null(users_find(u, "bob\0x", 5));
	assert_null(users_find(u, "bob\0", 4));
	assert_null(users_find(u, "# those of the office", 21));
	for (uint64_t i = 0; i < 9; i++)
		assert_ptr_equal(users_any(u, i), &u->items[i % 4]);
	users_free(u);
	users_free(NULL);
}

static void test_every_one_of_many(void **state)
{
	char text[200 * 128], name[16];
	struct users *u;
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 200; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "u%d:%s\n", i * 7919 % 200,
				      YESCRYPT);
	u = parse(text);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "u%d", i);
		assert_string_equal(users_find(u, name, strlen(name))->name, name);
	}
	assert_null(users_find(u, "u200", 4));
	users_free(u);
}

static void test_errors(void **state)
{
	static const struct {
		const char *text, *error;
		size_t n;
		int line;
	} cases[] = {
#define CASE(text, line, error) {text, error, sizeof(text) - 1, line}
		CASE("", 0, "has no user, so that nobody could log in"),
		CASE("# bob\n\n", 0, "has no user, so that nobody could log in"),
		CASE("\nbob\n", 2, "wanted is a line \"user:hash\""),
		CASE(":" SHA512, 1, "the user name is empty"),
		CASE("bob:" SHA512 "\r\n", 1,
		     "contains a control byte (a line end of another system?)"),
		CASE("bob:" SHA512 "\n\0\n", 2, "contains a NUL byte"),
		CASE("bob:" SHA512 ":19000:0:99999", 1,
		     "something follows the hash: wanted is a line \"user:hash\""),
		CASE("bob:" SHA512 "\nalice:" SHA512 "\nbob:" SHA512, 0,
		     "the user \"bob\" is there twice"),
#define NO_HASH                                                                        \
	"what stands behind the user is no hash of crypt(5): make one with `mkpasswd " \
	"-m yescrypt`"
		CASE("bob:", 1, NO_HASH),
		CASE("bob:s3cret", 1, NO_HASH),
		CASE("bob:abJnggxhB/yWI", 1, NO_HASH), /* DES */
		CASE("bob:!" SHA512, 1, NO_HASH),
		CASE("bob:*", 1, NO_HASH),
		CASE("bob:$9$x$y", 1, NO_HASH),
		CASE("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", 1, NO_HASH),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct users *u = NULL;
		struct diag d;

		print_message("case: %s\n", cases[i].text);
		assert_int_equal(users_parse(cases[i].text, cases[i].n, "users", &u, &d), -EINVAL);
		assert_string_equal(d.text, cases[i].error);
		assert_int_equal(d.line, cases[i].line);
	}
}

static void test_long_lines(void **state)
{
	char text[1024];
	struct users *u = NULL;
	struct diag d;
	int n;

	(void)state;
	for (int len = 255; len <= 256; len++) {
		memset(text, 'u', (size_t)len);
		n = snprintf(text + len, sizeof(text) - (size_t)len, ":%s\n", YESCRYPT);
		assert_int_equal(users_parse(text, (size_t)(len + n), "users", &u, &d),
				 len == 255 ? 0 : -EINVAL);
		if (len == 255)
			users_free(u);
	}
	n = snprintf(text, sizeof(text), "bob:$6$%0400d$x", 0);
	assert_int_equal(users_parse(text, (size_t)n, "users", &u, &d), -EINVAL);
	assert_string_equal(d.text, "the hash is too long");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_every_one_of_many),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
