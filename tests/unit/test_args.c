/* SPDX-License-Identifier: MIT */
#include "rulemgr/args.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#define WORDS_MAX 16

/* Parses the words of `line`, cut at blanks. */
static int parse(struct args *a, const char *line, struct diag *d)
{
	static char copy[256];
	char *argv[WORDS_MAX + 2] = {(char[]){"install"}};
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
		assert_true(argc <= WORDS_MAX);
		argv[argc++] = word;
	}
	return args_parse(a, args_install_flags, argc, argv, d);
}

static void test_defaults(void **state)
{
	struct args a;
	struct diag d;

	(void)state;
	assert_int_equal(parse(&a, "", &d), 0);
	assert_int_equal(a.port, 1081);
	assert_null(a.user);
	assert_int_equal(a.mark.value, 0x1000);
	assert_int_equal(a.mark.mask, 0x1000);
	assert_int_equal(a.n_gateways, 0);
	assert_false(a.dry_run || a.json || a.help);
}

static void test_flags(void **state)
{
	struct args a;
	struct diag d;

	(void)state;
	assert_int_equal(
		parse(&a, "--port 99 --uid bob --mark 0x2/0x3 --gateway a -g b --json", &d), 0);
	assert_int_equal(a.port, 99);
	assert_string_equal(a.user, "bob");
	assert_int_equal(a.mark.value, 2);
	assert_int_equal(a.mark.mask, 3);
	assert_int_equal(a.n_gateways, 2);
	assert_string_equal(a.gateways[1], "b");
	assert_true(a.json);
	assert_int_equal(parse(&a, "--dry-run", &d), 0);
	assert_true(a.dry_run);
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *line, *text; /* text: must be in the message */
	} cases[] = {
		{"--port 0", "1..65535"},         {"--port 65536", "1..65535"},
		{"--port 10x", "1..65535"},       {"--port", "PORT"},
		{"--gatewya eth0", "gateway"},    {"now", "\"now\""},
		{"--mark 0x1000/", "VALUE/MASK"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct args a;
		struct diag d;

		assert_int_equal(parse(&a, cases[i].line, &d), -EINVAL);
		assert_non_null(strstr(d.text, cases[i].text));
	}
}

static void test_uids(void **state)
{
	static const struct {
		const char *user;
		int result;
		uid_t uid;
	} cases[] = {
		{"0", 0, 0},
		{"990", 0, 990},
		{"010", 0, 10}, /* not octal */
		{"4294967294", 0, 4294967294u},
		{"4294967295", -EINVAL, 0},
		{"99999999999999999999", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"root", 0, 0},
		{"no-such-user-here", -ENOENT, 0},
		{"-1", -ENOENT, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct diag d = {.text = ""};
		uid_t uid = 12345;

		assert_int_equal(args_find_uid(&uid, cases[i].user, &d), cases[i].result);
		assert_int_equal(uid, cases[i].result == 0 ? cases[i].uid : 12345);
		assert_int_equal(d.text[0] == '\0', cases[i].result == 0);
	}
}

static void test_interfaces(void **state)
{
	char name[IFNAMSIZ] = "untouched";
	struct diag d;

	(void)state;
	assert_int_equal(args_find_interface(name, "no-such-if", &d), -ENODEV);
	assert_non_null(strstr(d.text, "no-such-if"));
	assert_string_equal(name, "untouched");
	assert_int_equal(args_find_interface(name, "lo", &d), 0);
	assert_string_equal(name, "lo");
}

static void test_too_many_gateways(void **state)
{
	static char command[] = "install", flag[] = "--gateway", name[] = "eth0";
	char *argv[2 * WANT_GATEWAYS_MAX + 3];
	struct args a;
	struct diag d;
	int argc = 0;

	(void)state;
	argv[argc++] = command;
	for (int i = 0; i <= WANT_GATEWAYS_MAX; i++) {
		argv[argc++] = flag;
		argv[argc++] = name;
	}
	assert_int_equal(args_parse(&a, args_install_flags, argc - 2, argv, &d), 0);
	assert_int_equal(args_parse(&a, args_install_flags, argc, argv, &d), -EINVAL);
	assert_non_null(strstr(d.text, "at most"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),   cmocka_unit_test(test_flags),
		cmocka_unit_test(test_mistakes),   cmocka_unit_test(test_uids),
		cmocka_unit_test(test_interfaces), cmocka_unit_test(test_too_many_gateways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
