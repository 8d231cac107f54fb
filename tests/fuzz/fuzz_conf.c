/* SPDX-License-Identifier: MIT */
/*
 * The configuration file: TOML, the option tables of both daemons with the tables that there may be many of, and
 * the URL and the file of credentials by themselves (the text is the whole input). What loads must come out of its
 * dump again, or --dump-config would lie.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/conf.h"
#include "policy/conf_sections.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void dump(const struct conf *c, struct strbuf *out)
{
	strbuf_init_heap(out);
	conf_dump(c, out);
}

static int set_all(struct conf *c, const struct toml_doc *doc, struct diag *d)
{
	return option_section_set_all(c->program->options, c->program->sections, c, doc, "fuzz", d);
}

static void release(struct conf *c)
{
	option_release(c->program->options, c);
	conf_sections_release(c);
}

static void try_dump(const struct conf *c)
{
	struct conf again = {.program = c->program};
	struct toml_doc *doc = NULL;
	struct strbuf first, second;

	dump(c, &first);
	BUG_ON(toml_parse(first.data, first.len, "dump", &doc, NULL) != 0);
	BUG_ON(set_all(&again, doc, NULL) != 0);
	dump(&again, &second);
	BUG_ON(strcmp(first.data, second.data) != 0);
	toml_free(doc);
	strbuf_free(&first);
	strbuf_free(&second);
	release(&again);
}

/* Every index that is used while flows run leads somewhere. */
static void check_finished(struct conf *c)
{
	size_t members = 0;

	BUG_ON(strcmp(c->groups[0].name, DEFAULT_GROUP) != 0);
	for (size_t i = 0; i < c->n_groups; i++) {
		for (size_t k = 0; k < c->groups[i].n_members; k++, members++)
			BUG_ON(c->upstreams[c->groups[i].members[k]].group_index != i);
	}
	BUG_ON(members != c->n_upstreams);
	for (size_t i = 0; members > 0 && i < c->rules.n; i++) {
		struct flow_rule *r = &c->rules.rules[i];

		BUG_ON(r->name == NULL || r->group_index >= c->n_groups);
		BUG_ON(r->action == RULE_PROXY && c->groups[r->group_index].n_members == 0);
		BUG_ON(rule_compile(r, NULL, 0, NULL, 0, NULL) != 0);
	}
}

static void try_program(const struct conf_program *p, const struct toml_doc *doc)
{
	struct conf c = {.program = p};
	struct diag d;

	BUG_ON(option_set_defaults(p->options, &c) != 0);
	if (set_all(&c, doc, &d) == 0) {
		try_dump(&c);
		if (conf_sections_finish(&c, "fuzz", &d) == 0) {
			check_finished(&c);
			try_dump(&c);
		} else {
			BUG_ON(d.text[0] == '\0' || strcmp(d.file, "fuzz") != 0);
		}
	} else {
		BUG_ON(d.text[0] == '\0' || strcmp(d.file, "fuzz") != 0 || d.line < 1);
	}
	release(&c);
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

/* A user that is written into a URL comes out of it again. */
static void try_auth(enum proxy_scheme scheme, const uint8_t *data, size_t size)
{
	struct proxy_url u = {.scheme = scheme, .host = "h", .port = 1}, again = {0};
	struct strbuf whole;

	if (conf_parse_auth(&u, (const char *)data, size, "fuzz", NULL) != 0)
		return;
	strbuf_init_heap(&whole);
	proxy_url_write(&u, &whole);
	BUG_ON(proxy_url_parse(&again, whole.data, NULL) != 0);
	BUG_ON(strcmp(u.user, again.user) != 0 || strcmp(u.password, again.password) != 0);
	strbuf_free(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct toml_doc *doc = NULL;
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	try_url(text);
	try_auth(PROXY_SOCKS5, data, size);
	try_auth(PROXY_SOCKS4A, data, size);
	try_auth(PROXY_HTTP, data, size);
	if (toml_parse(text, size, "fuzz", &doc, NULL) == 0) {
		try_program(&conf_transocks, doc);
		try_program(&conf_usocks, doc);
	}
	toml_free(doc);
	free(text);
	return 0;
}
