/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The log: one line for one event, in the formats and levels of the Go programs (plain, logfmt, json).
 *
 * A line is built on the stack and handed over whole. Before log_start() it is written at once; after
 * it, each thread has a ring of its own (no lock between workers) that a log thread empties, so that
 * a slow disk or reader never stops a flow. A full ring drops lines and counts them; the count is
 * logged when there is room again. Any thread may log.
 *
 * Fields (in this order): topic, logged_at (UTC, microseconds), severity, utsname, message, then those
 * of the event. plain: `TIME HOST TOPIC SEVERITY: "message" key=value ...`. Values from outside are
 * escaped (strbuf_put_quoted). A line is at most LOG_LINE_MAX bytes; one that was cut to that ends
 * with `truncated=true` and still is a line of its format.
 */
#include <stdatomic.h>
#include <sys/types.h>

#include "policy/addr.h"
#include "policy/conf.h"
#include "policy/json.h"
#include "policy/strbuf.h"

#define LOG_LINE_MAX 2048

/* Sets topic (a constant), level, format and file ("" is standard error). At start-up and at every
 * reload, on the main thread; lines that are still queued go to the new file. The file is opened only
 * if its name has changed: log_reopen() is for the rest. A file that cannot be opened: -errno with `d`,
 * and everything stays as it was. */
int log_configure(const char *topic, enum log_level level, enum log_format format,
		  const char *filename, struct diag *d);
/* Makes the file belong to the user that the daemon is about to become, who may have to open it again; a
 * link, or anything but a file, stays what it is. 0 or -errno with `d`. */
int log_give(uid_t uid, gid_t gid, struct diag *d);
/* Opens the file again by its name (after rotation). 0 or -errno; on failure the old one stays. */
int log_reopen(struct diag *d);

/* Starts the log thread; before the workers, after fork and privilege changes. 0 or -errno. */
int log_start(void);
/* Writes out what is queued, ends the thread and closes the file. Later lines are written to
 * standard error at once. Where writing blocks, it gives up after a second and the rest is lost. */
void log_stop(void);

bool log_enabled(enum log_level level);

struct log_line {
	enum log_level level;
	enum log_format format;
	struct strbuf text;
	struct json json;
	char mem[LOG_LINE_MAX];
};

/* Begins a line; false (nothing to do) if the level is not logged. The message is ours: a constant
 * sentence, the variable parts are fields. */
bool log_begin(struct log_line *l, enum log_level level, const char *message);
void log_add(struct log_line *l, const char *key, const char *text);
void log_add_uint(struct log_line *l, const char *key, uint64_t value);
/* Milliseconds, written in seconds with three decimals, as the Go programs' `elapsed`. */
void log_add_elapsed(struct log_line *l, const char *key, uint64_t ms);
/* "addr:port" */
void log_add_addr(struct log_line *l, const char *key, const struct addr *a);
void log_end(struct log_line *l);

/* For what may come at any rate, in any thread: true once a second. `*last_ms` is 0 at first, `now_ms` the loop's. */
bool log_once_a_second(atomic_uint_fast64_t *last_ms, uint64_t now_ms);

/* A line that is only a message; it may carry variable parts (escaped like any value). */
void log_text(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
