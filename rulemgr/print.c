/* SPDX-License-Identifier: MIT */
#include "rulemgr/command.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#include "rulemgr/intent.h"
#include "rulemgr/iptables.h"
#include "rulemgr/nft_text.h"

static void put_set(const struct set *s, struct json *j)
{
	char text[ELEMENT_TEXT_MAX];

	json_object_begin(j, NULL);
	json_string(j, "name", s->name);
	json_string(j, "type", set_types[s->type].name);
	json_bool(j, "interval", s->interval);
	json_string(j, "comment", s->comment);
	json_array_begin(j, "elements");
	for (size_t i = 0; i < s->n_elements; i++) {
		json_object_begin(j, NULL);
		json_string(j, "element", element_format(s, &s->elements[i], text, sizeof(text)));
		if (s->elements[i].comment[0] != '\0')
			json_string(j, "comment", s->elements[i].comment);
		json_object_end(j);
	}
	json_array_end(j);
	json_object_end(j);
}

static void put_rule(const struct rule *r, struct json *j)
{
	struct strbuf text;

	strbuf_init_heap(&text);
	nft_text_rule(r, &text);
	json_object_begin(j, NULL);
	json_string(j, "comment", r->comment);
	json_string(j, "does", rule_verdict_name(r));
	json_string(j, "nft", text.data);
	json_object_end(j);
	strbuf_free(&text);
}

static void put_chain(const struct chain *c, struct json *j)
{
	json_object_begin(j, NULL);
	json_string(j, "name", c->name);
	json_string(j, "comment", c->comment);
	json_string(j, "type", chain_type_name(c->type));
	json_string(j, "hook", chain_hook_name(c->hook));
	json_int(j, "priority", c->priority);
	json_string(j, "policy", c->drop ? "drop" : "accept");
	json_array_begin(j, "rules");
	for (size_t i = 0; i < c->n_rules; i++)
		put_rule(&c->rules[i], j);
	json_array_end(j);
	json_object_end(j);
}

static void put_model(const struct model *m, struct json *j)
{
	json_string(j, "table", MODEL_TABLE_TEXT);
	json_string(j, "comment", m->comment);
	json_array_begin(j, "sets");
	for (size_t i = 0; i < m->n_sets; i++)
		put_set(&m->sets[i], j);
	json_array_end(j);
	json_array_begin(j, "chains");
	for (size_t i = 0; i < m->n_chains; i++)
		put_chain(&m->chains[i], j);
	json_array_end(j);
}

static int print_nft(const struct want *w, const struct model *m, struct strbuf *out,
		     struct diag *d)
{
	(void)w;
	(void)d;
	nft_text_table(m, out);
	return 0;
}

static int print_iptables(const struct want *w, const struct model *m, struct strbuf *out,
			  struct diag *d)
{
	int r = iptables_check(w, d);

	(void)m;
	if (r == 0)
		iptables_print(w, out);
	return r;
}

static int print_json(const struct want *w, const struct model *m, struct strbuf *out,
		      struct diag *d)
{
	struct json j;

	(void)w;
	(void)d;
	json_init(&j, out);
	json_object_begin(&j, NULL);
	put_model(m, &j);
	json_object_end(&j);
	strbuf_putc(out, '\n');
	return 0;
}

static const struct {
	const char *name;
	/* 0, or a negative errno with `d` filled. */
	int (*fn)(const struct want *w, const struct model *m, struct strbuf *out, struct diag *d);
} formats[] = {
	{"nft", print_nft},
	{"iptables", print_iptables},
	{"json", print_json},
};

static int print_as(const char *format, const struct want *w, const struct model *m,
		    struct report *r)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		int err;

		if (strcmp(formats[i].name, format) != 0)
			continue;
		err = formats[i].fn(w, m, &r->text, &r->error);
		if (err < 0)
			return report_exit_code(err);
		json_string(&r->json, "format", format);
		json_string_n(&r->json, "text", r->text.data, r->text.len);
		return 0;
	}
	diag_set(&r->error, EINVAL, NULL, 0, "--format %s: not nft, iptables or json", format);
	return EX_USAGE;
}

/* The kernel is not asked, so this shows what a host without the table would get. */
int print_run(const struct args *a, struct report *r)
{
	struct model m;
	struct want w;
	int code = intent_build(a, &w, &m, r);

	if (code != 0)
		return code;
	code = print_as(a->format != NULL ? a->format : "nft", &w, &m, r);
	model_free(&m);
	return code;
}
