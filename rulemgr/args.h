/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What stands on the command line of a sub-command, and the configuration that it and the file make
 * together. Each option that the rules read is a flag as well, made from the option's row: a value on the
 * command line goes through the same checks and replaces that of the file. The strings are those of argv.
 */
#include "policy/cmdline.h"
#include "policy/conf.h"
#include "rulemgr/want.h"

/* One flag that stands for an option. */
struct args_setting {
	size_t option; /* row of the option table */
	const char *value;
};

/* What --drain and --confirm take at most, and the default of the first. */
#define ARGS_TIME_MAX_MS (24 * 3600 * 1000)
#define ARGS_DRAIN_MS    60000

struct args {
	const char *file;  /* -f; NULL: the default file and its drop-ins */
	const char *netns; /* see netns.h; NULL: where we are */
	uint16_t port;     /* 0: that of the configuration */
	struct args_setting *settings;
	size_t n_settings;
	const char *format;  /* of print; NULL: the default */
	const char *comment; /* of bypass add; NULL: none */
	char **words;        /* what is no flag */
	size_t n_words;
	const char *probe_user; /* of test: a name or a number; NULL: our own */
	uint32_t probe_mark;    /* of test; 0: none */
	const char *probe_in;   /* of test: an interface; NULL: a flow of this host */
	const char *probe_from; /* of test: an address */
	bool force;
	int64_t drain_ms;   /* flush: how long to wait for redirected flows */
	bool drain;         /* it was given */
	int64_t confirm_ms; /* install: 0: for good, else on trial */
	bool now;           /* flush */
	bool dry_run;
	bool repair;
	bool json;
	bool help;
	struct conf
		*conf; /* NULL until args_load(); for a command that reads none, maybe for ever */
};

/* The rows of the sub-commands. A row named ARGS_CONF stands for -f and the flags of all options. */
#define ARGS_CONF ""
/* A row of this name stands for words that are no flags, as many as its id says at most. */
#define ARGS_WORDS "..."
extern const struct flag args_install_flags[];
extern const struct flag args_confirm_flags[];
extern const struct flag args_flush_flags[];
extern const struct flag args_status_flags[];
extern const struct flag args_diff_flags[];
extern const struct flag args_print_flags[];
extern const struct flag args_bypass_flags[];
extern const struct flag args_test_flags[];
extern const struct flag args_check_flags[];
extern const struct flag args_watch_flags[];

/* The flags of a command, as cmdline.h wants them: its own rows, those of the options, and what every
 * command takes (--netns, --json, --help). Ends with a row whose name is NULL. */
#define ARGS_FLAGS_MAX 60
struct args_flags {
	struct flag rows[ARGS_FLAGS_MAX + 1];
	char names[ARGS_FLAGS_MAX][32]; /* of those made here */
};
void args_expand(struct args_flags *all, const struct flag *own);

/* Parses argv[1..argc) into *a, which gets the defaults first; args_free() releases it, whatever came of
 * it. 0, or -EINVAL or -ENOMEM with `d` filled. */
int args_parse(struct args *a, const struct flag *own, int argc, char **argv, struct diag *d);
void args_free(struct args *a);

/* Whether the command reads the configuration. */
bool args_wants_conf(const struct flag *own);
/* For a command that does not: only option control counts, and a file that is wrong is as good as none. */
void args_load_control(struct args *a);
/* Reads it into a->conf, with what the command line says on top. 0; -EINVAL, -ENOENT, ... with `d`, and
 * *by_flag says whether the command line or a file is wrong. */
int args_load(struct args *a, bool *by_flag, struct diag *d);
