/* SPDX-License-Identifier: MIT */
#include "policy/json.h"

#include <inttypes.h>
#include <string.h>

void json_init(struct json *j, struct strbuf *out)
{
	*j = (struct json){.out = out};
}

static void json_key(struct json *j, const char *key)
{
	if (j->comma)
		strbuf_putc(j->out, ',');
	if (key != NULL) {
		strbuf_put_quoted(j->out, key, strlen(key));
		strbuf_putc(j->out, ':');
	}
	j->comma = true;
}

static void json_open(struct json *j, const char *key, char bracket)
{
	json_key(j, key);
	strbuf_putc(j->out, bracket);
	j->comma = false;
}

static void json_close(struct json *j, char bracket)
{
	strbuf_putc(j->out, bracket);
	j->comma = true;
}

void json_object_begin(struct json *j, const char *key)
{
	json_open(j, key, '{');
}

void json_object_end(struct json *j)
{
	json_close(j, '}');
}

void json_array_begin(struct json *j, const char *key)
{
	json_open(j, key, '[');
}

void json_array_end(struct json *j)
{
	json_close(j, ']');
}

void json_string(struct json *j, const char *key, const char *value)
{
	json_string_n(j, key, value, strlen(value));
}

void json_string_n(struct json *j, const char *key, const char *bytes, size_t n)
{
	json_key(j, key);
	strbuf_put_quoted(j->out, bytes, n);
}

void json_int(struct json *j, const char *key, int64_t value)
{
	json_key(j, key);
	strbuf_printf(j->out, "%" PRId64, value);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
	json_key(j, key);
	strbuf_printf(j->out, "%" PRIu64, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
	json_key(j, key);
	strbuf_puts(j->out, value ? "true" : "false");
}
