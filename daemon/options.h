/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The command line of a daemon: its flags, and the configuration with what the flags override.
 */
#include "policy/cmdline.h"
#include "policy/conf.h"

extern const struct flag transocksd_flags[], usocksd_flags[];

struct daemon_options {
	const char *file;                              /* NULL: the default file and its drop-ins */
	const char *log_file, *log_level, *log_format; /* NULL: as configured */
	const char *explain;                           /* the flow that is asked about, or NULL */
	bool check, dump, status, suggest, json, help, version;
};

/* 0 or -EINVAL with `d`. */
int options_parse(struct daemon_options *o, const struct flag *flags, int argc, char **argv,
		  struct diag *d);

/* The configuration with what the command line overrides: *c is new with one reference, or NULL. An exit code; with `d` if
 * it is not EX_OK. */
int options_load(const struct daemon_options *o, const struct conf_program *p, struct conf **c,
		 struct diag *d);

/* The text of --help. */
void options_help(const struct conf_program *p, const struct flag *flags, const char *summary,
		  struct strbuf *out);
