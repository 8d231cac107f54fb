/* SPDX-License-Identifier: MIT */
#include "rulemgr/args.h"

#include <errno.h>
#include <string.h>

#include "policy/duration.h"

enum flag_id {
	FLAG_FILE,
	FLAG_NETNS,
	FLAG_PORT,
	FLAG_FORMAT,
	FLAG_COMMENT,
	FLAG_FORCE,
	FLAG_DRAIN,
	FLAG_NOW,
	FLAG_CONFIRM,
	FLAG_DRY_RUN,
	FLAG_REPAIR,
	FLAG_JSON,
	FLAG_HELP,
	FLAG_PROBE_USER,
	FLAG_PROBE_MARK,
	FLAG_PROBE_IN,
	FLAG_PROBE_FROM,
	FLAG_OPTION /* and above: the rows of the option table */
};

/* clang-format off */
#define ROW_CONF {.name = ARGS_CONF}
#define ROW_DRY_RUN {"dry-run", 'n', NULL, "let the kernel check all, change nothing", FLAG_DRY_RUN}
#define ROW_FORCE {"force", 0, NULL, "install even where that cuts traffic off", FLAG_FORCE}

#define ROW_FILE \
	{"file", 'f', "FILE", "read this file alone (default /etc/transocks.toml and its drop-ins)", FLAG_FILE}

static const struct flag conf_rows[] = {
	ROW_FILE,
	{"port", 'p', "PORT", "where transocksd listens (default: port of the first entry of listen)",
	 FLAG_PORT},
};
static const struct flag common_rows[] = {
	{"netns", 0, "NAMESPACE", "work in this network namespace: a name, a path or a process id",
	 FLAG_NETNS},
	{"json", 'j', NULL, "result and errors as one JSON object", FLAG_JSON},
	{"help", 'h', NULL, "this text", FLAG_HELP},
};
/* clang-format on */

const struct flag args_install_flags[] = {
	ROW_CONF,
	{"confirm", 0, "TIME", "back to the rules before, unless confirmed within this time",
	 FLAG_CONFIRM},
	ROW_FORCE,
	ROW_DRY_RUN,
	{.name = NULL},
};

const struct flag args_confirm_flags[] = {
	ROW_FILE,
	ROW_DRY_RUN,
	{.name = NULL},
};

const struct flag args_flush_flags[] = {
	ROW_FILE,
	{"drain", 0, "TIME",
	 "wait so long for redirected flows to end (default 60s; 0: do not wait)", FLAG_DRAIN},
	{"now", 0, NULL, "do not wait: cut the redirected flows", FLAG_NOW},
	ROW_DRY_RUN,
	{.name = NULL},
};

const struct flag args_status_flags[] = {
	ROW_CONF,
	{.name = NULL},
};

const struct flag args_diff_flags[] = {
	ROW_CONF,
	{.name = NULL},
};

const struct flag args_print_flags[] = {
	ROW_CONF,
	{"format", 0, "FORMAT", "nft (the default), iptables or json", FLAG_FORMAT},
	{.name = NULL},
};

const struct flag args_bypass_flags[] = {
	{.name = ARGS_WORDS, .id = 2},
	ROW_FILE,
	{"comment", 'c', "TEXT", "why; `bypass list` and nft(8) show it", FLAG_COMMENT},
	ROW_DRY_RUN,
	{.name = NULL},
};

const struct flag args_test_flags[] = {
	{.name = ARGS_WORDS, .id = 1},
	{"uid", 'u', "USER", "as a flow of this user, a name or a number (default: you)",
	 FLAG_PROBE_USER},
	{"mark", 'm', "VALUE", "as a flow with this mark", FLAG_PROBE_MARK},
	{"in", 'i', "IF", "as a flow that comes in by this interface; with --from", FLAG_PROBE_IN},
	{"from", 0, "ADDRESS", "as a flow of this client; with --in", FLAG_PROBE_FROM},
	{.name = NULL},
};

const struct flag args_check_flags[] = {
	{.name = ARGS_WORDS, .id = 1},
	ROW_CONF,
	{.name = NULL},
};

const struct flag args_watch_flags[] = {
	ROW_CONF,
	{"repair", 0, NULL, "put the intended rules back each time", FLAG_REPAIR},
	{.name = NULL},
};

/* The options outside [redirect] that are flags, and where a flag does not simply follow the option. */
static const struct spelling {
	const char *option;
	struct flag flag; /* name and help NULL: made from the option */
} spellings[] = {
	{"mode", {.letter = 0}},
	{"user",
	 {.name = "uid",
	  .letter = 'u',
	  .argument = "USER",
	  .help = "name or number of the daemons' user, whose flows go direct"}},
	{"mark", {.letter = 'm', .help = "mark of the daemons' flows, which go direct"}},
	{"tproxy_mark", {.letter = 0}},
	{"redirect.gateway", {.letter = 'g'}},
};

static const char redirect_table[] = "redirect.";

static const struct spelling *find_spelling(const char *option)
{
	for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
		if (strcmp(spellings[i].option, option) == 0)
			return &spellings[i];
	}
	return NULL;
}

/* "redirect.exempt_uids" -> "exempt-uids" */
static const char *flag_name(char out[32], const char *option)
{
	const char *dot = strchr(option, '.');
	int n = snprintf(out, 32, "%s", dot != NULL ? dot + 1 : option);

	BUG_ON(n >= 32);
	for (char *at = out; (at = strchr(at, '_')) != NULL;)
		*at = '-';
	return out;
}

static void add_row(struct args_flags *all, size_t *n, struct flag row)
{
	BUG_ON(*n == ARGS_FLAGS_MAX);
	all->rows[(*n)++] = row;
	all->rows[*n] = (struct flag){.name = NULL};
}

static void add_options(struct args_flags *all, size_t *n)
{
	const struct option *options = conf_transocks_rules.options;

	for (size_t i = 0; options[i].name != NULL; i++) {
		const struct option *o = &options[i];
		const struct spelling *s = find_spelling(o->name);
		struct flag row = s != NULL ? s->flag : (struct flag){.name = NULL};

		if (s == NULL && strncmp(o->name, redirect_table, strlen(redirect_table)) != 0)
			continue;
		BUG_ON(*n == ARGS_FLAGS_MAX);
		row.id = FLAG_OPTION + (int)i;
		row.name = row.name != NULL ? row.name : flag_name(all->names[*n], o->name);
		row.argument = row.argument != NULL ? row.argument : o->type->argument;
		row.help = row.help != NULL ? row.help : o->help;
		add_row(all, n, row);
	}
}

void args_expand(struct args_flags *all, const struct flag *own)
{
	size_t n = 0;

	all->rows[0] = (struct flag){.name = NULL};
	for (; own->name != NULL; own++) {
		if (strcmp(own->name, ARGS_WORDS) == 0)
			continue;
		if (strcmp(own->name, ARGS_CONF) != 0) {
			add_row(all, &n, *own);
			continue;
		}
		for (size_t i = 0; i < ARRAY_LEN(conf_rows); i++)
			add_row(all, &n, conf_rows[i]);
		add_options(all, &n);
	}
	for (size_t i = 0; i < ARRAY_LEN(common_rows); i++)
		add_row(all, &n, common_rows[i]);
}

static size_t args_max_words(const struct flag *own)
{
	for (; own->name != NULL; own++) {
		if (strcmp(own->name, ARGS_WORDS) == 0)
			return (size_t)own->id;
	}
	return 0;
}

bool args_wants_conf(const struct flag *own)
{
	for (; own->name != NULL; own++) {
		if (strcmp(own->name, ARGS_CONF) == 0)
			return true;
	}
	return false;
}

static int args_set_probe_mark(uint32_t *value, const char *text, struct diag *d)
{
	struct mark mark;
	const char *why;

	if (mark_parse(&mark, text, &why) < 0)
		return diag_set(d, EINVAL, NULL, 0, "--mark \"%s\" %s", text, why);
	*value = mark.value;
	return 0;
}

/* Up to a day. */
static int args_set_time(int64_t *ms, const char *flag, const char *text, struct diag *d)
{
	int64_t value = 0;

	if (strcmp(text, "0") != 0 && duration_parse(&value, text) < 0)
		return diag_set(d, EINVAL, NULL, 0,
				"--%s \"%s\" is not a duration such as \"500ms\", \"60s\", \"5m\"",
				flag, text);
	if (value > ARGS_TIME_MAX_MS)
		return diag_set(d, EINVAL, NULL, 0, "--%s %s: at most 24h", flag, text);
	*ms = value;
	return 0;
}

static int args_set_trial(int64_t *ms, const char *text, struct diag *d)
{
	int r = args_set_time(ms, "confirm", text, d);

	if (r == 0 && *ms == 0)
		return diag_set(d, EINVAL, NULL, 0, "--confirm 0: that leaves no time to confirm");
	return r;
}

static int args_set(void *ctx, int id, const char *value, struct diag *d)
{
	struct args *a = ctx;

	if (id >= FLAG_OPTION) {
		a->settings[a->n_settings++] =
			(struct args_setting){.option = (size_t)(id - FLAG_OPTION), .value = value};
		return 0;
	}
	switch ((enum flag_id)id) {
	case FLAG_FILE:
		a->file = value;
		return 0;
	case FLAG_NETNS:
		a->netns = value;
		return 0;
	case FLAG_PORT:
		if (port_parse(&a->port, value) < 0 || a->port == 0)
			return diag_set(d, EINVAL, NULL, 0, "--port %s: not a port 1..65535",
					value);
		return 0;
	case FLAG_FORMAT:
		a->format = value;
		return 0;
	case FLAG_COMMENT:
		a->comment = value;
		return 0;
	case FLAG_FORCE:
		a->force = true;
		return 0;
	case FLAG_DRAIN:
		a->drain = true;
		return args_set_time(&a->drain_ms, "drain", value, d);
	case FLAG_CONFIRM:
		return args_set_trial(&a->confirm_ms, value, d);
	case FLAG_NOW:
		a->now = true;
		return 0;
	case FLAG_DRY_RUN:
		a->dry_run = true;
		return 0;
	case FLAG_REPAIR:
		a->repair = true;
		return 0;
	case FLAG_JSON:
		a->json = true;
		return 0;
	case FLAG_HELP:
		a->help = true;
		return 0;
	case FLAG_PROBE_USER:
		a->probe_user = value;
		return 0;
	case FLAG_PROBE_MARK:
		return args_set_probe_mark(&a->probe_mark, value, d);
	case FLAG_PROBE_IN:
		a->probe_in = value;
		return 0;
	case FLAG_PROBE_FROM:
		a->probe_from = value;
		return 0;
	case FLAG_OPTION:
		break;
	}
	BUG_ON(true);
}

int args_parse(struct args *a, const struct flag *own, int argc, char **argv, struct diag *d)
{
	struct args_flags flags;
	int first_word, r;

	*a = (struct args){.settings = calloc((size_t)argc + 1, sizeof(*a->settings)),
			   .drain_ms = ARGS_DRAIN_MS};
	if (a->settings == NULL)
		return diag_no_memory(d);
	args_expand(&flags, own);
	r = cmdline_parse(flags.rows, argc, argv, &first_word, args_set, a, d);
	if (r < 0)
		return r;
	a->words = argv + first_word;
	a->n_words = (size_t)(argc - first_word);
	if (a->n_words > args_max_words(own))
		return diag_set(d, EINVAL, NULL, 0, "unexpected word \"%s\"",
				a->words[args_max_words(own)]);
	if (a->now && a->drain)
		return diag_set(d, EINVAL, NULL, 0,
				"--now does not wait, so it does not go with --drain");
	return 0;
}

void args_free(struct args *a)
{
	conf_unref(a->conf);
	free(a->settings);
	*a = (struct args){.file = NULL};
}

/* All values of the option of setting `first`, if that is the first of them. */
static int args_apply(const struct args *a, size_t first, const char **values, struct diag *d)
{
	const struct option *o = &a->conf->program->options[a->settings[first].option];
	const struct spelling *s = find_spelling(o->name);
	char name[32], label[40];
	size_t n = 0;

	for (size_t i = 0; i < a->n_settings; i++) {
		if (a->settings[i].option != a->settings[first].option)
			continue;
		if (i < first)
			return 0; /* done with that one */
		values[n++] = a->settings[i].value;
	}
	snprintf(label, sizeof(label), "--%s",
		 s != NULL && s->flag.name != NULL ? s->flag.name : flag_name(name, o->name));
	return option_set_values(a->conf->program->options, a->conf, o->name, label, values, n, d);
}

void args_load_control(struct args *a)
{
	struct diag ignored;

	if (conf_load(&conf_transocks_rules, a->file, &a->conf, &ignored) < 0)
		a->conf = NULL;
}

int args_load(struct args *a, bool *by_flag, struct diag *d)
{
	const char **values;
	int r;

	*by_flag = false;
	r = conf_load(&conf_transocks_rules, a->file, &a->conf, d);
	if (r < 0)
		return r;
	values = calloc(a->n_settings + 1, sizeof(*values));
	if (values == NULL)
		return diag_no_memory(d);
	*by_flag = true;
	for (size_t i = 0; r == 0 && i < a->n_settings; i++)
		r = args_apply(a, i, values, d);
	free(values);
	/* The flags may not go together with each other, or with the file. */
	return r == 0 ? a->conf->program->finish(a->conf, NULL, d) : r;
}
