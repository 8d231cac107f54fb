/* SPDX-License-Identifier: MIT */
#include "policy/entries.h"

#include <string.h>

#include "policy/strbuf.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

void entries_init(struct entries *e, const char *text, size_t n)
{
	static const char mark[] = "\xef\xbb\xbf";
	size_t skip = n >= 3 && memcmp(text, mark, 3) == 0 ? 3 : 0;

	*e = (struct entries){.at = text + skip, .end = text + n};
}

/* What is left of a line without its comment and the blanks around. */
static void entries_trim(struct entries *e, const char *first, const char *end)
{
	const char *comment = memchr(first, '#', (size_t)(end - first));

	if (comment != NULL)
		end = comment;
	while (first < end && is_blank(*first))
		first++;
	while (end > first && is_blank(end[-1]))
		end--;
	e->entry = first;
	e->len = (size_t)(end - first);
}

bool entries_next(struct entries *e)
{
	while (e->at < e->end) {
		const char *lf = memchr(e->at, '\n', (size_t)(e->end - e->at));
		const char *end = lf != NULL ? lf : e->end;

		e->line++;
		entries_trim(e, e->at, end);
		e->at = lf != NULL ? lf + 1 : end;
		if (e->len > 0)
			return true;
	}
	return false;
}

const char *entry_shown(const char *entry, size_t n, char out[ENTRY_SHOWN_MAX])
{
	struct strbuf sb;

	strbuf_init(&sb, out, ENTRY_SHOWN_MAX);
	strbuf_put_quoted(&sb, entry, n < ENTRY_SHOWN_MAX ? n : ENTRY_SHOWN_MAX);
	return out;
}
