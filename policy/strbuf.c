/* SPDX-License-Identifier: MIT */
#include "policy/strbuf.h"

#include <stdarg.h>
#include <string.h>

#include "policy/utf8.h"

void strbuf_init(struct strbuf *sb, char *mem, size_t cap)
{
	*sb = (struct strbuf){.data = mem, .cap = cap};
	mem[0] = '\0';
}

void strbuf_init_heap(struct strbuf *sb)
{
	static char empty[1];

	*sb = (struct strbuf){.data = empty, .cap = 0, .heap = true};
}

void strbuf_free(struct strbuf *sb)
{
	if (sb->heap && sb->cap > 0)
		free(sb->data);
	strbuf_init_heap(sb);
}

/* Makes room for `n` more bytes and the NUL; returns how many of them may be written. */
static size_t strbuf_room(struct strbuf *sb, size_t n)
{
	size_t cap = sb->cap > 0 ? sb->cap : 256;
	char *data;

	if (sb->heap && sb->len + n + 1 > sb->cap) {
		while (cap < sb->len + n + 1)
			cap *= 2;
		data = realloc(sb->cap > 0 ? sb->data : NULL, cap);
		if (data != NULL) {
			sb->data = data;
			sb->cap = cap;
		}
	}
	if (sb->len + n + 1 > sb->cap) {
		sb->truncated = true;
		n = sb->cap > sb->len ? sb->cap - sb->len - 1 : 0;
	}
	return n;
}

void strbuf_put(struct strbuf *sb, const void *bytes, size_t n)
{
	n = strbuf_room(sb, n);
	if (n == 0)
		return;
	memcpy(sb->data + sb->len, bytes, n);
	sb->len += n;
	sb->data[sb->len] = '\0';
}

void strbuf_puts(struct strbuf *sb, const char *text)
{
	strbuf_put(sb, text, strlen(text));
}

void strbuf_putc(struct strbuf *sb, char c)
{
	strbuf_put(sb, &c, 1);
}

void strbuf_printf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap;
	size_t room;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n <= 0)
		return;
	room = strbuf_room(sb, (size_t)n);
	if (room == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(sb->data + sb->len, room + 1, fmt, ap);
	va_end(ap);
	sb->len += room;
}

/* Neither moves a terminal's cursor nor the order in which it shows text. */
static bool is_harmless(uint32_t code)
{
	return code >= 0xa0 && code != 0x061c && !(code >= 0x200b && code <= 0x200f) &&
	       !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2060 && code <= 0x206f) &&
	       code != 0xfeff;
}

void strbuf_put_quoted(struct strbuf *sb, const char *bytes, size_t n)
{
	uint32_t code = 0;
	size_t len;

	strbuf_putc(sb, '"');
	for (size_t i = 0; i < n; i += len) {
		unsigned char c = (unsigned char)bytes[i];

		len = utf8_decode(bytes + i, n - i, &code);
		if (len > 1) {
			if (!is_harmless(code))
				strbuf_printf(sb, "\\u%04x", (unsigned)code);
			else if (strbuf_room(sb, len) == len)
				strbuf_put(sb, bytes + i, len);
			continue;
		}
		len = 1;
		if (c == '"' || c == '\\') {
			strbuf_putc(sb, '\\');
			strbuf_putc(sb, (char)c);
		} else if (c == '\n') {
			strbuf_puts(sb, "\\n");
		} else if (c < 0x20 || c > 0x7e) {
			strbuf_printf(sb, "\\u%04x", c);
		} else {
			strbuf_putc(sb, (char)c);
		}
	}
	strbuf_putc(sb, '"');
}
