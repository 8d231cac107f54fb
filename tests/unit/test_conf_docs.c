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

static const struct option *find(const struct option *table, const char *name)
{
	for (; table->name != NULL; table++) {
		if (strcmp(table->name, name) == 0)
			return table;
	}
	return NULL;
}

static void test_rows_are_complete(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		const struct option *table = documents[i].program->options;

		for (const struct option *o = table; o->name != NULL; o++) {
			assert_ptr_equal(find(table, o->name), o); /* once */
			assert_non_null(o->help);
			assert_in_range(strlen(o->help), 10, 90);
			assert_null(strchr(o->help, '\n'));
			assert_int_not_equal(o->help[strlen(o->help) - 1], '.');
			assert_true(o->min <= o->max);
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

static void test_manual_has_every_option(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		char *manual = read_text(documents[i].manual);

		for (const struct option *o = documents[i].program->options; o->name != NULL; o++) {
			char *entry = manual_entry(manual, o->name);
			char range[128], def[128];

			range_text(o, range, sizeof(range));
			default_text(o, def, sizeof(def));
			if (strncmp(entry, o->type->name, strlen(o->type->name)) != 0 ||
			    strncmp(entry, range, strlen(range)) != 0 || strstr(entry, def) == NULL)
				fail_msg("%s: %s: want type %s, \"%s\", \"%s\" in:\n%s",
					 documents[i].manual, o->name, o->type->name, range, def,
					 entry);
			for (size_t w = 0; o->words != NULL && o->words[w] != NULL; w++)
				assert_non_null(strstr(entry, o->words[w]));
			free(entry);
		}
		free(manual);
	}
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
			if (find(documents[i].program->options, name) == NULL)
				fail_msg("%s: no such option: %s", documents[i].manual, name);
		}
		assert_true(n > 10);
		free(manual);
	}
}

/* Takes the '#' off every line "#option = ..."; prose begins with "# ". */
static char *uncomment(const char *sample)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	for (const char *at = sample; *at != '\0'; at++) {
		bool line_start = at == sample || at[-1] == '\n';

		if (!(line_start && at[0] == '#' && at[1] >= 'a' && at[1] <= 'z'))
			strbuf_putc(&sb, *at);
	}
	return sb.data;
}

static char *dump(const struct conf *c)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	option_dump(c->program->options, c, &sb);
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
		char *sample = read_text(documents[i].sample), *whole = uncomment(sample);
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
		free(sample);
		free(whole);
	}
}

/* That what is not in the sample keeps its default makes the test above blind to it. */
static void test_sample_has_every_option(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		char *sample = read_text(documents[i].sample), *whole = uncomment(sample);
		struct toml_doc *doc;
		size_t n, rows = 0;
		const struct toml_item *items;

		assert_int_equal(toml_parse(whole, strlen(whole), documents[i].sample, &doc, NULL),
				 0);
		items = toml_items(doc, &n);
		for (const struct option *o = documents[i].program->options; o->name != NULL; o++) {
			size_t found = 0;

			for (size_t j = 0; j < n; j++)
				found += strcmp(items[j].path, o->name) == 0;
			if (found != 1)
				fail_msg("%s: %s is not there", documents[i].sample, o->name);
			rows++;
		}
		assert_int_equal(n, rows);
		toml_free(doc);
		free(sample);
		free(whole);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_are_complete),
		cmocka_unit_test(test_manual_has_every_option),
		cmocka_unit_test(test_manual_has_nothing_else),
		cmocka_unit_test(test_samples_load),
		cmocka_unit_test(test_sample_has_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
