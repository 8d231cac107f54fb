/* SPDX-License-Identifier: MIT */
#include "rulemgr/command.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sysexits.h>

/* Room for a file, a line and a text. */
#define REPORT_TEXT_MAX (sizeof(struct diag) + 32)

const struct command commands[] = {
	{"install", "redirect new TCP flows to transocksd", args_install_flags, install_run},
	{"confirm", "keep the rules that install --confirm has put on trial", args_confirm_flags,
	 confirm_run},
	{"flush", "let new flows go direct, and remove the rules when the live ones have ended",
	 args_flush_flags, flush_run},
	{"status", "tell whether all is in place and works, and what it has done",
	 args_status_flags, status_run},
	{"diff", "compare the rules that are there with those that should be", args_diff_flags,
	 diff_run},
	{"print", "show the rules, and change nothing", args_print_flags, print_run},
	{"bypass", "live exceptions: bypass add NET, bypass del NET, bypass list",
	 args_bypass_flags, bypass_run},
	{"test", "tell whether a flow to ADDRESS:PORT would be taken, and by which rule",
	 args_test_flags, explain_run},
	{"check", "try in about three seconds that all works together", args_check_flags,
	 check_run},
	{"watch", "tell when others change the rules, and who", args_watch_flags, watch_run},
	{.name = NULL},
};

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

void report_init(struct report *r, const char *command, bool as_json)
{
	*r = (struct report){.command = command, .as_json = as_json};
	strbuf_init_heap(&r->text);
	strbuf_init_heap(&r->members);
	json_init(&r->json, &r->members);
	json_object_begin(&r->json, NULL);
	json_string(&r->json, "command", command);
}

void report_warn(struct report *r, const char *fmt, ...)
{
	struct diag *w = &r->warnings[r->n_warnings];
	va_list ap;

	if (r->n_warnings == REPORT_WARNINGS_MAX) {
		diag_set(w - 1, 0, NULL, 0, "there are more warnings than are shown");
		return;
	}
	r->n_warnings++;
	va_start(ap, fmt);
	vsnprintf(w->text, sizeof(w->text), fmt, ap);
	va_end(ap);
}

int report_exit_code(int err)
{
	switch (err) {
	case 0:
		return EX_OK;
	case -EPERM:
	case -EACCES:
		return EX_NOPERM;
	case -EOPNOTSUPP:
		return EX_UNAVAILABLE;
	case -EBUSY:
		return EXIT_BUSY;
	case -ENOTCONN:
	case -ESHUTDOWN: /* it is ending */
		return EXIT_NO_LISTENER;
	default:
		return EXIT_FAILURE;
	}
}

static void report_print_json(struct report *r, int code)
{
	char text[REPORT_TEXT_MAX];

	json_array_begin(&r->json, "warnings");
	for (size_t i = 0; i < r->n_warnings; i++)
		json_string(&r->json, NULL, r->warnings[i].text);
	json_array_end(&r->json);
	if (code != 0)
		json_string(&r->json, "error", diag_format(&r->error, text, sizeof(text)));
	json_int(&r->json, "exit", code);
	json_object_end(&r->json);
	puts(r->members.data);
}

/* What was done is done; that nobody could be told is an error of its own. */
static int report_flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	fprintf(stderr, "transocks-rules: cannot write the result: %s\n", strerror(errno));
	return code != 0 ? code : EXIT_FAILURE;
}

/* Names may come from anybody: nothing in them may steer the terminal. */
static char *harmless(char *text)
{
	for (char *at = text; *at != '\0'; at++) {
		if (((unsigned char)*at < ' ' && *at != '\n' && *at != '\t') || *at == 0x7f)
			*at = '?';
	}
	return text;
}

static void put_warnings(struct report *r)
{
	for (size_t i = 0; i < r->n_warnings; i++)
		fprintf(stderr, "transocks-rules: warning: %s\n", harmless(r->warnings[i].text));
}

void report_print_warnings(struct report *r)
{
	put_warnings(r);
	r->n_warnings = 0;
}

int report_finish(struct report *r, int code)
{
	char text[REPORT_TEXT_MAX];

	if (r->as_json)
		report_print_json(r, code);
	put_warnings(r);
	if (code != 0) {
		diag_format(&r->error, text, sizeof(text));
		fprintf(stderr, "transocks-rules: %s\n", harmless(text));
	}
	if (!r->as_json)
		fputs(harmless(r->text.data), stdout);
	strbuf_free(&r->text);
	strbuf_free(&r->members);
	return report_flush(code);
}
