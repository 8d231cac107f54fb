/* SPDX-License-Identifier: MIT */
#include "rulemgr/diff.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

static const char *const kind_words[] = {
	[DIFF_MISSING] = "missing",
	[DIFF_EXTRA] = "extra",
	[DIFF_MOVED] = "moved",
	[DIFF_ALTERED] = "altered",
};

static const char *const object_words[] = {
	[DIFF_TABLE] = "table", [DIFF_SET] = "set",   [DIFF_ELEMENT] = "element",
	[DIFF_CHAIN] = "chain", [DIFF_RULE] = "rule",
};

/* Anybody may name things: quoted, unless it is a plain word. */
static void put_name(struct strbuf *out, const char *name)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t len = strlen(name);

	if (len > 0 && strspn(name, plain) == len)
		strbuf_puts(out, name);
	else
		strbuf_put_quoted(out, name, len);
}

static void put_text(struct strbuf *out, const char *text)
{
	for (const char *at = text; *at != '\0'; at++)
		strbuf_putc(out, *at >= ' ' && *at <= '~' ? *at : '?');
}

static void put_object(const struct difference *d, struct strbuf *out)
{
	switch (d->object) {
	case DIFF_TABLE:
		strbuf_puts(out, "table " MODEL_TABLE_TEXT);
		break;
	case DIFF_SET:
	case DIFF_CHAIN:
		strbuf_printf(out, "%s ", object_words[d->object]);
		put_name(out, d->name);
		break;
	case DIFF_ELEMENT:
		strbuf_puts(out, "element ");
		put_text(out, d->element);
		strbuf_puts(out, " of set ");
		put_name(out, d->name);
		break;
	case DIFF_RULE:
		strbuf_printf(out, "rule %zu ", d->number);
		if (d->comment[0] != '\0')
			strbuf_put_quoted(out, d->comment, strlen(d->comment));
		else
			strbuf_puts(out, "without comment");
		strbuf_puts(out, " of chain ");
		put_name(out, d->name);
		break;
	}
}

static void put_extra(const struct difference *d, struct strbuf *out)
{
	const char *cause = difference_cause(d);

	if (cause != NULL)
		strbuf_printf(out, "there because of `%s`", cause);
	else
		strbuf_puts(out, "there, but not configured");
}

/* The beginning of a sentence about a property; what an expression does is a sentence of its own. */
static const char *const openings[][2] = {
	{"expression", ""},
	{"expressions", ""},
	{"redirect port", "redirects to port "},
	{"port", "is about port "},
	{"uid", "is about uid "},
	{"mark", "is about mark "},
	{"mark set", "sets mark "},
};

static void put_altered(const struct difference *d, struct strbuf *out)
{
	size_t i = 0;

	while (i < ARRAY_LEN(openings) && strcmp(openings[i][0], d->property) != 0)
		i++;
	if (i < ARRAY_LEN(openings))
		strbuf_puts(out, openings[i][1]);
	else
		strbuf_printf(out, "%s is ", d->property);
	put_text(out, d->have[0] != '\0' ? d->have : "nothing");
	strbuf_puts(out, ", configured: ");
	put_text(out, d->want[0] != '\0' ? d->want : "nothing");
}

void difference_format(const struct difference *d, struct strbuf *out)
{
	put_object(d, out);
	strbuf_puts(out, ": ");
	switch (d->kind) {
	case DIFF_MISSING:
		strbuf_puts(out, "missing");
		break;
	case DIFF_EXTRA:
		put_extra(d, out);
		break;
	case DIFF_MOVED:
		strbuf_puts(out, "not where it belongs");
		break;
	case DIFF_ALTERED:
		put_altered(d, out);
		break;
	}
}

static void put_json(const struct difference *d, struct json *j)
{
	json_object_begin(j, NULL);
	json_string(j, "kind", kind_words[d->kind]);
	json_string(j, "object", object_words[d->object]);
	if (d->object == DIFF_SET || d->object == DIFF_ELEMENT)
		json_string(j, "set", d->name);
	if (d->object == DIFF_CHAIN || d->object == DIFF_RULE)
		json_string(j, "chain", d->name);
	if (d->object == DIFF_ELEMENT)
		json_string(j, "element", d->element);
	if (d->object == DIFF_RULE)
		json_uint(j, "number", d->number);
	if (d->comment[0] != '\0')
		json_string(j, "comment", d->comment);
	if (d->kind == DIFF_ALTERED) {
		json_string(j, "property", d->property);
		json_string(j, "want", d->want);
		json_string(j, "have", d->have);
	}
	json_object_end(j);
}

void diff_put_json(const struct diff *d, struct json *j, const char *key)
{
	json_array_begin(j, key);
	for (size_t i = 0; i < d->n; i++)
		put_json(&d->items[i], j);
	json_array_end(j);
}
