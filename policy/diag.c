/* SPDX-License-Identifier: MIT */
#include "policy/diag.h"

#include <errno.h>
#include <stdarg.h>

int diag_set(struct diag *d, int err, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	if (d != NULL) {
		snprintf(d->file, sizeof(d->file), "%s", file != NULL ? file : "");
		d->line = line;
		va_start(ap, fmt);
		vsnprintf(d->text, sizeof(d->text), fmt, ap);
		va_end(ap);
	}
	return -err;
}

int diag_no_memory(struct diag *d)
{
	return diag_set(d, ENOMEM, NULL, 0, "out of memory");
}

const char *diag_format(const struct diag *d, char *out, size_t cap)
{
	if (d->file[0] == '\0')
		snprintf(out, cap, "%s", d->text);
	else if (d->line == 0)
		snprintf(out, cap, "%s: %s", d->file, d->text);
	else
		snprintf(out, cap, "%s:%d: %s", d->file, d->line, d->text);
	return out;
}
