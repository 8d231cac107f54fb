/* SPDX-License-Identifier: MIT */
#include "policy/option_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static const char *const kind_names[] = {
	[TOML_STRING] = "a string",      [TOML_INTEGER] = "an integer", [TOML_FLOAT] = "a float",
	[TOML_BOOLEAN] = "a boolean",    [TOML_ARRAY] = "a list",       [TOML_TABLE] = "a table",
	[TOML_OTHER] = "a date or time",
};

int option_refuse(const struct option *o, const struct toml_item *item, int err, struct diag *d,
		  const char *fmt, ...)
{
	bool flag = strncmp(item->path, "--", 2) == 0;
	char why[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (flag)
		return diag_set(d, err, item->file, item->line, "%s%s", item->path, why);
	return diag_set(d, err, item->file, item->line, "option \"%s\"%s", o->name, why);
}

int option_bad_kind(const struct option *o, const struct toml_item *item, const char *wanted,
		    struct diag *d)
{
	return option_refuse(o, item, EINVAL, d, " wants %s, not %s", wanted,
			     kind_names[item->kind]);
}

int option_out_of_memory(const struct option *o, const struct toml_item *item, struct diag *d)
{
	return option_refuse(o, item, ENOMEM, d, ": out of memory");
}

const char *option_shown(const struct toml_item *item, char out[128])
{
	struct strbuf sb;

	strbuf_init(&sb, out, 128);
	strbuf_put_quoted(&sb, item->string, item->len);
	return out;
}

int option_bad_text(const struct option *o, const struct toml_item *item, const char *why,
		    struct diag *d)
{
	char text[128];

	return option_refuse(o, item, EINVAL, d, ": %s %s", option_shown(item, text), why);
}

bool option_is_clean(const struct toml_item *item)
{
	for (size_t i = 0; i < item->len; i++) {
		if ((unsigned char)item->string[i] < ' ' || item->string[i] == 0x7f)
			return false;
	}
	return true;
}

int option_check_string(const struct option *o, const struct toml_item *item, const char *wanted,
			struct diag *d)
{
	if (item->kind != TOML_STRING)
		return option_bad_kind(o, item, wanted, d);
	if (!option_is_clean(item))
		return option_bad_text(o, item, "contains a control byte", d);
	return 0;
}

int option_check_integer(const struct option *o, const struct toml_item *item, int64_t min,
			 int64_t max, struct diag *d)
{
	if (item->kind != TOML_INTEGER)
		return option_bad_kind(o, item, "an integer", d);
	if (item->integer < min || item->integer > max)
		return option_refuse(o, item, EINVAL, d,
				     ": %" PRId64 " is out of range (%" PRId64 "..%" PRId64 ")",
				     item->integer, min, max);
	return 0;
}

int option_check_entries(const struct option *o, const struct toml_item *item, struct diag *d)
{
	if ((int64_t)item->len >= o->min && (int64_t)item->len <= o->max)
		return 0;
	if (item->len == 0)
		return option_refuse(o, item, EINVAL, d, " is empty: leave it out");
	return option_refuse(o, item, EINVAL, d,
			     ": a list of %zu is out of range (%" PRId64 "..%" PRId64 " entries)",
			     item->len, o->min, o->max);
}

void option_dump_string(struct strbuf *out, const char *text)
{
	strbuf_putc(out, '"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			strbuf_putc(out, '\\');
		strbuf_putc(out, *text);
	}
	strbuf_putc(out, '"');
}

void option_dump_mark(struct strbuf *out, const struct mark *mark)
{
	if (mark->mask == 0)
		strbuf_puts(out, "\"0/0\"");
	else
		strbuf_printf(out, "\"0x%" PRIx32 "/0x%" PRIx32 "\"", mark->value, mark->mask);
}
