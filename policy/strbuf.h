/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A string that grows by appending: over memory of the caller (what does not fit is cut, and
 * `truncated` says so) or on the heap (`truncated` then means that memory ran out). The text is
 * always NUL-terminated. One owner, one thread.
 */
#include <stdbool.h>

#include "policy/defs.h"

struct strbuf {
	char *data;
	size_t len; /* bytes without the NUL */
	size_t cap; /* bytes with the NUL */
	bool heap;
	bool truncated;
};

/* The ending of a word that counts `n`: "%zu flow%s". */
static inline const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

/* `cap` >= 1 bytes at `mem`, which outlive the strbuf. */
void strbuf_init(struct strbuf *sb, char *mem, size_t cap);

/* On the heap; strbuf_free() releases it. */
void strbuf_init_heap(struct strbuf *sb);
void strbuf_free(struct strbuf *sb);

void strbuf_put(struct strbuf *sb, const void *bytes, size_t n);
void strbuf_puts(struct strbuf *sb, const char *text);
void strbuf_putc(struct strbuf *sb, char c);
void strbuf_printf(struct strbuf *sb, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Appends the bytes between double quotes as a JSON string (RFC 8259 section 7). Valid UTF-8 stays as it is,
 * except for what controls a line, a terminal or the direction of text: that is written as \uXXXX, and
 * bytes that are no UTF-8 as \u00XX, so that nothing from outside can forge a line or a terminal sequence. */
void strbuf_put_quoted(struct strbuf *sb, const char *bytes, size_t n);
