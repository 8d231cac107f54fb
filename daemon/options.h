/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The command line of a daemon: its flags, and the configuration with what the flags override.
 */
#include "policy/cmdline.h"
#include "policy/conf.h"

extern const struct flag daemon_flags[];

struct daemon_options {
	const char *file;                              /* NULL: the default file and its drop-ins */
	const char *log_file, *log_level, *log_format; /* NULL: as configured */
	bool check, dump, help, version;
};

/* 0 or -EINVAL with `d`. */
int options_parse(struct daemon_options *o, int argc, char **argv, struct diag *d);

/* conf_load() with the overrides of the command line. */
int options_load(const struct daemon_options *o, const struct conf_program *p, struct conf **c,
		 struct diag *d);

/* The text of --help. */
void options_help(const struct conf_program *p, const char *summary, struct strbuf *out);
