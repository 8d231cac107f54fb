/* SPDX-License-Identifier: MIT */
#include "policy/toml_depth.h"

#include <stdbool.h>
#include <string.h>

struct scan {
	const char *at, *end;
	int line;
};

static bool scan_at(const struct scan *s, const char *token)
{
	size_t n = strlen(token);

	return (size_t)(s->end - s->at) >= n && memcmp(s->at, token, n) == 0;
}

/* Skips the string that begins at s->at. What ends a line ends a string of one line: the parser will say
 * what is wrong with it. */
static void scan_string(struct scan *s)
{
	char quote = *s->at;
	const char *three = quote == '"' ? "\"\"\"" : "'''";
	bool lines = scan_at(s, three);

	s->at += lines ? 3 : 1;
	for (; s->at < s->end; s->at++) {
		if (*s->at == '\\' && quote == '"' && s->at + 1 < s->end && s->at[1] != '\n')
			s->at++;
		else if (*s->at == '\n' && !lines)
			return;
		else if (*s->at == '\n')
			s->line++;
		else if (*s->at == quote && (!lines || scan_at(s, three)))
			break;
	}
	s->at += s->at < s->end ? (lines ? 3 : 1) : 0;
	/* One or two quotes may stand before the closing three. */
	for (int i = 0; i < 2 && lines && s->at < s->end && *s->at == quote; i++)
		s->at++;
}

int toml_deep_key(const char *text, size_t n)
{
	struct scan s = {.at = text, .end = text + n, .line = 1};
	int dots = 0;

	while (s.at < s.end) {
		switch (*s.at) {
		case '"':
		case '\'':
			scan_string(&s);
			continue;
		case '#':
			while (s.at < s.end && *s.at != '\n')
				s.at++;
			continue;
		case '.':
			if (++dots >= TOML_KEY_PARTS_MAX)
				return s.line;
			break;
		case '\n':
			s.line++;
			dots = 0;
			break;
		case '=':
		case ',':
		case '{':
		case '}':
		case '[':
		case ']':
			dots = 0;
			break;
		}
		s.at++;
	}
	return 0;
}
