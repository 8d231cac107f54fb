/* SPDX-License-Identifier: MIT */
#include "policy/duration.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "policy/defs.h"

static const struct duration_unit {
	const char *name;
	int64_t ms;
} duration_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

int duration_parse(int64_t *ms, const char *text)
{
	int64_t sum = 0;
	size_t next = 0; /* the longest unit that may still come */

	if (*text == '\0')
		return -EINVAL;
	while (*text != '\0') {
		size_t ndigits = strspn(text, "0123456789"), len, unit;
		int64_t value = 0;

		if (ndigits == 0 || ndigits > 9) /* 9 digits of hours fit well into 63 bits */
			return -EINVAL;
		for (size_t i = 0; i < ndigits; i++)
			value = value * 10 + (text[i] - '0');
		text += ndigits;
		len = strcspn(text, "0123456789");
		for (unit = next; unit < ARRAY_LEN(duration_units); unit++) {
			if (strlen(duration_units[unit].name) == len &&
			    strncmp(duration_units[unit].name, text, len) == 0)
				break;
		}
		if (unit == ARRAY_LEN(duration_units))
			return -EINVAL;
		sum += value * duration_units[unit].ms;
		next = unit + 1;
		text += len;
	}
	*ms = sum;
	return 0;
}

void duration_put(struct strbuf *out, int64_t ms)
{
	if (ms == 0)
		strbuf_puts(out, "0s");
	for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
		int64_t value = ms / duration_units[i].ms;

		if (value > 0)
			strbuf_printf(out, "%" PRId64 "%s", value, duration_units[i].name);
		ms %= duration_units[i].ms;
	}
}
