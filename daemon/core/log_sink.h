/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where log lines go: a ring for each thread that logs, and the thread that empties the rings into the
 * file. Private to log.c. A line is whole and ends with its only line feed.
 *
 * While the log thread does not run, a line is written at once by the thread that logs it.
 */
#include "daemon/core/log.h"

/* Any thread; does not block while the log thread runs: what finds its ring full is counted. */
void log_sink_put(const char *line, size_t n);

/* Takes `fd` over; what is written from now on goes there. Main thread. */
void log_sink_switch(int fd);

/* As log_start() and log_stop(). */
int log_sink_start(void);
void log_sink_stop(void);

/* In log.c: the line that tells of `n` lost lines; returns its length. */
size_t log_format_dropped(uint64_t n, char out[LOG_LINE_MAX]);
