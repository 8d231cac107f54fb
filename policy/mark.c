/* SPDX-License-Identifier: MIT */
#include "policy/mark.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Not strtoull() alone: it takes blanks, signs and octal as well. */
static int mark_number(uint32_t *value, const char *text, const char **end)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
	unsigned long long v;

	if (n == 0 || n > 10)
		return -EINVAL;
	v = strtoull(digits, NULL, hex ? 16 : 10);
	if (v > UINT32_MAX)
		return -EINVAL;
	*value = (uint32_t)v;
	*end = digits + n;
	return 0;
}

int mark_parse(struct mark *m, const char *text, const char **why)
{
	struct mark parsed;
	const char *end;
	int r = mark_number(&parsed.value, text, &end);

	parsed.mask = parsed.value != 0 ? UINT32_MAX : 0;
	if (r == 0 && *end == '/')
		r = mark_number(&parsed.mask, end + 1, &end);
	if (r < 0 || *end != '\0') {
		*why = "is not VALUE/MASK or VALUE, numbers of 32 bits such as 0x1000";
		return -EINVAL;
	}
	if (parsed.value & ~parsed.mask) {
		*why = "has bits in its value that are not in its mask";
		return -EINVAL;
	}
	if (parsed.value == 0 && parsed.mask != 0) {
		*why = "would match what nobody has marked; for no mark write 0/0";
		return -EINVAL;
	}
	*m = parsed;
	return 0;
}
