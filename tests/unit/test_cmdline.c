/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/cmdline.h"

static const struct flag flags[] = {
	{"file", 'f', "FILE", "read FILE alone", 1},
	{"logfile", 0, "FILE", "write the log there", 2},
	{"loglevel", 0, "LEVEL", "how much", 3},
	{"check", 0, NULL, "check and exit", 4},
	{"help", 'h', NULL, "this text", 5},
	{"dump-config", 0, NULL, "print what is in force", 6},
	{0},
};

#define WORDS_MAX 10

struct seen {
	char text[256]; /* "id=value " for each flag */
	int fail_id;
};

static int see(void *ctx, int id, const char *value, struct diag *d)
{
	struct seen *s = ctx;
	size_t n = strlen(s->text);

	if (id == s->fail_id)
		return diag_set(d, EPERM, NULL, 0, "the callback says no");
	snprintf(s->text + n, sizeof(s->text) - n, "%d=%s ", id, value != NULL ? value : "-");
	return 0;
}

/* Splits `line` at blanks into argv behind a program name. */
static int split(char *line, char **argv)
{
	int argc = 0;

	argv[argc++] = (char *)"prog";
	for (char *w = strtok(line, " "); w != NULL; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	return argc;
}

static int parse(const char *line, struct seen *s, char *words, size_t cap, struct diag *d)
{
	char copy[256], *argv[WORDS_MAX + 2];
	int first = -1, argc, r;

	snprintf(copy, sizeof(copy), "%s", line);
	argc = split(copy, argv);
	words[0] = '\0';
	r = cmdline_parse(flags, argc, argv, &first, see, s, d);
	for (int i = first; r == 0 && i < argc; i++) {
		size_t n = strlen(words);

		snprintf(words + n, cap - n, "%s ", argv[i]);
	}
	return r;
}

static void test_good(void **state)
{
	static const struct {
		const char *line, *seen, *words;
	} cases[] = {
		{"", "", ""},
		{"-f a.toml", "1=a.toml ", ""},
		{"-file a.toml", "1=a.toml ", ""},
		{"--file a.toml", "1=a.toml ", ""},
		{"--file=a.toml", "1=a.toml ", ""},
		{"-file=a.toml", "1=a.toml ", ""},
		{"--file=", "1= ", ""},
		{"-f -x", "1=-x ", ""},
		{"-logfile x -loglevel debug", "2=x 3=debug ", ""},
		{"--logfile x --loglevel=debug", "2=x 3=debug ", ""},
		{"-h --check", "5=- 4=- ", ""},
		{"--dump", "6=- ", ""},
		{"-f a -f b", "1=a 1=b ", ""},
		{"one --check two", "4=- ", "one two "},
		{"install --logfile x now", "2=x ", "install now "},
		{"--check -- --help x", "4=- ", "--help x "},
		{"-", "", "- "},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen s = {0};
		struct diag d = {0};
		char words[256];

		assert_int_equal(parse(cases[i].line, &s, words, sizeof(words), &d), 0);
		assert_string_equal(s.text, cases[i].seen);
		assert_string_equal(words, cases[i].words);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *line, *text;
	} cases[] = {
		{"-f", "flag --file needs an argument: FILE"},
		{"--check --loglevel", "flag --loglevel needs an argument: LEVEL"},
		{"--check=yes", "flag --check takes no argument"},
		{"-check=yes", "flag --check takes no argument"},
		{"-x", "unknown flag -x; --help lists all"},
		{"-hx", "unknown flag -x; --help lists all"},
		{"--logfle x", "unknown flag --logfle; did you mean --logfile?"},
		{"-loglvl=debug", "unknown flag --loglvl; did you mean --loglevel?"},
		{"-flie", "unknown flag --flie; did you mean --file?"},
		{"-fa.toml", "unknown flag --fa.toml; --help lists all"},
		{"--log x", "flag --log is ambiguous: --logfile, --loglevel"},
		{"word --nothing-like-it", "unknown flag --nothing-like-it; --help lists all"},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen s = {0};
		struct diag d = {0};
		char words[256];

		assert_int_equal(parse(cases[i].line, &s, words, sizeof(words), &d), -EINVAL);
		assert_string_equal(d.text, cases[i].text);
		assert_string_equal(d.file, "");
	}
}

static void test_callback_fails(void **state)
{
	struct seen s = {.fail_id = 4};
	struct diag d = {0};
	char words[256];
	(void)state;

	assert_int_equal(parse("-f x --check --help", &s, words, sizeof(words), &d), -EPERM);
	assert_string_equal(s.text, "1=x ");
	assert_string_equal(d.text, "the callback says no");
}

static void test_no_arguments_at_all(void **state)
{
	char *argv[] = {NULL};
	struct seen s = {0};
	int first = -1;
	(void)state;

	assert_int_equal(cmdline_parse(flags, 0, argv, &first, see, &s, NULL), 0);
	assert_int_equal(first, 0);
}

static void test_help(void **state)
{
	struct strbuf out;
	(void)state;

	strbuf_init_heap(&out);
	cmdline_help(flags, &out);
	assert_string_equal(out.data, "  -f, --file FILE       read FILE alone\n"
				      "      --logfile FILE    write the log there\n"
				      "      --loglevel LEVEL  how much\n"
				      "      --check           check and exit\n"
				      "  -h, --help            this text\n"
				      "      --dump-config     print what is in force\n");
	strbuf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
		cmocka_unit_test(test_callback_fails), cmocka_unit_test(test_no_arguments_at_all),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
