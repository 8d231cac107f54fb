/* SPDX-License-Identifier: MIT */
#include "policy/option_types.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "policy/conf.h"
#include "policy/duration.h"
#include "policy/nearest.h"
#include "policy/option_check.h"

/* integer */

static int integer_set(const struct option *o, void *field, const struct toml_item *item,
		       struct diag *d)
{
	int r = option_check_integer(o, item, o->min, o->max, d);

	if (r == 0)
		*(unsigned *)field = (unsigned)item->integer;
	return r;
}

static void integer_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	strbuf_printf(out, "%u", *(const unsigned *)field);
}

const struct option_type option_integer = {
	.name = "integer", .argument = "NUMBER", .set = integer_set, .dump = integer_dump};

/* signed */

static int signed_set(const struct option *o, void *field, const struct toml_item *item,
		      struct diag *d)
{
	int r = option_check_integer(o, item, o->min, o->max, d);

	if (r == 0)
		*(int *)field = (int)item->integer;
	return r;
}

static void signed_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	strbuf_printf(out, "%d", *(const int *)field);
}

const struct option_type option_signed = {
	.name = "integer", .argument = "NUMBER", .set = signed_set, .dump = signed_dump};

/* port */

static int port_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	int r = option_check_integer(o, item, 1, UINT16_MAX, d);

	if (r == 0)
		*(uint16_t *)field = (uint16_t)item->integer;
	return r;
}

static void port_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	strbuf_printf(out, "%u", *(const uint16_t *)field);
}

const struct option_type option_port = {
	.name = "integer", .argument = "PORT", .set = port_set, .dump = port_dump};

/* string */

static int string_set(const struct option *o, void *field, const struct toml_item *item,
		      struct diag *d)
{
	int r = option_check_string(o, item, "a string", d);
	char *copy;

	if (r < 0)
		return r;
	if ((int64_t)item->len < o->min || (int64_t)item->len > o->max)
		return option_refuse(o, item, EINVAL, d,
				     ": length %zu is out of range (%" PRId64 "..%" PRId64
				     " bytes)",
				     item->len, o->min, o->max);
	copy = strdup(item->string);
	if (copy == NULL)
		return option_out_of_memory(o, item, d);
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static void string_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const char *text = *(char *const *)field;

	(void)o;
	if (text != NULL)
		option_dump_string(out, text);
}

static void string_release(const struct option *o, void *field)
{
	(void)o;
	free(*(char **)field);
	*(char **)field = NULL;
}

const struct option_type option_string = {.name = "string",
					  .argument = "TEXT",
					  .set = string_set,
					  .dump = string_dump,
					  .release = string_release};

/* word */

int option_word_index(const char *const *words, const char *const *aliases, const char *text)
{
	for (; aliases != NULL && *aliases != NULL; aliases += 2) {
		if (strcmp(aliases[0], text) == 0)
			text = aliases[1];
	}
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], text) == 0)
			return i;
	}
	return -1;
}

/* An enum without negative values is an unsigned int under gcc and clang. */
_Static_assert(sizeof(enum log_level) == sizeof(unsigned), "enums are stored as unsigned");

/* "red" is not one of: ... */
static int word_refuse(const struct option *o, const struct toml_item *item, struct diag *d)
{
	const char *near = nearest_word(item->string, o->words);
	char list[256], text[128];
	struct strbuf sb;

	strbuf_init(&sb, list, sizeof(list));
	for (size_t i = 0; o->words[i] != NULL; i++)
		strbuf_printf(&sb, "%s%s", i > 0 ? ", " : "", o->words[i]);
	if (near != NULL)
		strbuf_printf(&sb, "; did you mean \"%s\"?", near);
	return option_refuse(o, item, EINVAL, d, ": %s is not one of: %s", option_shown(item, text),
			     list);
}

static int word_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	unsigned value;
	int r, index;

	r = option_check_string(o, item, "a string", d);
	if (r < 0)
		return r;
	index = option_word_index(o->words, o->aliases, item->string);
	if (index < 0)
		return word_refuse(o, item, d);
	value = (unsigned)index;
	memcpy(field, &value, sizeof(value));
	return 0;
}

static void word_dump(const struct option *o, const void *field, struct strbuf *out)
{
	unsigned value;

	memcpy(&value, field, sizeof(value));
	option_dump_string(out, o->words[value]);
}

const struct option_type option_word = {
	.name = "string", .argument = "WORD", .set = word_set, .dump = word_dump};

/* word set */

static int word_set_set(const struct option *o, void *field, const struct toml_item *item,
			struct diag *d)
{
	unsigned value = 0;
	int r, index;

	if (item->kind != TOML_ARRAY)
		return option_bad_kind(o, item, "a list of strings", d);
	r = option_check_entries(o, item, d);
	for (size_t i = 0; i < item->len && r == 0; i++) {
		const struct toml_item *word = &item->elements[i];

		r = option_check_string(o, word, "strings in its list", d);
		index = r == 0 ? option_word_index(o->words, o->aliases, word->string) : 0;
		if (index < 0)
			r = word_refuse(o, word, d);
		else
			value |= 1u << index;
	}
	if (r == 0)
		*(unsigned *)field = value;
	return r;
}

static void word_set_dump(const struct option *o, const void *field, struct strbuf *out)
{
	unsigned value = *(const unsigned *)field;
	const char *before = "";

	strbuf_putc(out, '[');
	for (unsigned i = 0; o->words[i] != NULL; i++) {
		if (!(value & 1u << i))
			continue;
		strbuf_puts(out, before);
		option_dump_string(out, o->words[i]);
		before = ", ";
	}
	strbuf_putc(out, ']');
}

const struct option_type option_word_set = {.name = "list of strings",
					    .argument = "WORD,...",
					    .set = word_set_set,
					    .dump = word_set_dump};

/* duration */

static int duration_set(const struct option *o, void *field, const struct toml_item *item,
			struct diag *d)
{
	char range[64];
	struct strbuf sb;
	int64_t ms = 0;
	int r;

	if (item->kind == TOML_INTEGER && item->integer != 0)
		return option_refuse(o, item, EINVAL, d,
				     ": write a unit, such as \"%" PRId64 "s\" (ms, s, m, h)",
				     item->integer);
	if (item->kind != TOML_INTEGER) {
		r = option_check_string(o, item, "a duration such as \"5s\"", d);
		if (r < 0)
			return r;
		if (duration_parse(&ms, item->string) < 0)
			return option_bad_text(
				o, item, "is not a duration such as \"250ms\", \"5s\", \"1h30m\"",
				d);
	}
	if (ms < o->min || ms > o->max) {
		strbuf_init(&sb, range, sizeof(range));
		duration_put(&sb, o->min);
		strbuf_puts(&sb, "..");
		duration_put(&sb, o->max);
		return option_refuse(o, item, EINVAL, d, ": the duration is out of range (%s)",
				     range);
	}
	*(int64_t *)field = ms;
	return 0;
}

static void duration_dump(const struct option *o, const void *field, struct strbuf *out)
{
	int64_t ms = *(const int64_t *)field;

	(void)o;
	if (ms == 0) {
		strbuf_putc(out, '0');
		return;
	}
	strbuf_putc(out, '"');
	duration_put(out, ms);
	strbuf_putc(out, '"');
}

const struct option_type option_duration = {
	.name = "duration", .argument = "TIME", .set = duration_set, .dump = duration_dump};

/* mark */

static int mark_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	const char *why;
	int r = option_check_string(o, item, "a string such as \"" DEFAULT_MARK_TEXT "\"", d);

	if (r < 0)
		return r;
	return mark_parse(field, item->string, &why) < 0 ? option_bad_text(o, item, why, d) : 0;
}

static void mark_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	option_dump_mark(out, field);
}

const struct option_type option_mark = {
	.name = "string", .argument = "VALUE/MASK", .set = mark_set, .dump = mark_dump};

/* proxy URL */

static int proxy_url_set(const struct option *o, void *field, const struct toml_item *item,
			 struct diag *d)
{
	struct diag why;
	int r;

	if (item->kind != TOML_STRING)
		return option_bad_kind(o, item, "a string such as \"socks5://host:1080\"", d);
	if (!option_is_clean(item))
		return option_refuse(o, item, EINVAL, d, ": contains a control byte");
	r = proxy_url_parse(field, item->string, &why);
	if (r < 0) /* the value is not shown: it may hold a password */
		return option_refuse(o, item, -r, d, ": %s", why.text);
	return 0;
}

static void proxy_url_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const struct proxy_url *url = field;

	(void)o;
	if (url->scheme == PROXY_NONE)
		return;
	strbuf_putc(out, '"'); /* everything that would need an escape is percent-encoded */
	proxy_url_write(url, out);
	strbuf_putc(out, '"');
}

const struct option_type option_proxy_url = {
	.name = "string", .argument = "URL", .set = proxy_url_set, .dump = proxy_url_dump};
