/* SPDX-License-Identifier: MIT */
#include "policy/option.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "policy/nearest.h"

#define NAMES_MAX 128

static void *option_field(const struct option *o, void *conf)
{
	return (char *)conf + o->offset;
}

const struct option *option_find(const struct option *table, const char *path)
{
	for (const struct option *o = table; o->name != NULL; o++) {
		if (strcasecmp(o->name, path) == 0)
			return o;
	}
	return NULL;
}

/* Whether options live below `path`: "log" is a table because of "log.level". */
static bool option_is_table(const struct option *table, const char *path)
{
	size_t n = strlen(path);

	for (const struct option *o = table; o->name != NULL; o++) {
		if (strncasecmp(o->name, path, n) == 0 && o->name[n] == '.')
			return true;
	}
	return false;
}

static int option_unknown(const struct option *table, const struct toml_item *item, struct diag *d)
{
	const char *names[NAMES_MAX + 1] = {NULL};
	const char *near;
	size_t n = 0;

	if (option_is_table(table, item->path))
		return diag_set(d, EINVAL, item->file, item->line,
				"\"%s\" is a table: write [%s] and its options below", item->path,
				item->path);
	for (const struct option *o = table; o->name != NULL; o++) {
		BUG_ON(n == NAMES_MAX);
		names[n++] = o->name;
	}
	near = nearest_word(item->path, names);
	if (near != NULL)
		return diag_set(d, EINVAL, item->file, item->line,
				"unknown option \"%s\"; did you mean \"%s\"?", item->path, near);
	return diag_set(d, EINVAL, item->file, item->line, "unknown option \"%s\"", item->path);
}

bool option_is_known(const struct option *table, const struct toml_item *item)
{
	return option_find(table, item->path) != NULL || option_is_table(table, item->path);
}

int option_set(const struct option *table, void *conf, const struct toml_item *item, struct diag *d)
{
	const struct option *o = option_find(table, item->path);

	if (o != NULL)
		return o->type->set(o, option_field(o, conf), item, d);
	if (item->kind == TOML_TABLE && option_is_table(table, item->path))
		return 0; /* a [header] with nothing below it */
	return option_unknown(table, item, d);
}

/* By path, and of one path by line. */
static int item_compare(const void *a, const void *b)
{
	const struct toml_item *const *x = a, *const *y = b;
	int order = strcasecmp((*x)->path, (*y)->path);

	return order != 0 ? order : (*x > *y) - (*x < *y);
}

int option_check_twice(const struct toml_item *items, size_t n, struct diag *d)
{
	const struct toml_item **sorted = calloc(n + 1, sizeof(*sorted)), *first = NULL,
			       *second = NULL;

	if (sorted == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	for (size_t i = 0; i < n; i++)
		sorted[i] = &items[i];
	qsort(sorted, n, sizeof(*sorted), item_compare);
	for (size_t i = 1; i < n; i++) {
		if (strcasecmp(sorted[i - 1]->path, sorted[i]->path) == 0 &&
		    (second == NULL || sorted[i] < second)) {
			first = sorted[i - 1];
			second = sorted[i];
		}
	}
	free(sorted);
	if (second == NULL)
		return 0;
	return diag_set(d, EINVAL, second->file, second->line,
			"option \"%s\" is already set in line %d (letter case does not count)",
			second->path, first->line);
}

int option_set_all(const struct option *table, void *conf, const struct toml_doc *doc,
		   struct diag *d)
{
	size_t n;
	const struct toml_item *items = toml_items(doc, &n);
	int r = option_check_twice(items, n, d);

	for (size_t i = 0; i < n && r == 0; i++)
		r = option_set(table, conf, &items[i], d);
	return r;
}

int option_set_defaults(const struct option *table, void *conf)
{
	struct toml_doc *doc = NULL;
	struct strbuf text;
	struct diag d = {0};
	int r = -ENOMEM;

	strbuf_init_heap(&text);
	for (const struct option *o = table; o->name != NULL; o++) {
		if (o->def != NULL)
			strbuf_printf(&text, "%s = %s\n", o->name, o->def);
	}
	if (!text.truncated)
		r = toml_parse(text.data, text.len, "defaults", &doc, &d);
	if (r == 0)
		r = option_set_all(table, conf, doc, &d);
	if (r == -EINVAL)
		fprintf(stderr, "%s:%d: %s\n", d.file, d.line, d.text);
	BUG_ON(r == -EINVAL);
	toml_free(doc);
	strbuf_free(&text);
	return r;
}

/* The parts of all values between commas: how many there are, and copies of them if `out` is not NULL
 * (to be freed, each); -ENOMEM. */
static int split_values(const char *const *values, size_t n, const char *label,
			struct toml_item *out)
{
	int parts = 0;

	for (size_t i = 0; i < n; i++) {
		const char *at = values[i];

		while (*values[i] != '\0') {
			size_t len = strcspn(at, ",");
			char *copy = out != NULL ? strndup(at, len) : NULL;

			if (out != NULL && copy == NULL)
				return -ENOMEM;
			if (out != NULL)
				out[parts] = (struct toml_item){.path = label,
								.kind = TOML_STRING,
								.string = copy,
								.len = len};
			parts++;
			if (at[len] == '\0')
				break;
			at += len + 1;
		}
	}
	return parts;
}

static int option_set_list(const struct option *o, void *conf, const char *label,
			   const char *const *values, size_t n, struct diag *d)
{
	struct toml_item list = {.path = label, .kind = TOML_ARRAY};
	size_t parts = (size_t)split_values(values, n, label, NULL);
	struct toml_item *items = calloc(parts + 1, sizeof(*items));
	int r = -ENOMEM;

	list.elements = items;
	list.len = parts;
	if (items != NULL)
		r = split_values(values, n, label, items);
	if (r >= 0)
		r = o->type->set(o, option_field(o, conf), &list, d);
	else
		diag_set(d, ENOMEM, NULL, 0, "out of memory");
	for (size_t i = 0; items != NULL && i < parts; i++)
		free((char *)items[i].string);
	free(items);
	return r;
}

/* An integer is a number on the command line as in the file; all else is a string. */
static bool is_integer(const struct option *o, const char *text, int64_t *value)
{
	size_t sign = text[0] == '-', digits = strspn(text + sign, "0123456789");

	if (strcmp(o->type->name, "integer") != 0 || digits == 0 || digits > 18 ||
	    text[sign + digits] != '\0')
		return false;
	*value = strtoll(text, NULL, 10);
	return true;
}

int option_set_values(const struct option *table, void *conf, const char *name, const char *label,
		      const char *const *values, size_t n, struct diag *d)
{
	const struct option *o = option_find(table, name);
	struct toml_item item = {.path = label, .kind = TOML_STRING};

	BUG_ON(o == NULL || n == 0);
	if (o->type->list != NULL)
		return option_set_list(o, conf, label, values, n, d);
	item.string = values[n - 1];
	item.len = strlen(item.string);
	if (is_integer(o, item.string, &item.integer))
		item.kind = TOML_INTEGER;
	return o->type->set(o, option_field(o, conf), &item, d);
}

static size_t table_len(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot != NULL ? (size_t)(dot - name) : 0;
}

static void option_dump_row(const struct option *o, const void *conf, bool help, struct strbuf *out)
{
	size_t prefix = table_len(o->name);
	const char *key = o->name + prefix + (prefix > 0);
	struct strbuf value;

	strbuf_init_heap(&value);
	o->type->dump(o, (const char *)conf + o->offset, &value);
	out->truncated |= value.truncated;
	if (help)
		strbuf_printf(out, "# %s\n", o->help);
	if (value.len > 0)
		strbuf_printf(out, "%s = %s\n", key, value.data);
	else
		strbuf_printf(out, "#%s =\n", key);
	strbuf_free(&value);
}

void option_dump_rows(const struct option *table, const void *conf, struct strbuf *out)
{
	for (const struct option *o = table; o->name != NULL; o++)
		option_dump_row(o, conf, false, out);
}

void option_dump(const struct option *table, const void *conf, struct strbuf *out)
{
	const char *previous = "";

	for (const struct option *o = table; o->name != NULL; o++) {
		size_t n = table_len(o->name);

		if (n != table_len(previous) || strncmp(o->name, previous, n) != 0)
			strbuf_printf(out, "\n[%.*s]\n", (int)n, o->name);
		option_dump_row(o, conf, true, out);
		previous = o->name;
	}
}

static void option_list_changed(const struct option *o, const void *old, const void *new,
				struct strbuf *out)
{
	struct strbuf was, is;

	strbuf_init_heap(&was);
	strbuf_init_heap(&is);
	o->type->dump(o, (const char *)old + o->offset, &was);
	o->type->dump(o, (const char *)new + o->offset, &is);
	out->truncated |= was.truncated || is.truncated;
	if (was.len != is.len || memcmp(was.data, is.data, was.len) != 0)
		strbuf_printf(out, "%s%s (still %s)", out->len > 0 ? ", " : "", o->name, was.data);
	strbuf_free(&was);
	strbuf_free(&is);
}

void option_list_restart(const struct option *table, const void *old, const void *new,
			 struct strbuf *out)
{
	for (const struct option *o = table; o->name != NULL; o++) {
		if (o->at_start)
			option_list_changed(o, old, new, out);
	}
}

void option_release(const struct option *table, void *conf)
{
	for (const struct option *o = table; o->name != NULL; o++) {
		if (o->type->release != NULL)
			o->type->release(o, option_field(o, conf));
	}
}
