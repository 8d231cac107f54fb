/* SPDX-License-Identifier: MIT */
/*
 * Holds the option tables, the manual pages and the sample files against each other, in both
 * directions. Reads man/ and etc/, so it runs in the root of the source tree.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <string.h>

#include "policy/conf.h"
#include "policy/duration.h"
#include "policy/option_types.h"
#include "tests/unit/temp_files.h"

static const struct document {
	const struct conf_program *program;
	const char *manual, *sample;
} documents[] = {
	{&conf_transocks, "man/transocks.toml.5", "etc/transocks.toml"},
	{&conf_usocks, "man/usocksd.toml.5", "etc/usocksd.toml"},
};

static char *read_text(const char *path)
{
	FILE *file = fopen(path, "r");
	struct strbuf sb;
	char chunk[4096];
	size_t n;

	if (file == NULL)
		fail_msg("%s: cannot open (the test runs in the root of the source tree)", path);
	strbuf_init_heap(&sb);
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		strbuf_put(&sb, chunk, n);
	fclose(file);
	assert_false(sb.truncated);
	return sb.data;
}

#define TABLES_MAX 8

/* The option tables of the program: the first is that of the file itself, then one for each kind of table. */
static size_t tables_of(const struct conf_program *p, const struct option *tables[TABLES_MAX])
{
	size_t n = 0;

	tables[n++] = p->options;
	for (const struct option_section *s = p->sections; s != NULL && s->name != NULL; s++) {
		assert_true(n < TABLES_MAX);
		tables[n++] = s->options;
	}
	return n;
}

static const struct option *find(const struct conf_program *p, const char *name)
{
	const struct option *tables[TABLES_MAX];
	size_t n = tables_of(p, tables);

	for (size_t i = 0; i < n; i++) {
		for (const struct option *o = tables[i]; o->name != NULL; o++) {
			if (strcmp(o->name, name) == 0)
				return o;
		}
	}
	return NULL;
}

/* Each row of each table, with the text of the manual or the sample. */
static void each_row(void (*fn)(const struct document *doc, const struct option *o,
				const char *text),
		     bool manual)
{
	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		const struct document *doc = &documents[i];
		const struct option *tables[TABLES_MAX];
		size_t n = tables_of(doc->program, tables);
		char *text = read_text(manual ? doc->manual : doc->sample);

		for (size_t t = 0; t < n; t++) {
			for (const struct option *o = tables[t]; o->name != NULL; o++)
				fn(doc, o, text);
		}
		free(text);
	}
}

static void row_is_complete(const struct document *doc, const struct option *o, const char *text)
{
	(void)text;
	assert_ptr_equal(find(doc->program, o->name), o); /* once */
	assert_non_null(o->help);
	assert_in_range(strlen(o->help), 6, 90);
	assert_null(strchr(o->help, '\n'));
	assert_int_not_equal(o->help[strlen(o->help) - 1], '.');
	assert_true(o->min <= o->max);
}

static void test_rows_are_complete(void **state)
{
	(void)state;
	each_row(row_is_complete, true);
}

/* Rows are found by these names. */
static void test_section_names(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		const struct option_section *s = documents[i].program->sections;

		for (; s->name != NULL; s++) {
			char prefix[64];

			snprintf(prefix, sizeof(prefix), "%s.%s", s->name, s->named ? "NAME." : "");
			for (const struct option *o = s->options; o->name != NULL; o++) {
				assert_memory_equal(o->name, prefix, strlen(prefix));
				assert_null(strchr(o->name + strlen(prefix), '.'));
				assert_false(o->at_start); /* nobody looks */
			}
		}
	}
}

/* The manual's text of an option: from its .It to the next macro that ends it. */
static char *manual_entry(const char *manual, const char *name)
{
	char item[128];
	const char *start, *end, *list_end;

	snprintf(item, sizeof(item), "\n.It Ic %s\n", name);
	start = strstr(manual, item);
	if (start == NULL)
		fail_msg("%s is not in the manual", name);
	start += strlen(item);
	end = strstr(start, "\n.It ");
	list_end = strstr(start, "\n.El");
	assert_non_null(list_end);
	return strndup(start, (size_t)((end != NULL && end < list_end ? end : list_end) - start));
}

static void duration_range(const struct option *o, char *out, size_t cap)
{
	struct strbuf sb;

	strbuf_init(&sb, out, cap);
	strbuf_puts(&sb, "duration up to ");
	duration_put(&sb, o->max);
	strbuf_putc(&sb, ';');
}

/* What the entry must say of the row's range, "" for nothing. */
static void range_text(const struct option *o, char *out, size_t cap)
{
	out[0] = '\0';
	if (o->type == &option_integer || o->type == &option_signed)
		snprintf(out, cap, "integer %" PRId64 "..%" PRId64 ";", o->min, o->max);
	else if (o->type == &option_port)
		snprintf(out, cap, "integer 1..65535;");
	else if (o->type == &option_duration)
		duration_range(o, out, cap);
}

static void default_text(const struct option *o, char *out, size_t cap)
{
	if (o->def == NULL)
		snprintf(out, cap, "; no default.\n");
	else if (strcmp(o->def, "\"\"") == 0)
		snprintf(out, cap, "; default\n.Qq \\& .\n");
	else if (o->def[0] == '"')
		snprintf(out, cap, "; default\n.Qq %.*s .\n", (int)strlen(o->def) - 2, o->def + 1);
	else
		snprintf(out, cap, "; default %s.\n", o->def);
}

static void manual_has_row(const struct document *doc, const struct option *o, const char *manual)
{
	char *entry = manual_entry(manual, o->name);
	char range[128], def[128];

	range_text(o, range, sizeof(range));
	default_text(o, def, sizeof(def));
	if (strncmp(entry, o->type->name, strlen(o->type->name)) != 0 ||
	    strncmp(entry, range, strlen(range)) != 0 || strstr(entry, def) == NULL)
		fail_msg("%s: %s: want type %s, \"%s\", \"%s\" in:\n%s", doc->manual, o->name,
			 o->type->name, range, def, entry);
	for (size_t w = 0; o->words != NULL && o->words[w] != NULL; w++) {
		if (strstr(entry, o->words[w]) == NULL)
			fail_msg("%s: %s: no word \"%s\"", doc->manual, o->name, o->words[w]);
	}
	free(entry);
}

static void test_manual_has_every_option(void **state)
{
	(void)state;
	each_row(manual_has_row, true);
}

static void test_manual_has_nothing_else(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		char *manual = read_text(documents[i].manual);
		int n = 0;

		for (char *at = manual; (at = strstr(at, "\n.It Ic ")) != NULL; n++) {
			char name[64];

			at += strlen("\n.It Ic ");
			assert_int_equal(sscanf(at, "%63[^\n]", name), 1);
			if (find(documents[i].program, name) == NULL)
				fail_msg("%s: no such option: %s", documents[i].manual, name);
		}
		assert_true(n > 10);
		free(manual);
	}
}

/* Takes the '#' off every line "#option = ..." and "#[table]"; prose begins with "# ". */
static char *uncomment(const char *text)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	for (const char *at = text; *at != '\0'; at++) {
		bool line_start = at == text || at[-1] == '\n';

		if (!(line_start && at[0] == '#' &&
		      ((at[1] >= 'a' && at[1] <= 'z') || at[1] == '[')))
			strbuf_putc(&sb, *at);
	}
	return sb.data;
}

/* The sample as a text in which every option is written; without the tables that there may be many of, which are
 * its last part, or with them and so without `proxy_url`. */
static char *whole_sample(const struct document *doc, bool sections)
{
	char *sample = read_text(doc->sample), *whole, *cut;

	if (!sections && (cut = strstr(sample, "\n#[")) != NULL)
		cut[1] = '\0';
	whole = uncomment(sample);
	cut = strstr(whole, "\nproxy_url");
	if (sections && cut != NULL)
		cut[1] = '#';
	free(sample);
	return whole;
}

static char *dump(const struct conf *c)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	conf_dump(c, &sb);
	assert_false(sb.truncated);
	return sb.data;
}

static struct conf *load(const struct conf_program *p, const char *file)
{
	struct conf *c = NULL;
	struct diag d = {0};
	char text[1024];

	if (conf_load(p, file, &c, &d) != 0)
		fail_msg("%s", diag_format(&d, text, sizeof(text)));
	return c;
}

static struct conf *load_text(const struct conf_program *p, const char *text)
{
	char dir[TEMP_DIR_MAX], path[TEMP_DIR_MAX + 16];
	struct conf *c;

	assert_int_equal(temp_dir_make(dir, "test_conf_docs"), 0);
	snprintf(path, sizeof(path), "%s/text.toml", dir);
	temp_write(path, text, strlen(text));
	c = load(p, path);
	assert_int_equal(temp_dir_remove(dir), 0);
	return c;
}

/* The sample as it is, with every option written out, and its own dump are one configuration. */
static void test_samples_load(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		const struct conf_program *p = documents[i].program;
		char *whole = whole_sample(&documents[i], false);
		struct conf *plain = load(p, documents[i].sample);
		struct conf *full = load_text(p, whole);
		char *plain_dump = dump(plain), *full_dump = dump(full), *again_dump;
		struct conf *again = load_text(p, plain_dump);

		again_dump = dump(again);
		assert_string_equal(full_dump, plain_dump);
		assert_string_equal(again_dump, plain_dump);
		assert_true(plain->listen_default && full->listen_default && again->listen_default);
		conf_unref(plain);
		conf_unref(full);
		conf_unref(again);
		free(plain_dump);
		free(full_dump);
		free(again_dump);
		free(whole);
	}
}

/* The items of the sample with all it shows, as rows name them: "upstream[0].url" is "upstream.url". */
static size_t count_items(const struct document *doc, const struct option *o)
{
	char *whole = whole_sample(doc, strchr(o->name, '.') != NULL), name[128];
	const struct toml_item *items;
	struct toml_doc *toml;
	size_t n, found = 0;

	assert_int_equal(toml_parse(whole, strlen(whole), doc->sample, &toml, NULL), 0);
	items = toml_items(toml, &n);
	for (size_t i = 0; i < n; i++) {
		const char *path = items[i].path, *index = strstr(path, "[0].");

		if (index != NULL)
			snprintf(name, sizeof(name), "%.*s%s", (int)(index - path), path,
				 index + 3);
		else if (strncmp(path, "group.default.", 14) == 0)
			snprintf(name, sizeof(name), "group.NAME.%s", path + 14);
		else
			snprintf(name, sizeof(name), "%s", path);
		if (find(doc->program, name) == NULL)
			fail_msg("%s: no such option: %s", doc->sample, path);
		found += strcmp(name, o->name) == 0;
	}
	toml_free(toml);
	free(whole);
	return found;
}

/* That what is not in the sample keeps its default makes the test above blind to it. */
static void sample_has_row(const struct document *doc, const struct option *o, const char *sample)
{
	char line[256];
	bool section =
		find((&(struct conf_program){.options = doc->program->options}), o->name) == NULL;

	if (count_items(doc, o) != 1)
		fail_msg("%s: %s is not there", doc->sample, o->name);
	if (!section || o->def == NULL)
		return;
	snprintf(line, sizeof(line), "\n#%s = %s\n", strrchr(o->name, '.') + 1, o->def);
	if (strstr(sample, line) == NULL)
		fail_msg("%s: %s: no line %s", doc->sample, o->name, line);
}

static void test_sample_has_every_option(void **state)
{
	(void)state;
	each_row(sample_has_row, false);
}

/* The tables load as they are shown, too, and out of their dump again. */
static void test_sample_sections_load(void **state)
{
	char *whole = whole_sample(&documents[0], true), *first, *second;
	struct conf *c = load_text(&conf_transocks, whole);
	(void)state;

	assert_int_equal(c->n_upstreams, 1);
	assert_int_equal(c->rules.n, 1);
	first = dump(c);
	conf_unref(c);
	c = load_text(&conf_transocks, first);
	second = dump(c);
	assert_string_equal(second, first);
	conf_unref(c);
	free(whole);
	free(first);
	free(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_are_complete),
		cmocka_unit_test(test_section_names),
		cmocka_unit_test(test_manual_has_every_option),
		cmocka_unit_test(test_manual_has_nothing_else),
		cmocka_unit_test(test_samples_load),
		cmocka_unit_test(test_sample_has_every_option),
		cmocka_unit_test(test_sample_sections_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
