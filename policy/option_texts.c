/* SPDX-License-Identifier: MIT */
/*
 * The option types of what upstreams and rules have beside numbers and words.
 */
#include "policy/option_types.h"

#include <errno.h>
#include <string.h>

#include "policy/name.h"
#include "policy/option_check.h"
#include "policy/option_section.h"
#include "policy/upstream.h"

/* boolean */

static int boolean_set(const struct option *o, void *field, const struct toml_item *item,
		       struct diag *d)
{
	if (item->kind != TOML_BOOLEAN)
		return option_bad_kind(o, item, "true or false", d);
	*(bool *)field = item->boolean;
	return 0;
}

static void boolean_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	strbuf_puts(out, *(const bool *)field ? "true" : "false");
}

const struct option_type option_boolean = {
	.name = "boolean", .argument = "BOOL", .set = boolean_set, .dump = boolean_dump};

/* path */

static int path_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	if (item->kind == TOML_STRING && item->len > 0 && item->string[0] != '/')
		return option_bad_text(o, item, "is not a whole path: it must begin with '/'", d);
	return option_string.set(o, field, item, d);
}

static void text_dump(const struct option *o, const void *field, struct strbuf *out)
{
	option_string.dump(o, field, out);
}

static void text_release(const struct option *o, void *field)
{
	option_string.release(o, field);
}

const struct option_type option_path = {.name = "string",
					.argument = "FILE",
					.set = path_set,
					.dump = text_dump,
					.release = text_release};

/* key */

static int key_set(const struct option *o, void *field, const struct toml_item *item,
		   struct diag *d)
{
	int r = option_check_string(o, item, "a string", d);

	if (r < 0)
		return r;
	if (!option_key_is_valid(item->string))
		return option_bad_text(
			o, item, "is not a name (letters, digits, '-' and '_', 63 at most)", d);
	return option_string.set(o, field, item, d);
}

const struct option_type option_key = {.name = "string",
				       .argument = "NAME",
				       .set = key_set,
				       .dump = text_dump,
				       .release = text_release};

/* endpoint */

static bool endpoint_is_valid(const char *text)
{
	const char *colon = strrchr(text, ':');
	char name[NAME_MAX_LEN + 1];
	struct addr a;
	uint16_t port;

	if (addr_parse_endpoint(&a, text) == 0)
		return a.port != 0;
	return colon != NULL && port_parse(&port, colon + 1) == 0 && port != 0 &&
	       name_normalise(text, (size_t)(colon - text), name, &a) == 0;
}

static int endpoint_set(const struct option *o, void *field, const struct toml_item *item,
			struct diag *d)
{
	int r = option_check_string(o, item, "a string", d);

	if (r < 0)
		return r;
	if (item->len > 0 && !endpoint_is_valid(item->string))
		return option_bad_text(
			o, item,
			"is not HOST:PORT (an IPv6 address in brackets, the port 1..65535)", d);
	return option_string.set(o, field, item, d);
}

const struct option_type option_endpoint = {.name = "string",
					    .argument = "HOST:PORT",
					    .set = endpoint_set,
					    .dump = text_dump,
					    .release = text_release};

/* URL of an upstream */

static int upstream_url_set(const struct option *o, void *field, const struct toml_item *item,
			    struct diag *d)
{
	return option_proxy_url.set(o, field, item, d);
}

static void upstream_url_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const struct upstream_conf *u = container_of(field, const struct upstream_conf, url);
	struct proxy_url shown = u->url;

	if (u->auth_file != NULL && u->auth_file[0] != '\0')
		shown.user[0] = shown.password[0] = '\0';
	option_proxy_url.dump(o, &shown, out);
}

const struct option_type option_upstream_url = {
	.name = "string", .argument = "URL", .set = upstream_url_set, .dump = upstream_url_dump};
