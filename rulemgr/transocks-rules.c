/* SPDX-License-Identifier: MIT */
/*
 * transocks-rules: puts the netfilter rules that feed transocksd in and takes them out. Here is
 * only the command line; the sub-commands are a table in command.c.
 */
#include "rulemgr/command.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#include "policy/nearest.h"
#include "rulemgr/netns.h"

static void help_print(void)
{
	fputs("usage: transocks-rules COMMAND [FLAG]...\n"
	      "       transocks-rules --help | --version\n\n",
	      stdout);
	for (const struct command *c = commands; c->name != NULL; c++) {
		struct args_flags flags;
		struct strbuf sb;

		strbuf_init_heap(&sb);
		args_expand(&flags, c->flags);
		cmdline_help(flags.rows, &sb);
		printf("%s: %s\n%s\n", c->name, c->help, sb.data);
		strbuf_free(&sb);
	}
}

static bool is_word(const char *arg, const char *word)
{
	return arg[0] == '-' && strcmp(arg + strspn(arg, "-"), word) == 0;
}

/* Whether --json is on the command line, in one of its spellings. Known before parsing, so that a mistake
 * there is told as JSON as well. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i] + strspn(argv[i], "-");
		size_t len = strcspn(word, "=");

		if (word == argv[i] || len == 0)
			continue;
		if (strncmp(word, "json", len) == 0)
			return true;
		/* "-nj" */
		if (word == argv[i] + 1 && strspn(word, "nj") == len &&
		    memchr(word, 'j', len) != NULL)
			return true;
	}
	return false;
}

/* Returns an exit code. */
static int command_prepare(const struct command *c, struct args *a, struct report *r)
{
	int err = a->netns != NULL ? netns_enter(a->netns, &r->error) : 0;
	bool by_flag;

	if (err < 0)
		return report_exit_code(err);
	if (!args_wants_conf(c->flags)) {
		args_load_control(a);
		return 0;
	}
	err = args_load(a, &by_flag, &r->error);
	if (err == 0)
		return 0;
	if (err == -ENOMEM)
		return EXIT_FAILURE;
	return by_flag ? EX_USAGE : EX_CONFIG;
}

/* With the word that says which of them it is: "bypass add". */
static const char *command_full_name(const struct command *c, int argc, char **argv, char *out,
				     size_t cap)
{
	static const char *const verbs[] = {"add", "del", "list"};

	snprintf(out, cap, "%s", c->name);
	for (size_t v = 0; c->run == bypass_run && argc > 1 && v < ARRAY_LEN(verbs); v++) {
		if (strcmp(argv[1], verbs[v]) == 0)
			snprintf(out, cap, "%s %s", c->name, verbs[v]);
	}
	return out;
}

static int command_run(const struct command *c, bool as_json, int argc, char **argv)
{
	struct args_flags flags;
	char name[32];
	struct args a;
	struct report r;
	int code;

	report_init(&r, command_full_name(c, argc, argv, name, sizeof(name)), as_json);
	if (args_parse(&a, c->flags, argc, argv, &r.error) < 0) {
		code = EX_USAGE;
	} else if (a.help) {
		args_expand(&flags, c->flags);
		cmdline_help(flags.rows, &r.text);
		r.as_json = false;
		code = 0;
	} else {
		code = command_prepare(c, &a, &r);
		if (code == 0)
			code = c->run(&a, &r);
	}
	args_free(&a);
	return report_finish(&r, code);
}

static int command_missing(const char *name, bool as_json)
{
	const char *names[16] = {NULL};
	const char *near;
	struct report r;
	size_t n = 0;

	for (const struct command *c = commands; c->name != NULL; c++) {
		BUG_ON(n + 1 == ARRAY_LEN(names));
		names[n++] = c->name;
	}
	near = nearest_word(name, names);
	report_init(&r, name, as_json);
	if (name[0] == '\0')
		diag_set(&r.error, EINVAL, NULL, 0, "no command; --help lists them");
	else if (near != NULL)
		diag_set(&r.error, EINVAL, NULL, 0, "no command \"%s\"; did you mean \"%s\"?", name,
			 near);
	else
		diag_set(&r.error, EINVAL, NULL, 0, "no command \"%s\"; --help lists them", name);
	return report_finish(&r, EX_USAGE);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	bool as_json = wants_json(argc, argv);
	const struct command *c = command_find(name);

	if (is_word(name, "version") || is_word(name, "V")) {
		puts("transocks-rules " TRANSOCKS_VERSION);
		return 0;
	}
	if (is_word(name, "help") || is_word(name, "h")) {
		help_print();
		return 0;
	}
	if (c == NULL)
		return command_missing(name, as_json);
	return command_run(c, as_json, argc - 1, argv + 1);
}
