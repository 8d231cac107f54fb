/* SPDX-License-Identifier: MIT */
#include "daemon/options.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

enum {
	FLAG_FILE,
	FLAG_LOG_FILE,
	FLAG_LOG_LEVEL,
	FLAG_LOG_FORMAT,
	FLAG_CHECK,
	FLAG_DUMP,
	FLAG_STATUS,
	FLAG_EXPLAIN,
	FLAG_SUGGEST,
	FLAG_JSON,
	FLAG_HELP,
	FLAG_VERSION
};

/* clang-format off */
/* In the order of --help; what one daemon has beside the other stands in the middle. */
#define FLAGS_BEFORE \
	{"file", 'f', "FILE", "read FILE instead of the default file and its drop-ins", FLAG_FILE}, \
	{"logfile", 0, "FILE", "log to FILE (overrides log.filename)", FLAG_LOG_FILE}, \
	{"loglevel", 0, "LEVEL", "critical, error, warning, info or debug (overrides log.level)", \
	 FLAG_LOG_LEVEL}, \
	{"logformat", 0, "FORMAT", "plain, logfmt or json (overrides log.format)", FLAG_LOG_FORMAT}, \
	{"check", 't', NULL, "check the configuration and exit", FLAG_CHECK}, \
	{"dump-config", 0, NULL, "print the configuration in effect as TOML and exit", FLAG_DUMP}, \
	{"status", 0, NULL, "ask the running daemon how it is, print that and exit", FLAG_STATUS}
#define FLAGS_AFTER \
	{"help", 'h', NULL, "print this and exit", FLAG_HELP}, \
	{"version", 'V', NULL, "print the version and exit", FLAG_VERSION}, \
	{0}
/* clang-format on */

const struct flag transocksd_flags[] = {
	FLAGS_BEFORE,
	{"explain", 0, "FLOW",
	 "say what would become of 'client=ADDRESS dest=ADDRESS:PORT name=NAME' and exit",
	 FLAG_EXPLAIN},
	{"suggest", 0, NULL,
	 "ask the running daemon for rules that allow what observing rules saw, and exit",
	 FLAG_SUGGEST},
	{"json", 0, NULL, "with --status or --explain: as one JSON object", FLAG_JSON},
	FLAGS_AFTER,
};

const struct flag usocksd_flags[] = {
	FLAGS_BEFORE,
	{"json", 0, NULL, "with --status: as one JSON object", FLAG_JSON},
	FLAGS_AFTER,
};

static int options_flag(void *ctx, int id, const char *value, struct diag *d)
{
	struct daemon_options *o = ctx;

	(void)d;
	switch (id) {
	case FLAG_FILE:
		o->file = value;
		break;
	case FLAG_LOG_FILE:
		o->log_file = value;
		break;
	case FLAG_LOG_LEVEL:
		o->log_level = value;
		break;
	case FLAG_LOG_FORMAT:
		o->log_format = value;
		break;
	case FLAG_CHECK:
		o->check = true;
		break;
	case FLAG_DUMP:
		o->dump = true;
		break;
	case FLAG_STATUS:
		o->status = true;
		break;
	case FLAG_EXPLAIN:
		o->explain = value;
		break;
	case FLAG_SUGGEST:
		o->suggest = true;
		break;
	case FLAG_JSON:
		o->json = true;
		break;
	case FLAG_HELP:
		o->help = true;
		break;
	case FLAG_VERSION:
		o->version = true;
		break;
	}
	return 0;
}

int options_parse(struct daemon_options *o, const struct flag *flags, int argc, char **argv,
		  struct diag *d)
{
	int first_word;
	int rc;

	*o = (struct daemon_options){0};
	rc = cmdline_parse(flags, argc, argv, &first_word, options_flag, o, d);
	if (rc == 0 && first_word < argc)
		rc = diag_set(d, EINVAL, NULL, 0, "unexpected argument \"%s\"", argv[first_word]);
	if (rc == 0 && o->json && !o->status && o->explain == NULL)
		rc = diag_set(d, EINVAL, NULL, 0, "--json goes with %s",
			      flags == transocksd_flags ? "--status or --explain" : "--status");
	return rc;
}

/* A flag that overrides an option goes the way of the option, with the same checks. */
static int options_override(struct conf *c, const char *name, const char *value, struct diag *d)
{
	return value == NULL ? 0 : conf_set_string(c, name, value, d);
}

static int options_apply(const struct daemon_options *o, struct conf *c, struct diag *d)
{
	int rc = options_override(c, "log.filename", o->log_file, d);

	if (rc == 0)
		rc = options_override(c, "log.level", o->log_level, d);
	if (rc == 0)
		rc = options_override(c, "log.format", o->log_format, d);
	return rc;
}

int options_load(const struct daemon_options *o, const struct conf_program *p, struct conf **c,
		 struct diag *d)
{
	*c = NULL;
	if (conf_load(p, o->file, c, d) < 0)
		return EX_CONFIG;
	if (options_apply(o, *c, d) == 0)
		return EX_OK;
	conf_unref(*c);
	*c = NULL;
	return EX_USAGE;
}

void options_help(const struct conf_program *p, const struct flag *flags, const char *summary,
		  struct strbuf *out)
{
	strbuf_printf(out, "Usage: %s [-f FILE] [flags]\n\n%s\n\n", p->name, summary);
	cmdline_help(flags, out);
	strbuf_printf(out, "\nDefault file %s, then %s/*.toml. The manual is %s(8).\n",
		      p->default_file, p->dropin_dir, p->name);
}
