/* SPDX-License-Identifier: MIT */
#include "policy/option_section.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "policy/nearest.h"

#define NAMES_MAX     32
#define ROW_NAME_MAX  64
#define PLACEHOLDER   "NAME" /* in the rows of named tables */
#define SECTION_WORDS 80     /* room for "[group.NAME]" */

/* What follows the name of the section in an item's path. */
struct target {
	const char *key; /* NAME, or "[INDEX]"; not terminated */
	size_t key_len;
	const char *option; /* "url"; NULL: the item is the table itself */
};

static struct option_elements section_elements(const struct option_section *s, const void *conf)
{
	struct option_elements e;

	memcpy(&e, (const char *)conf + s->offset, sizeof(e));
	return e;
}

static void *section_element(const struct option_section *s, const void *conf, size_t i)
{
	return (char *)section_elements(s, conf).entries + i * s->size;
}

static char **element_key(const struct option_section *s, void *element)
{
	return (char **)((char *)element + s->key);
}

static const struct place *element_place(const struct option_section *s, const void *element)
{
	return (const struct place *)((const char *)element + s->place);
}

static struct places *element_places(const struct option_section *s, const void *element)
{
	return (struct places *)((char *)element + s->places);
}

bool option_key_is_valid(const char *name)
{
	static const char bare[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789-_";
	size_t n = strspn(name, bare);

	return n > 0 && n <= OPTION_KEY_MAX && name[n] == '\0';
}

/* As one writes it: "[[upstream]]" or "[group.NAME]". */
static const char *section_header(const struct option_section *s, const char *key,
				  char out[SECTION_WORDS])
{
	if (s->named)
		snprintf(out, SECTION_WORDS, "[%s.%s]", s->name, key);
	else
		snprintf(out, SECTION_WORDS, "[[%s]]", s->name);
	return out;
}

/* The length of what could be the name of a section: "upstream[0].url", "outgoing.users[0].clients", "group.tokyo",
 * "mode". */
static size_t section_word(const char *path)
{
	size_t n = strcspn(path, "[");

	return path[n] == '[' ? n : strcspn(path, ".");
}

static const struct option_section *section_find(const struct option_section *sections,
						 const char *path)
{
	for (; sections != NULL && sections->name != NULL; sections++) {
		size_t n = strlen(sections->name);

		if (strncasecmp(sections->name, path, n) == 0 && strchr(".[", path[n]) != NULL)
			return sections; /* or the path ends there */
	}
	return NULL;
}

/* Of a mistake in the table as a whole. */
static int item_table_line(const struct toml_item *item)
{
	return item->table_line != 0 ? item->table_line : item->line;
}

static int section_bad_shape(const struct option_section *s, const struct toml_item *item,
			     struct diag *d)
{
	char header[SECTION_WORDS];

	return diag_set(d, EINVAL, item->file, item_table_line(item),
			"\"%.*s\" is for %s: write %s and its options below", (int)strlen(s->name),
			item->path, s->named ? "tables with names" : "a list of tables",
			section_header(s, PLACEHOLDER, header));
}

/* "[0].url" or ".tokyo.choose", behind the section's name. */
static int section_target(const struct option_section *s, const struct toml_item *item,
			  struct target *t, struct diag *d)
{
	const char *at = item->path + strlen(s->name);

	if (*at != (s->named ? '.' : '['))
		return section_bad_shape(s, item, d);
	t->key = at + s->named;
	if (s->named && *t->key == '"')
		return diag_set(d, EINVAL, item->file, item_table_line(item),
				"the NAME of [%s.NAME] has letters, digits, '-' and '_' only",
				s->name);
	t->key_len = s->named ? strcspn(t->key, ".[") : strcspn(t->key, "]") + 1;
	if (t->key[t->key_len] == '[' || (t->key[t->key_len] == '\0' && item->kind != TOML_TABLE))
		return section_bad_shape(s, item, d);
	t->option = t->key[t->key_len] == '.' ? t->key + t->key_len + 1 : NULL;
	if (s->named && t->key_len > OPTION_KEY_MAX)
		return diag_set(d, EINVAL, item->file, item_table_line(item),
				"the NAME of [%s.NAME] has at most %d letters", s->name,
				OPTION_KEY_MAX);
	return 0;
}

static int section_unknown(const struct option_section *s, const struct toml_item *item,
			   const struct target *t, struct diag *d)
{
	const char *names[NAMES_MAX + 1] = {NULL}, *near;
	char header[SECTION_WORDS], key[OPTION_KEY_MAX + 1];
	size_t n = 0;

	for (const struct option *o = s->options; o->name != NULL; o++) {
		BUG_ON(n == NAMES_MAX);
		names[n++] = strrchr(o->name, '.') + 1;
	}
	snprintf(key, sizeof(key), "%.*s", (int)t->key_len, t->key);
	near = nearest_word(t->option, names);
	section_header(s, key, header);
	if (near != NULL)
		return diag_set(d, EINVAL, item->file, item->line,
				"unknown option \"%s\" in %s; did you mean \"%s\"?", t->option,
				header, near);
	return diag_set(d, EINVAL, item->file, item->line, "unknown option \"%s\" in %s", t->option,
			header);
}

static const struct option *section_row(const struct option_section *s, const char *option)
{
	char name[ROW_NAME_MAX];
	int n = snprintf(name, sizeof(name), "%s.%s%s", s->name, s->named ? PLACEHOLDER "." : "",
			 option);

	return n < (int)sizeof(name) ? option_find(s->options, name) : NULL;
}

void *option_section_add(const struct option_section *s, void *conf, const char *key,
			 struct place place)
{
	struct option_elements e = section_elements(s, conf);
	char *element, *copy = NULL;

	if ((e.n & (e.n - 1)) == 0) { /* 0 or a power of two: full */
		void *grown = realloc(e.entries, (e.n > 0 ? 2 * e.n : 1) * s->size);

		if (grown == NULL)
			return NULL;
		e.entries = grown;
		memcpy((char *)conf + s->offset, &e, sizeof(e));
	}
	element = (char *)e.entries + e.n * s->size;
	memset(element, 0, s->size);
	if (option_set_defaults(s->options, element) < 0 ||
	    (key != NULL && (copy = strdup(key)) == NULL)) {
		option_release(s->options, element);
		return NULL;
	}
	if (s->named)
		*element_key(s, element) = copy;
	memcpy(element + s->place, &place, sizeof(place));
	e.n++;
	memcpy((char *)conf + s->offset, &e, sizeof(e));
	return element;
}

struct place option_section_place(const struct option_section *s, const void *element,
				  const char *option)
{
	const struct option *o = section_row(s, option);
	struct place place;

	BUG_ON(o == NULL || o - s->options >= PLACES_MAX);
	place = element_places(s, element)->rows[o - s->options];
	return place.file != NULL ? place : *element_place(s, element);
}

static void *section_named(const struct option_section *s, const void *conf, const char *key)
{
	size_t n = section_elements(s, conf).n;

	for (size_t i = 0; i < n; i++) {
		void *element = section_element(s, conf, i);

		if (strcmp(*element_key(s, element), key) == 0)
			return element;
	}
	return NULL;
}

/* The element that the item belongs to: an earlier one, or a new one. */
static int section_open(const struct option_section *s, void *conf, const struct toml_item *item,
			const struct target *t, bool same, const char *file, void **element,
			struct diag *d)
{
	size_t n = section_elements(s, conf).n;
	char key[OPTION_KEY_MAX + 1], header[SECTION_WORDS];

	snprintf(key, sizeof(key), "%.*s", (int)t->key_len, t->key);
	*element = NULL;
	if (s->named)
		*element = section_named(s, conf, key);
	else if (same)
		*element = section_element(s, conf, n - 1);
	if (*element != NULL)
		return 0;
	if (n == s->max)
		return diag_set(d, EINVAL, item->file, item_table_line(item),
				"more than %zu tables %s", s->max,
				section_header(s, PLACEHOLDER, header));
	*element = option_section_add(s, conf, s->named ? key : NULL,
				      (struct place){.file = file, .line = item_table_line(item)});
	return *element != NULL ? 0 : diag_set(d, ENOMEM, item->file, item->line, "out of memory");
}

/* Whether both items are of one table of a list: "upstream[0].url" and "upstream[0].name". Those of one table
 * follow each other in the file. */
static bool items_share_table(const struct toml_item *a, const struct toml_item *b)
{
	size_t n = strcspn(a->path, "]") + 1;

	return strncmp(a->path, b->path, n) == 0;
}

static int section_set(const struct option_section *s, void *conf, const struct toml_item *item,
		       bool same, const char *file, struct diag *d)
{
	const struct option *o;
	struct target t;
	void *element;
	int r = section_target(s, item, &t, d);

	if (r < 0)
		return r;
	o = t.option != NULL ? section_row(s, t.option) : NULL;
	if (t.option != NULL && o == NULL)
		return section_unknown(s, item, &t, d);
	r = section_open(s, conf, item, &t, same, file, &element, d);
	if (r < 0 || o == NULL)
		return r;
	BUG_ON(o - s->options >= PLACES_MAX);
	element_places(s, element)->rows[o - s->options] =
		(struct place){.file = file, .line = item->line};
	return o->type->set(o, (char *)element + o->offset, item, d);
}

/* A mistyped [[upstreem]] or [groups.tokyo] would be told as an option of that path. */
static int section_check_near(const struct option_section *sections, const struct toml_item *item,
			      struct diag *d)
{
	const char *names[NAMES_MAX + 1] = {NULL}, *near;
	char word[ROW_NAME_MAX], header[SECTION_WORDS];
	size_t n = 0, len = section_word(item->path);

	if (sections == NULL || len >= sizeof(word) ||
	    (item->path[len] == '\0' && item->kind != TOML_TABLE))
		return 0;
	for (const struct option_section *s = sections; s->name != NULL; s++)
		names[n++] = s->name;
	snprintf(word, sizeof(word), "%.*s", (int)len, item->path);
	near = nearest_word(word, names);
	if (near == NULL)
		return 0;
	return diag_set(d, EINVAL, item->file, item_table_line(item),
			"unknown table \"%s\"; did you mean %s?", word,
			section_header(section_find(sections, near), PLACEHOLDER, header));
}

int option_section_set_all(const struct option *table, const struct option_section *sections,
			   void *conf, const struct toml_doc *doc, const char *file, struct diag *d)
{
	size_t n;
	const struct toml_item *items = toml_items(doc, &n), *last = NULL;
	int r = option_check_twice(items, n, d);

	for (size_t i = 0; i < n && r == 0; i++) {
		const struct option_section *s = section_find(sections, items[i].path);

		if (s == NULL) {
			if (!option_is_known(table, &items[i]))
				r = section_check_near(sections, &items[i], d);
			if (r == 0)
				r = option_set(table, conf, &items[i], d);
		} else {
			r = section_set(s, conf, &items[i],
					last != NULL && items_share_table(last, &items[i]), file,
					d);
		}
		last = s != NULL ? &items[i] : NULL;
	}
	return r;
}

void option_section_dump(const struct option_section *sections, const void *conf,
			 struct strbuf *out)
{
	char header[SECTION_WORDS];

	for (const struct option_section *s = sections; s != NULL && s->name != NULL; s++) {
		struct option_elements e = section_elements(s, conf);

		for (size_t i = 0; i < e.n; i++) {
			void *element = section_element(s, conf, i);

			if (element_place(s, element)->file == NULL)
				continue;
			section_header(s, s->named ? *element_key(s, element) : "", header);
			strbuf_printf(out, "\n%s\n", header);
			option_dump_rows(s->options, element, out);
		}
	}
}

void option_section_release(const struct option_section *sections, void *conf)
{
	for (const struct option_section *s = sections; s != NULL && s->name != NULL; s++) {
		struct option_elements e = section_elements(s, conf);

		for (size_t i = 0; i < e.n; i++) {
			void *element = section_element(s, conf, i);

			option_release(s->options, element);
			if (s->named)
				free(*element_key(s, element));
		}
		free(e.entries);
		memset((char *)conf + s->offset, 0, sizeof(e));
	}
}
