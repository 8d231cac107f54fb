/* SPDX-License-Identifier: MIT */
#include "policy/cmdline.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "policy/nearest.h"

#define FLAGS_MAX 64
#define LONG_BASE \
	256 /* getopt's result for a long name is this plus the row; below it is a letter */

struct cmdline {
	const struct flag *flags;
	struct option longs[FLAGS_MAX + 1];
	char letters[2 * FLAGS_MAX + 2];
	const char *names[FLAGS_MAX + 1];
};

static void cmdline_init(struct cmdline *c, const struct flag *flags)
{
	char *letter = c->letters;
	size_t n = 0;

	*c = (struct cmdline){.flags = flags};
	*letter++ = ':'; /* a missing argument is ':', apart from an unknown flag */
	for (; flags[n].name != NULL; n++) {
		bool argument = flags[n].argument != NULL;

		BUG_ON(n == FLAGS_MAX);
		c->names[n] = flags[n].name;
		c->longs[n] = (struct option){
			.name = flags[n].name, .has_arg = argument, .val = LONG_BASE + (int)n};
		if (flags[n].letter != 0) {
			*letter++ = flags[n].letter;
			if (argument)
				*letter++ = ':';
		}
	}
}

/* The row that a result of getopt, or its `optopt`, stands for; NULL for none. */
static const struct flag *cmdline_flag(const struct cmdline *c, int result)
{
	if (result >= LONG_BASE)
		return &c->flags[result - LONG_BASE];
	for (const struct flag *f = c->flags; f->name != NULL; f++) {
		if (f->letter != 0 && f->letter == result)
			return f;
	}
	return NULL;
}

/* `word` is the name as typed, without dashes; it may go on with "=value". */
static int cmdline_unknown(const struct cmdline *c, const char *word, struct diag *d)
{
	size_t len = strcspn(word, "=");
	char name[64], list[256];
	struct strbuf sb;
	const char *near;
	int matches = 0;

	snprintf(name, sizeof(name), "%.*s", (int)len, word);
	strbuf_init(&sb, list, sizeof(list));
	for (const struct flag *f = c->flags; f->name != NULL; f++) {
		if (len > 0 && strncmp(f->name, word, len) == 0)
			strbuf_printf(&sb, "%s--%s", matches++ > 0 ? ", " : "", f->name);
	}
	if (matches > 1)
		return diag_set(d, EINVAL, NULL, 0, "flag --%s is ambiguous: %s", name, list);
	near = nearest_word(name, c->names);
	if (near != NULL)
		return diag_set(d, EINVAL, NULL, 0, "unknown flag --%s; did you mean --%s?", name,
				near);
	return diag_set(d, EINVAL, NULL, 0, "unknown flag %s%s; --help lists all",
			strlen(name) == 1 ? "-" : "--", name);
}

static int cmdline_bad(const struct cmdline *c, int result, const char *word, struct diag *d)
{
	const struct flag *f = cmdline_flag(c, optopt);

	if (result == ':' && f != NULL)
		return diag_set(d, EINVAL, NULL, 0, "flag --%s needs an argument: %s", f->name,
				f->argument);
	if (optopt >= LONG_BASE && f != NULL)
		return diag_set(d, EINVAL, NULL, 0, "flag --%s takes no argument", f->name);
	if (optopt != 0)
		return diag_set(d, EINVAL, NULL, 0, "unknown flag -%c; --help lists all", optopt);
	return cmdline_unknown(c, word + strspn(word, "-"), d);
}

int cmdline_parse(const struct flag *flags, int argc, char **argv, int *first_word, cmdline_fn *fn,
		  void *ctx, struct diag *d)
{
	struct cmdline c;
	int result, r;

	cmdline_init(&c, flags);
	optind = 0; /* glibc: forget an earlier run altogether */
	opterr = 0;
	while ((result = getopt_long_only(argc, argv, c.letters, c.longs, NULL)) != -1) {
		const struct flag *f = cmdline_flag(&c, result);

		if (result == '?' || result == ':')
			return cmdline_bad(&c, result, argv[optind - 1], d);
		/* "-flie" would read the file "lie"; neither the Go programs nor anybody's habit
		 * asks for it, a mistyped "-file" does. */
		if (result < LONG_BASE && optarg != NULL && optarg != argv[optind - 1])
			return cmdline_unknown(&c, argv[optind - 1] + 1, d);
		r = fn(ctx, f->id, optarg, d);
		if (r < 0)
			return r;
	}
	*first_word = optind < argc ? optind : argc;
	return 0;
}

/* "  -f, --file FILE" */
static void cmdline_put_names(const struct flag *f, struct strbuf *out)
{
	if (f->letter != 0)
		strbuf_printf(out, "  -%c, --%s", f->letter, f->name);
	else
		strbuf_printf(out, "      --%s", f->name);
	if (f->argument != NULL)
		strbuf_printf(out, " %s", f->argument);
}

void cmdline_help(const struct flag *flags, struct strbuf *out)
{
	char names[128];
	struct strbuf sb;
	size_t width = 0;

	for (const struct flag *f = flags; f->name != NULL; f++) {
		strbuf_init(&sb, names, sizeof(names));
		cmdline_put_names(f, &sb);
		width = sb.len > width ? sb.len : width;
	}
	for (const struct flag *f = flags; f->name != NULL; f++) {
		strbuf_init(&sb, names, sizeof(names));
		cmdline_put_names(f, &sb);
		strbuf_printf(out, "%-*s  %s\n", (int)width, names, f->help);
	}
}
