/* SPDX-License-Identifier: MIT */
#include "policy/option_types.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "policy/conf.h"

#define DNS_PORT 53

static const char *const kind_names[] = {
	[TOML_STRING] = "a string",      [TOML_INTEGER] = "an integer", [TOML_FLOAT] = "a float",
	[TOML_BOOLEAN] = "a boolean",    [TOML_ARRAY] = "a list",       [TOML_TABLE] = "a table",
	[TOML_OTHER] = "a date or time",
};

static int bad_kind(const struct option *o, const struct toml_item *item, const char *wanted,
		    struct diag *d)
{
	return diag_set(d, EINVAL, item->file, item->line, "option \"%s\" wants %s, not %s",
			o->name, wanted, kind_names[item->kind]);
}

static int out_of_memory(const struct option *o, const struct toml_item *item, struct diag *d)
{
	return diag_set(d, ENOMEM, item->file, item->line, "option \"%s\": out of memory", o->name);
}

/* For "%s": the string in quotes, escaped (it comes from the file) and cut if it is long. */
static const char *shown(const struct toml_item *item, char out[128])
{
	struct strbuf sb;

	strbuf_init(&sb, out, 128);
	strbuf_put_quoted(&sb, item->string, item->len);
	return out;
}

static int bad_text(const struct option *o, const struct toml_item *item, const char *why,
		    struct diag *d)
{
	char text[128];

	return diag_set(d, EINVAL, item->file, item->line, "option \"%s\": %s %s", o->name,
			shown(item, text), why);
}

/* Strings become C strings; a byte below blank in any of them is a slip or worse. */
static bool is_clean_string(const struct toml_item *item)
{
	for (size_t i = 0; i < item->len; i++) {
		if ((unsigned char)item->string[i] < ' ' || item->string[i] == 0x7f)
			return false;
	}
	return true;
}

static int check_string(const struct option *o, const struct toml_item *item, const char *wanted,
			struct diag *d)
{
	if (item->kind != TOML_STRING)
		return bad_kind(o, item, wanted, d);
	if (!is_clean_string(item))
		return bad_text(o, item, "contains a control byte", d);
	return 0;
}

static int check_range(const struct option *o, const struct toml_item *item, int64_t min,
		       int64_t max, struct diag *d)
{
	if (item->kind != TOML_INTEGER)
		return bad_kind(o, item, "an integer", d);
	if (item->integer < min || item->integer > max)
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": %" PRId64 " is out of range (%" PRId64 "..%" PRId64
				")",
				o->name, item->integer, min, max);
	return 0;
}

/* As a TOML basic string; its UTF-8 (toml++ has checked it) stays. */
static void dump_string(struct strbuf *out, const char *text)
{
	strbuf_putc(out, '"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			strbuf_putc(out, '\\');
		strbuf_putc(out, *text);
	}
	strbuf_putc(out, '"');
}

/* integer */

static int integer_set(const struct option *o, void *field, const struct toml_item *item,
		       struct diag *d)
{
	int r = check_range(o, item, o->min, o->max, d);

	if (r == 0)
		*(unsigned *)field = (unsigned)item->integer;
	return r;
}

static void integer_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	strbuf_printf(out, "%u", *(const unsigned *)field);
}

const struct option_type option_integer = {
	.name = "integer", .set = integer_set, .dump = integer_dump};

/* port */

static int port_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	int r = check_range(o, item, 1, UINT16_MAX, d);

	if (r == 0)
		*(uint16_t *)field = (uint16_t)item->integer;
	return r;
}

static void port_dump(const struct option *o, const void *field, struct strbuf *out)
{
	(void)o;
	strbuf_printf(out, "%u", *(const uint16_t *)field);
}

const struct option_type option_port = {.name = "integer", .set = port_set, .dump = port_dump};

/* string */

static int string_set(const struct option *o, void *field, const struct toml_item *item,
		      struct diag *d)
{
	int r = check_string(o, item, "a string", d);
	char *copy;

	if (r < 0)
		return r;
	if ((int64_t)item->len < o->min || (int64_t)item->len > o->max)
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": length %zu is out of range (%" PRId64 "..%" PRId64
				" bytes)",
				o->name, item->len, o->min, o->max);
	copy = strdup(item->string);
	if (copy == NULL)
		return out_of_memory(o, item, d);
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static void string_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const char *text = *(char *const *)field;

	(void)o;
	if (text != NULL)
		dump_string(out, text);
}

static void string_release(void *field)
{
	free(*(char **)field);
	*(char **)field = NULL;
}

const struct option_type option_string = {
	.name = "string", .set = string_set, .dump = string_dump, .release = string_release};

/* word */

int option_word_index(const char *const *words, const char *const *aliases, const char *text)
{
	for (; aliases != NULL && *aliases != NULL; aliases += 2) {
		if (strcmp(aliases[0], text) == 0)
			text = aliases[1];
	}
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], text) == 0)
			return i;
	}
	return -1;
}

/* An enum without negative values is an unsigned int under gcc and clang. */
_Static_assert(sizeof(enum log_level) == sizeof(unsigned), "enums are stored as unsigned");

static int word_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	char list[256], text[128];
	struct strbuf sb;
	unsigned value;
	int r, index;

	r = check_string(o, item, "a string", d);
	if (r < 0)
		return r;
	index = option_word_index(o->words, o->aliases, item->string);
	if (index < 0) {
		strbuf_init(&sb, list, sizeof(list));
		for (size_t i = 0; o->words[i] != NULL; i++)
			strbuf_printf(&sb, "%s%s", i > 0 ? ", " : "", o->words[i]);
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": %s is not one of: %s", o->name, shown(item, text),
				list);
	}
	value = (unsigned)index;
	memcpy(field, &value, sizeof(value));
	return 0;
}

static void word_dump(const struct option *o, const void *field, struct strbuf *out)
{
	unsigned value;

	memcpy(&value, field, sizeof(value));
	dump_string(out, o->words[value]);
}

const struct option_type option_word = {.name = "string", .set = word_set, .dump = word_dump};

/* duration */

static const struct duration_unit {
	const char *name;
	int64_t ms;
} duration_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

/* "1h30m": numbers with units, each unit once and the longer ones first. */
static int duration_parse(int64_t *ms, const char *text)
{
	int64_t sum = 0;
	size_t next = 0; /* the longest unit that may still come */

	if (*text == '\0')
		return -EINVAL;
	while (*text != '\0') {
		size_t ndigits = strspn(text, "0123456789"), len, unit;
		int64_t value = 0;

		if (ndigits == 0 || ndigits > 9) /* 9 digits of hours fit well into 63 bits */
			return -EINVAL;
		for (size_t i = 0; i < ndigits; i++)
			value = value * 10 + (text[i] - '0');
		text += ndigits;
		len = strcspn(text, "0123456789");
		for (unit = next; unit < ARRAY_LEN(duration_units); unit++) {
			if (strlen(duration_units[unit].name) == len &&
			    strncmp(duration_units[unit].name, text, len) == 0)
				break;
		}
		if (unit == ARRAY_LEN(duration_units))
			return -EINVAL;
		sum += value * duration_units[unit].ms;
		next = unit + 1;
		text += len;
	}
	*ms = sum;
	return 0;
}

static void duration_put(struct strbuf *out, int64_t ms)
{
	if (ms == 0)
		strbuf_puts(out, "0s");
	for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
		int64_t value = ms / duration_units[i].ms;

		if (value > 0)
			strbuf_printf(out, "%" PRId64 "%s", value, duration_units[i].name);
		ms %= duration_units[i].ms;
	}
}

static int duration_set(const struct option *o, void *field, const struct toml_item *item,
			struct diag *d)
{
	char range[64];
	struct strbuf sb;
	int64_t ms = 0;
	int r;

	if (item->kind == TOML_INTEGER && item->integer != 0)
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": write a unit, such as \"%" PRId64
				"s\" (ms, s, m, h)",
				o->name, item->integer);
	if (item->kind != TOML_INTEGER) {
		r = check_string(o, item, "a duration such as \"5s\"", d);
		if (r < 0)
			return r;
		if (duration_parse(&ms, item->string) < 0)
			return bad_text(o, item,
					"is not a duration such as \"250ms\", \"5s\", \"1h30m\"",
					d);
	}
	if (ms < o->min || ms > o->max) {
		strbuf_init(&sb, range, sizeof(range));
		duration_put(&sb, o->min);
		strbuf_puts(&sb, "..");
		duration_put(&sb, o->max);
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": the duration is out of range (%s)", o->name, range);
	}
	*(int64_t *)field = ms;
	return 0;
}

static void duration_dump(const struct option *o, const void *field, struct strbuf *out)
{
	int64_t ms = *(const int64_t *)field;

	(void)o;
	if (ms == 0) {
		strbuf_putc(out, '0');
		return;
	}
	strbuf_putc(out, '"');
	duration_put(out, ms);
	strbuf_putc(out, '"');
}

const struct option_type option_duration = {
	.name = "duration", .set = duration_set, .dump = duration_dump};

/* lists of addresses */

struct list_kind {
	/* Turns one string into at most two addresses; their number, or -EINVAL. */
	int (*parse)(struct addr out[2], const char *text);
	const char *entry; /* what an entry must be, for errors */
};

static void list_release(void *field)
{
	struct addr_list *list = field;

	free(list->addrs);
	*list = (struct addr_list){0};
}

static int list_add(struct addr_list *list, const struct option *o, const struct list_kind *kind,
		    const struct toml_item *item, struct diag *d)
{
	char text[128];
	int r = check_string(o, item, "strings in its list", d);

	if (r < 0)
		return r;
	r = kind->parse(list->addrs + list->n, item->string);
	if (r < 0)
		return diag_set(d, EINVAL, item->file, item->line, "option \"%s\": %s is not %s",
				o->name, shown(item, text), kind->entry);
	list->n += (size_t)r;
	return 0;
}

/* `n` strings at `items`, which is the option's item itself or the elements of its list. */
static int list_set(const struct option *o, struct addr_list *field, const struct list_kind *kind,
		    const struct toml_item *items, size_t n, struct diag *d)
{
	struct addr_list list = {.addrs = calloc(2 * n + 1, sizeof(struct addr))};
	int r = list.addrs != NULL ? 0 : diag_set(d, ENOMEM, NULL, 0, "out of memory");

	for (size_t i = 0; i < n && r == 0; i++)
		r = list_add(&list, o, kind, &items[i], d);
	if (r < 0) {
		list_release(&list);
		return r;
	}
	list_release(field);
	*field = list;
	return 0;
}

static int list_set_item(const struct option *o, void *field, const struct list_kind *kind,
			 const struct toml_item *item, struct diag *d)
{
	if (item->kind != TOML_ARRAY)
		return bad_kind(o, item, "a list of strings", d);
	if ((int64_t)item->len < o->min || (int64_t)item->len > o->max)
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": a list of %zu is out of range (%" PRId64
				"..%" PRId64 " entries)",
				o->name, item->len, o->min, o->max);
	return list_set(o, field, kind, item->elements, item->len, d);
}

static void list_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const struct addr_list *list = field;
	char text[ADDR_TEXT_MAX];

	(void)o;
	strbuf_putc(out, '[');
	for (size_t i = 0; i < list->n; i++) {
		const struct addr *a = &list->addrs[i];

		strbuf_printf(out, "%s\"%s\"", i > 0 ? ", " : "",
			      a->port != 0 ? addr_format(a, text, sizeof(text))
					   : addr_format_ip(a, text, sizeof(text)));
	}
	strbuf_putc(out, ']');
}

/* listen */

static int listen_parse(struct addr out[2], const char *text)
{
	static const struct {
		const char *host;
		uint8_t v4[4], v6[16];
	} both[] = {
		{"", {0}, {0}},
		{"localhost", {127, 0, 0, 1}, {[15] = 1}},
	};
	const char *colon = strrchr(text, ':');
	uint16_t port;

	if (colon == NULL || port_parse(&port, colon + 1) < 0 || port == 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		size_t len = strlen(both[i].host);

		if (len == (size_t)(colon - text) && strncasecmp(text, both[i].host, len) == 0) {
			out[0] = addr_from_bytes(both[i].v4, 4, port);
			out[1] = addr_from_bytes(both[i].v6, 16, port);
			return 2;
		}
	}
	return addr_parse_endpoint(&out[0], text) == 0 ? 1 : -EINVAL;
}

static int listen_set(const struct option *o, void *field, const struct toml_item *item,
		      struct diag *d)
{
	static const struct list_kind kind = {
		.parse = listen_parse,
		.entry = "ADDRESS:PORT, localhost:PORT or :PORT (an IPv6 address in brackets, the "
			 "port 1..65535)",
	};

	if (item->kind == TOML_STRING)
		return list_set(o, field, &kind, item, 1, d);
	return list_set_item(o, field, &kind, item, d);
}

const struct option_type option_listen = {.name = "string or list of strings",
					  .set = listen_set,
					  .dump = list_dump,
					  .release = list_release};

/* addresses */

static int address_parse(struct addr out[2], const char *text)
{
	return addr_parse(&out[0], text) == 0 ? 1 : -EINVAL;
}

static int addresses_set(const struct option *o, void *field, const struct toml_item *item,
			 struct diag *d)
{
	static const struct list_kind kind = {.parse = address_parse, .entry = "an IP address"};

	return list_set_item(o, field, &kind, item, d);
}

const struct option_type option_addresses = {.name = "list of strings",
					     .set = addresses_set,
					     .dump = list_dump,
					     .release = list_release};

/* DNS servers */

static int dns_server_parse(struct addr out[2], const char *text)
{
	if (addr_parse(&out[0], text) == 0)
		out[0].port = DNS_PORT;
	else if (addr_parse_endpoint(&out[0], text) < 0 || out[0].port == 0)
		return -EINVAL;
	return 1;
}

static int dns_servers_set(const struct option *o, void *field, const struct toml_item *item,
			   struct diag *d)
{
	static const struct list_kind kind = {
		.parse = dns_server_parse,
		.entry = "ADDRESS or ADDRESS:PORT (an IPv6 address with port in brackets)",
	};

	return list_set_item(o, field, &kind, item, d);
}

const struct option_type option_dns_servers = {.name = "list of strings",
					       .set = dns_servers_set,
					       .dump = list_dump,
					       .release = list_release};

/* mark */

static int mark_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	const char *why;
	int r = check_string(o, item, "a string such as \"" DEFAULT_MARK_TEXT "\"", d);

	if (r < 0)
		return r;
	return mark_parse(field, item->string, &why) < 0 ? bad_text(o, item, why, d) : 0;
}

static void mark_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const struct mark *mark = field;

	(void)o;
	if (mark->mask == 0)
		strbuf_puts(out, "\"0/0\"");
	else
		strbuf_printf(out, "\"0x%" PRIx32 "/0x%" PRIx32 "\"", mark->value, mark->mask);
}

const struct option_type option_mark = {.name = "string", .set = mark_set, .dump = mark_dump};

/* proxy URL */

static int proxy_url_set(const struct option *o, void *field, const struct toml_item *item,
			 struct diag *d)
{
	struct diag why;
	int r;

	if (item->kind != TOML_STRING)
		return bad_kind(o, item, "a string such as \"socks5://host:1080\"", d);
	if (!is_clean_string(item))
		return diag_set(d, EINVAL, item->file, item->line,
				"option \"%s\": contains a control byte", o->name);
	r = proxy_url_parse(field, item->string, &why);
	if (r < 0) /* the value is not shown: it may hold a password */
		return diag_set(d, -r, item->file, item->line, "option \"%s\": %s", o->name,
				why.text);
	return 0;
}

static void proxy_url_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const struct proxy_url *url = field;

	(void)o;
	if (url->scheme == PROXY_NONE)
		return;
	strbuf_putc(out, '"'); /* everything that would need an escape is percent-encoded */
	proxy_url_write(url, out);
	strbuf_putc(out, '"');
}

const struct option_type option_proxy_url = {
	.name = "string", .set = proxy_url_set, .dump = proxy_url_dump};
