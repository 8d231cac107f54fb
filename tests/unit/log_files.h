/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * For the tests of the log: a directory of their own for log files, and reading them. Include it
 * after cmocka.h.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/log.h"
#include "tests/unit/temp_files.h"

static char dir[TEMP_DIR_MAX];

static inline const char *path_of(const char *name)
{
	static char path[2][TEMP_DIR_MAX + 64];
	static unsigned turn;
	char *out = path[turn++ % 2];

	snprintf(out, sizeof(path[0]), "%s/%s", dir, name);
	return out;
}

static inline void configure(const char *filename, enum log_level level, enum log_format format)
{
	struct diag d;

	if (log_configure("prog", level, format, filename, &d) != 0)
		fail_msg("%s: %s", d.file, d.text);
}

/* The whole file as a string, to be freed by the caller. */
static inline char *slurp(int fd, size_t *len)
{
	struct strbuf sb;
	char chunk[65536];
	ssize_t n;

	strbuf_init_heap(&sb);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		strbuf_put(&sb, chunk, (size_t)n);
	assert_int_equal(n, 0);
	strbuf_putc(&sb, '\0');
	*len = sb.len - 1;
	return sb.data;
}

static inline char *slurp_file(const char *name, size_t *len)
{
	int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
	char *text;

	assert_true(fd >= 0);
	text = slurp(fd, len);
	close(fd);
	return text;
}

static inline size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; (text = strchr(text, '\n')) != NULL; text++)
		n++;
	return n;
}

static inline int make_dir(void **state)
{
	(void)state;
	return temp_dir_make(dir, "test_log");
}

static inline int remove_dir(void **state)
{
	(void)state;
	return temp_dir_remove(dir);
}
