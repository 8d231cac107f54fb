/* SPDX-License-Identifier: MIT */
/*
 * The configuration file: TOML, both option tables, and the URL by itself (its text is the whole
 * input). What loads must come out of its dump again, or --dump-config would lie.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void dump(const struct option *table, const struct conf *c, struct strbuf *out)
{
	strbuf_init_heap(out);
	option_dump(table, c, out);
}

static void try_dump(const struct option *table, const struct conf *c)
{
	struct conf again = {0};
	struct toml_doc *doc = NULL;
	struct strbuf first, second;

	dump(table, c, &first);
	BUG_ON(toml_parse(first.data, first.len, "dump", &doc, NULL) != 0);
	BUG_ON(option_set_all(table, &again, doc, NULL) != 0);
	dump(table, &again, &second);
	BUG_ON(strcmp(first.data, second.data) != 0);
	toml_free(doc);
	strbuf_free(&first);
	strbuf_free(&second);
	option_release(table, &again);
}

static void try_table(const struct option *table, const struct toml_doc *doc)
{
	struct conf c = {0};
	struct diag d;

	BUG_ON(option_set_defaults(table, &c) != 0);
	if (option_set_all(table, &c, doc, &d) == 0)
		try_dump(table, &c);
	else
		BUG_ON(d.text[0] == '\0' || strcmp(d.file, "fuzz") != 0 || d.line < 1);
	option_release(table, &c);
}

static void try_url(const char *text)
{
	struct proxy_url u = {0}, again = {0};
	struct strbuf whole;
	char shown[PROXY_URL_TEXT_MAX];

	if (proxy_url_parse(&u, text, NULL) != 0)
		return;
	proxy_url_format(&u, shown, sizeof(shown));
	strbuf_init_heap(&whole);
	proxy_url_write(&u, &whole);
	BUG_ON(proxy_url_parse(&again, whole.data, NULL) != 0);
	BUG_ON(memcmp(&u, &again, sizeof(u)) != 0);
	strbuf_free(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct toml_doc *doc = NULL;
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	try_url(text);
	if (toml_parse(text, size, "fuzz", &doc, NULL) == 0) {
		try_table(conf_transocks.options, doc);
		try_table(conf_usocks.options, doc);
	}
	toml_free(doc);
	free(text);
	return 0;
}
