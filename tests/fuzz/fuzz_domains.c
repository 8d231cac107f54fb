/* SPDX-License-Identifier: MIT */
/*
 * A file of domains and a name to look up, against reading the file line by line for each question. The first
 * byte is the length of the name, which follows; the rest is the file.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/domain_set.h"
#include "policy/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One line of the file: 1 if it is about the name, 0 if not, -1 if it is no entry. */
static int ask_line(const char *line, size_t n, const char *name)
{
	char entry[NAME_MAX_LEN + 1];
	const char *comment = memchr(line, '#', n);
	size_t len = strlen(name), entry_len;
	struct addr addr;
	bool below;

	n = comment != NULL ? (size_t)(comment - line) : n;
	for (; n > 0 && memchr(" \t\r\v\f", line[n - 1], 5) != NULL; n--)
		;
	for (; n > 0 && memchr(" \t\r\v\f", line[0], 5) != NULL; n--)
		line++;
	if (n == 0)
		return 0;
	below = line[0] == '.';
	if (name_normalise(line + below, n - below, entry, &addr) != 0)
		return -1;
	entry_len = strlen(entry);
	if (strcmp(name, entry) == 0)
		return 1;
	return below && len > entry_len && name[len - entry_len - 1] == '.' &&
	       strcmp(name + len - entry_len, entry) == 0;
}

/* Whether some line is about it; *bad is the first line that is no entry, or 0. */
static bool ask_text(const char *text, size_t n, const char *name, int *bad)
{
	bool found = false;
	int number = 0;

	*bad = 0;
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		n -= 3;
	}
	while (n > 0 && *bad == 0) {
		const char *lf = memchr(text, '\n', n);
		size_t len = lf != NULL ? (size_t)(lf - text) : n;
		int answer = ask_line(text, len, name);

		number++;
		if (answer < 0)
			*bad = number;
		found = found || answer > 0;
		len += lf != NULL;
		text += len;
		n -= len;
	}
	return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[NAME_MAX_LEN + 1];
	struct domain_set *s;
	struct diag d = {.line = 0};
	struct addr addr;
	size_t len = size > 0 ? data[0] : 0;
	const char *text;
	int bad, rc;
	bool want;

	if (size < 1 + len || name_normalise((const char *)data + 1, len, name, &addr) != 0)
		return 0;
	text = (const char *)data + 1 + len;
	size -= 1 + len;
	want = ask_text(text, size, name, &bad);
	s = domain_set_new();
	BUG_ON(s == NULL);
	rc = domain_set_add_text(s, text, size, "file", &d);
	BUG_ON(rc != (bad > 0 ? -EINVAL : 0) || d.line != bad);
	BUG_ON(bad > 0 && d.text[0] == '\0');
	for (const char *c = d.text; bad > 0 && *c != '\0'; c++)
		BUG_ON((unsigned char)*c < ' ' || *c == 0x7f);
	BUG_ON(bad == 0 && domain_set_contains(s, name) != want);
	domain_set_free(s);
	return 0;
}
