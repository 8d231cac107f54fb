/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A sub-command, and what it has to say: every command fills one report, and only report_finish()
 * prints. The text goes to standard output, warnings and the error to standard error; with --json
 * one object goes to standard output instead of the text, whatever the outcome.
 */
#include "policy/json.h"
#include "rulemgr/args.h"

/* Beside those of <sysexits.h>. */
enum { EXIT_NOT_INSTALLED = 3, EXIT_DRIFT = 4, EXIT_NO_LISTENER = 5, EXIT_BUSY = 6 };

#define REPORT_WARNINGS_MAX 32

struct report {
	const char *command;
	bool as_json;
	struct strbuf text;    /* lines for a person */
	struct strbuf members; /* the same as an object, written with `json` */
	struct json json;
	struct diag warnings[REPORT_WARNINGS_MAX];
	size_t n_warnings;
	struct diag error; /* why the exit code is not 0 */
};

struct command {
	const char *name;
	const char *help; /* one line */
	const struct flag *flags;
	/* Returns the exit code; the report then holds the result, or the error if it is not 0. */
	int (*run)(const struct args *a, struct report *r);
};

/* Ends with a row whose name is NULL. */
extern const struct command commands[];
/* NULL: there is none of that name. */
const struct command *command_find(const char *name);

int install_run(const struct args *a, struct report *r);
int confirm_run(const struct args *a, struct report *r);
int flush_run(const struct args *a, struct report *r);
int status_run(const struct args *a, struct report *r);
int diff_run(const struct args *a, struct report *r);
int print_run(const struct args *a, struct report *r);
int bypass_run(const struct args *a, struct report *r);
int explain_run(const struct args *a, struct report *r);
int check_run(const struct args *a, struct report *r);
int watch_run(const struct args *a, struct report *r);

void report_init(struct report *r, const char *command, bool as_json);
/* What is more than fits is left out, and the last one says so. */
void report_warn(struct report *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Those so far, for a command that goes on for long. */
void report_print_warnings(struct report *r);
/* The exit code for a negative errno of the modules below; r->error says why already. */
int report_exit_code(int err);
/* Prints and frees it; returns `code`. */
int report_finish(struct report *r, int code);
