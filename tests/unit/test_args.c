/* SPDX-License-Identifier: MIT */
#include "rulemgr/args.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 32

static char empty_file[] = "/tmp/test_args.XXXXXX";

/* Parses the words of `line`, cut at blanks; "''" is the empty word. */
static int parse(struct args *a, const struct flag *own, const char *line, struct diag *d)
{
	static char copy[512];
	char *argv[WORDS_MAX + 2] = {(char[]){"install"}};
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
		assert_true(argc <= WORDS_MAX);
		if (strcmp(word, "''") == 0)
			word[0] = '\0';
		argv[argc++] = word;
	}
	return args_parse(a, own, argc, argv, d);
}

/* The same and its configuration, from `text` in the file. */
static int load(struct args *a, const char *text, const char *line, bool *by_flag, struct diag *d)
{
	FILE *file = fopen(empty_file, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	if (parse(a, args_install_flags, line, d) < 0)
		return -EPROTO;
	a->file = empty_file;
	return args_load(a, by_flag, d);
}

static void test_defaults(void **state)
{
	struct args a;
	struct diag d;

	(void)state;
	assert_int_equal(parse(&a, args_install_flags, "", &d), 0);
	assert_int_equal(a.port, 0);
	assert_int_equal(a.n_settings, 0);
	assert_null(a.file);
	assert_null(a.netns);
	assert_false(a.dry_run || a.json || a.help || a.force);
	args_free(&a);
}

static void test_flags(void **state)
{
	struct args a;
	struct diag d;

	(void)state;
	assert_int_equal(parse(&a, args_install_flags,
			       "--port 99 -f x --netns y --json --force --dry-run", &d),
			 0);
	assert_int_equal(a.port, 99);
	assert_string_equal(a.file, "x");
	assert_string_equal(a.netns, "y");
	assert_true(a.json && a.force && a.dry_run);
	args_free(&a);
	assert_int_equal(parse(&a, args_flush_flags, "--netns y -nj", &d), 0);
	assert_true(a.dry_run && a.json);
	args_free(&a);
}

/* A line of flags, and what the dump of the configuration then has. */
static void test_options_are_flags(void **state)
{
	static const struct {
		const char *file, *line, *dumped;
	} cases[] = {
		{"", "--share 5", "\nshare = 5\n"},
		{"[redirect]\nshare = 7", "", "\nshare = 7\n"},
		{"[redirect]\nshare = 7", "--share 0 --share 5", "\nshare = 5\n"},
		{"", "--priority -150", "\npriority = -150\n"},
		{"", "-priority=-150", "\npriority = -150\n"},
		{"", "--mode tproxy --tproxy-mark 0x20/0x20", "\ntproxy_mark = \"0x20/0x20\"\n"},
		{"mark = \"7\"", "-m 0x2/0x3", "\nmark = \"0x2/0x3\"\n"},
		{"", "-u bob", "\nuser = \"bob\"\n"},
		{"", "--uid 990", "\nuser = \"990\"\n"},
		{"", "-g a -g b,c", "\ngateway = [\"a\", \"b\", \"c\"]\n"},
		{"redirect.gateway = [\"x\", \"y\"]", "--gateway a", "\ngateway = [\"a\"]\n"},
		{"redirect.gateway = [\"x\", \"y\"]", "--gateway ''", "\ngateway = []\n"},
		{"", "--bypass 11.0.0.0/8,2a00::/16",
		 "\nbypass = [\"11.0.0.0/8\", \"2a00::/16\"]\n"},
		{"", "--redirect-anyway 198.18.0.0/15",
		 "\nredirect_anyway = [\"198.18.0.0/15\"]\n"},
		{"", "--ports 443,8000-8999 --ports 80", "\nports = [80, 443, \"8000-8999\"]\n"},
		{"", "--exempt-uids root,7", "\nexempt_uids = [\"root\", \"7\"]\n"},
		{"", "--exempt-cgroups a/b", "\nexempt_cgroups = [\"a/b\"]\n"},
		{"", "--exempt-marks 1,0x2/0x2",
		 "\nexempt_marks = [\"0x1/0xffffffff\", \"0x2/0x2\"]\n"},
		{"", "--backend iptables", "\nbackend = \"iptables\"\n"},
		{"", "--family ipv6", "\nfamily = \"ipv6\"\n"},
		{"", "--quic reject", "\nquic = \"reject\"\n"},
		{"", "--when-daemon-down open", "\nwhen_daemon_down = \"open\"\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct strbuf out;
		struct diag d = {.text = ""};
		struct args a;
		bool by_flag;

		if (load(&a, cases[i].file, cases[i].line, &by_flag, &d) != 0)
			fail_msg("%s: %s", cases[i].line, d.text);
		strbuf_init_heap(&out);
		option_dump(a.conf->program->options, a.conf, &out);
		if (strstr(out.data, cases[i].dumped) == NULL)
			fail_msg("%s: %s", cases[i].line, out.data);
		strbuf_free(&out);
		args_free(&a);
	}
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *line, *text; /* text: must be in the message */
	} cases[] = {
		{"--port 0", "--port 0: not a port 1..65535"},
		{"--port 65536", "1..65535"},
		{"--port 10x", "1..65535"},
		{"--port", "PORT"},
		{"--gatewya eth0", "did you mean --gateway?"},
		{"now", "\"now\""},
		{"--listen :1", "unknown flag --listen"},
		{"--share", "flag --share needs an argument: NUMBER"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct args a;
		struct diag d;

		assert_int_equal(parse(&a, args_install_flags, cases[i].line, &d), -EINVAL);
		if (strstr(d.text, cases[i].text) == NULL)
			fail_msg("%s: %s", cases[i].line, d.text);
		args_free(&a);
	}
}

static void test_wrong_values(void **state)
{
	static const struct {
		const char *file, *line, *text;
		bool by_flag;
		int line_number;
	} cases[] = {
		{"", "--share 500", "--share: 500 is out of range (0..100)", true, 0},
		{"", "--share half", "--share wants an integer, not a string", true, 0},
		{"", "--share ''", "--share wants an integer, not a string", true, 0},
		{"", "--share 99999999999999999999", "--share wants an integer", true, 0},
		{"", "--priority -200", "--priority: -200 is out of range (-199..99)", true, 0},
		{"", "--mark 0x1000/", "--mark: \"0x1000/\" is not VALUE/MASK", true, 0},
		{"", "--uid ''", "--uid: length 0 is out of range", true, 0},
		{"", "--bypass 11.0.0.1/8", "--bypass: \"11.0.0.1/8\" is not a network", true, 0},
		{"", "--bypass 11.0.0.0/8,", "--bypass: \"\" is not a network", true, 0},
		{"", "--ports 80,,81", "--ports: \"\" is not a port", true, 0},
		{"", "--quic drop", "--quic: \"drop\" is not one of: pass, reject", true, 0},
		{"", "--mode tproxy --mark 0x10/0x10", "share bits of their masks", true, 0},
		{"mark = \"0x10/0x10\"", "--mode tproxy", "share bits of their masks", true, 0},
		{"\n[redirect]\nshare = 101", "", "option \"redirect.share\": 101 is out of range",
		 false, 3},
		{"x = 1", "--share 500", "unknown option \"x\"", false, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct diag d = {.text = ""};
		bool by_flag;
		struct args a;

		assert_int_equal(load(&a, cases[i].file, cases[i].line, &by_flag, &d), -EINVAL);
		if (strstr(d.text, cases[i].text) == NULL)
			fail_msg("%s: %s", cases[i].line, d.text);
		assert_int_equal(by_flag, cases[i].by_flag);
		assert_int_equal(d.line, cases[i].line_number);
		assert_int_equal(d.file[0] == '\0', cases[i].by_flag);
		args_free(&a);
	}
}

static void test_too_many_gateways(void **state)
{
	struct strbuf names;
	struct args a;
	struct diag d;
	bool by_flag;

	(void)state;
	strbuf_init_heap(&names);
	strbuf_puts(&names, "--gateway a0");
	for (int i = 1; i < WANT_GATEWAYS_MAX; i++)
		strbuf_printf(&names, ",a%d", i);
	assert_int_equal(load(&a, "", names.data, &by_flag, &d), 0);
	assert_int_equal(a.conf->redirect.gateway.n, WANT_GATEWAYS_MAX);
	args_free(&a);
	strbuf_puts(&names, ",b");
	assert_int_equal(load(&a, "", names.data, &by_flag, &d), -EINVAL);
	assert_non_null(strstr(d.text, "--gateway: a list of 65 is out of range (0..64 entries)"));
	args_free(&a);
	strbuf_free(&names);
}

/* Every option of [redirect] is a flag of install, and no name or letter is there twice. */
static void test_every_option_is_a_flag(void **state)
{
	struct args_flags all;
	size_t options = 0, flags = 0;

	(void)state;
	for (const struct option *o = conf_transocks.options; o->name != NULL; o++)
		options += strncmp(o->name, "redirect.", 9) == 0;
	args_expand(&all, args_install_flags);
	for (const struct flag *f = all.rows; f->name != NULL; f++, flags++) {
		assert_null(strchr(f->name, '_'));
		for (const struct flag *g = all.rows; g != f; g++) {
			assert_string_not_equal(f->name, g->name);
			assert_true(f->letter == 0 || f->letter != g->letter);
		}
	}
	assert_true(options >= 13);
	/* port, mode, uid, mark, tproxy-mark, file, force, confirm, dry-run, netns, json, help */
	assert_int_equal(flags, options + 12);
	args_expand(&all, args_flush_flags);
	assert_string_equal(all.rows[0].name, "file");
	assert_string_equal(all.rows[1].name, "drain");
	assert_string_equal(all.rows[6].name, "help");
	assert_null(all.rows[7].name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_options_are_flags),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_wrong_values),
		cmocka_unit_test(test_too_many_gateways),
		cmocka_unit_test(test_every_option_is_a_flag),
	};
	int fd = mkstemp(empty_file), r;

	close(fd);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	remove(empty_file);
	return r;
}
