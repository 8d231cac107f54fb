/* SPDX-License-Identifier: MIT */
/*
 * transocks-rules: puts the netfilter rules that feed transocksd in and takes them out. Here is
 * only the command line; the sub-commands are a table in command.c.
 */
#include "rulemgr/command.h"

#include <string.h>
#include <sysexits.h>

static void help_print(void)
{
	fputs("usage: transocks-rules COMMAND [FLAG]...\n"
	      "       transocks-rules --help | --version\n\n",
	      stdout);
	for (const struct command *c = commands; c->name != NULL; c++) {
		struct strbuf sb;

		strbuf_init_heap(&sb);
		cmdline_help(c->flags, &sb);
		printf("%s: %s\n%s\n", c->name, c->help, sb.data);
		strbuf_free(&sb);
	}
}

static bool is_word(const char *arg, const char *word)
{
	return arg[0] == '-' && strcmp(arg + strspn(arg, "-"), word) == 0;
}

static int command_run(const struct command *c, int argc, char **argv)
{
	bool as_json = false;
	struct args a;
	struct report r;

	/* Known before parsing, so that a mistake on the command line is told as JSON as well. */
	for (int i = 1; i < argc; i++)
		as_json |= is_word(argv[i], "json") || is_word(argv[i], "j");
	report_init(&r, c->name, as_json);
	if (args_parse(&a, c->flags, argc, argv, &r.error) < 0)
		return report_finish(&r, EX_USAGE);
	r.as_json |= a.json;
	if (a.help) {
		cmdline_help(c->flags, &r.text);
		r.as_json = false;
		return report_finish(&r, 0);
	}
	return report_finish(&r, c->run(&a, &r));
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		fputs("transocks-rules: no command; --help lists them\n", stderr);
		return EX_USAGE;
	}
	if (is_word(argv[1], "version") || is_word(argv[1], "V")) {
		puts("transocks-rules " TRANSOCKS_VERSION);
		return 0;
	}
	if (is_word(argv[1], "help") || is_word(argv[1], "h")) {
		help_print();
		return 0;
	}
	c = command_find(argv[1]);
	if (c == NULL) {
		fprintf(stderr, "transocks-rules: no command \"%s\"; --help lists them\n", argv[1]);
		return EX_USAGE;
	}
	return command_run(c, argc - 1, argv + 1);
}
