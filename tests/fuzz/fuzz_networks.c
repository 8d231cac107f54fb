/* SPDX-License-Identifier: MIT */
/*
 * A file of networks and an address to look up, against reading the file line by line for each question. The first
 * byte says 4 or 16 (by its lowest bit), so many bytes are the address; the rest is the file.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/prefix_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Mapped addresses are asked for as what they map. */
static bool network_has(const struct prefix *p, const struct addr *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct addr as_v6 = {.family = AF_INET6};

	if (p->family == AF_INET6 && p->len >= 96 && memcmp(p->ip, mapped, 12) == 0 &&
	    a->family == AF_INET) {
		memcpy(as_v6.ip, mapped, 12);
		memcpy(as_v6.ip + 12, a->ip, 4);
		return prefix_contains(p, &as_v6);
	}
	return prefix_contains(p, a);
}

/* One line of the file: 1 if the address is in it, 0 if not, -1 if it is no network. */
static int ask_line(const char *line, size_t n, const struct addr *a)
{
	const char *comment = memchr(line, '#', n);
	char entry[PREFIX_TEXT_MAX];
	struct prefix p;

	n = comment != NULL ? (size_t)(comment - line) : n;
	for (; n > 0 && memchr(" \t\r\v\f", line[n - 1], 5) != NULL; n--)
		;
	for (; n > 0 && memchr(" \t\r\v\f", line[0], 5) != NULL; n--)
		line++;
	if (n == 0)
		return 0;
	if (n >= sizeof(entry) || memchr(line, '\0', n) != NULL)
		return -1;
	memcpy(entry, line, n);
	entry[n] = '\0';
	if (prefix_parse(&p, entry) < 0)
		return -1;
	return network_has(&p, a);
}

static bool ask_text(const char *text, size_t n, const struct addr *a, int *bad)
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
		int answer = ask_line(text, len, a);

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
	size_t len = size > 0 && data[0] % 2 == 0 ? 4 : 16;
	struct diag d = {.line = 0};
	struct prefix_set *s;
	struct addr a;
	const char *text;
	int bad, rc;
	bool want;

	if (size < 1 + len)
		return 0;
	a = addr_from_bytes(data + 1, len, 0);
	text = (const char *)data + 1 + len;
	size -= 1 + len;
	want = ask_text(text, size, &a, &bad);
	s = prefix_set_new();
	BUG_ON(s == NULL);
	rc = prefix_set_add_text(s, text, size, "file", &d);
	BUG_ON(rc != (bad > 0 ? -EINVAL : 0) || d.line != bad);
	BUG_ON(bad > 0 && d.text[0] == '\0');
	if (bad == 0) {
		BUG_ON(prefix_set_finish(s) != 0);
		BUG_ON(prefix_set_contains(s, &a) != want);
	}
	prefix_set_free(s);
	return 0;
}
