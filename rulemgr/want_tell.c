/* SPDX-License-Identifier: MIT */
#include "rulemgr/want_tell.h"

#include <string.h>

/* Bytes of a list that a person gets to see. */
#define LIST_TEXT_MAX 120

/* Those that say what is taken; the others stand in the line before, or are the daemon's. */
static bool is_told(const struct option *o)
{
	return strcmp(o->name, "mode") == 0 || strcmp(o->name, "tproxy_mark") == 0 ||
	       strncmp(o->name, "redirect.", strlen("redirect.")) == 0;
}

static const char *short_name(const struct option *o)
{
	const char *dot = strchr(o->name, '.');

	return dot != NULL ? dot + 1 : o->name;
}

static void option_value(const struct option *o, const struct conf *c, struct strbuf *out)
{
	strbuf_init_heap(out);
	o->type->dump(o, (const char *)c + o->offset, out);
}

/* Of networks there may be thousands. */
static size_t count_networks(const struct option *o, const struct redirect *r)
{
	if (strcmp(o->name, "redirect.bypass") == 0)
		return r->bypass.n;
	return strcmp(o->name, "redirect.redirect_anyway") == 0 ? r->redirect_anyway.n : 0;
}

static void tell_option(const struct option *o, const struct want *w, const char *value, size_t len,
			struct strbuf *out)
{
	size_t n = count_networks(o, w->redirect);

	strbuf_printf(out, "  %s = ", short_name(o));
	if (n > 0)
		strbuf_printf(out, "%zu network%s", n, plural(n));
	else
		strbuf_printf(out, "%.*s%s", LIST_TEXT_MAX, value,
			      len > LIST_TEXT_MAX ? " ..." : "");
	if (strcmp(o->name, "redirect.share") == 0)
		strbuf_puts(out, w->redirect->share == 0 ? ": nobody is taken"
							 : " percent of the clients");
	strbuf_putc(out, '\n');
}

static void tell_options(const struct want *w, const struct conf *c, const struct conf *defaults,
			 struct strbuf *out)
{
	for (const struct option *o = c->program->options; o->name != NULL; o++) {
		struct strbuf now, usual;

		if (!is_told(o))
			continue;
		option_value(o, c, &now);
		option_value(o, defaults, &usual);
		if (now.len != usual.len || memcmp(now.data, usual.data, now.len) != 0)
			tell_option(o, w, now.data, now.len, out);
		strbuf_free(&now);
		strbuf_free(&usual);
	}
}

void want_tell(const struct want *w, const struct conf *c, struct strbuf *out)
{
	struct conf defaults = {.program = c->program};

	if (option_set_defaults(c->program->options, &defaults) == 0)
		tell_options(w, c, &defaults, out);
	option_release(c->program->options, &defaults);
	if (c->files.n == 0)
		strbuf_puts(out, "  no configuration file was read\n");
	for (size_t i = 0; i < c->files.n; i++)
		strbuf_printf(out, "%s%s%s", i == 0 ? "  configuration: " : ", ",
			      c->files.strings[i], i + 1 == c->files.n ? "\n" : "");
}

static void put_strings(const struct string_list *list, struct json *j, const char *key)
{
	json_array_begin(j, key);
	for (size_t i = 0; i < list->n; i++)
		json_string(j, NULL, list->strings[i]);
	json_array_end(j);
}

static void put_ports(const struct port_list *ports, struct json *j)
{
	char text[16];

	json_array_begin(j, "ports");
	for (size_t i = 0; i < ports->n; i++) {
		const struct port_range *range = &ports->ranges[i];

		if (range->first == range->last)
			snprintf(text, sizeof(text), "%u", range->first);
		else
			snprintf(text, sizeof(text), "%u-%u", range->first, range->last);
		json_string(j, NULL, text);
	}
	json_array_end(j);
}

void want_put_json(const struct want *w, const struct conf *c, struct json *j)
{
	const struct redirect *r = w->redirect;

	json_string(j, "mode", redirect_mode_words[w->mode]);
	json_string(j, "family", redirect_family_words[r->family]);
	json_uint(j, "share", r->share);
	put_ports(&r->ports, j);
	json_string(j, "quic", redirect_quic_words[r->quic]);
	json_string(j, "when_daemon_down", redirect_down_words[r->when_daemon_down]);
	json_int(j, "priority", r->priority);
	json_uint(j, "bypass", r->bypass.n);
	json_uint(j, "redirect_anyway", r->redirect_anyway.n);
	put_strings(&r->exempt_uids, j, "exempt_uids");
	put_strings(&r->exempt_cgroups, j, "exempt_cgroups");
	put_strings(&c->files, j, "files");
}
