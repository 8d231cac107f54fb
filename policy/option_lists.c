/* SPDX-License-Identifier: MIT */
/*
 * The option types that are lists. One function turns an item of the file's list into entries of the
 * field's, one prints an entry; the rest is the same for all.
 */
#include "policy/option_types.h"

#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <string.h>
#include <strings.h>

#include "policy/conf.h"
#include "policy/name.h"
#include "policy/option_check.h"

#define DNS_PORT 53
/* The most entries that one item of the file becomes. */
#define ENTRIES_MAX 2

struct option_list {
	size_t size; /* of an entry */
	/* Writes at most ENTRIES_MAX entries: their number, or -errno with `d`. */
	int (*parse)(const struct option *o, void *out, const struct toml_item *item,
		     struct diag *d);
	void (*dump)(const void *entry, struct strbuf *out);
	bool one_is_enough; /* a string alone is a list of one */
	bool strings;       /* entries are strings, owned */
	size_t (*tidy)(void *entries,
		       size_t n); /* NULL, or puts them in order: how many are left */
};

/* How every list lies in memory. */
struct list {
	void *entries;
	size_t n;
};

#define SAME_LAYOUT(type, member)                                                                 \
	_Static_assert(sizeof(struct type) == sizeof(struct list) &&                              \
			       offsetof(struct type, member) == offsetof(struct list, entries) && \
			       offsetof(struct type, n) == offsetof(struct list, n),              \
		       "the functions of all lists rely on it")
SAME_LAYOUT(addr_list, addrs);
SAME_LAYOUT(string_list, strings);
SAME_LAYOUT(prefix_list, prefixes);
SAME_LAYOUT(port_list, ranges);
SAME_LAYOUT(mark_list, marks);
SAME_LAYOUT(egress_list, entries);

static void list_free(const struct option_list *kind, struct list *list)
{
	char **strings = list->entries;

	for (size_t i = 0; kind->strings && i < list->n; i++)
		free(strings[i]);
	free(list->entries);
}

static void list_put(const struct option *o, void *field, struct list list)
{
	struct list old;

	memcpy(&old, field, sizeof(old));
	list_free(o->type->list, &old);
	memcpy(field, &list, sizeof(list));
}

static void list_release(const struct option *o, void *field)
{
	list_put(o, field, (struct list){0});
}

/* `n` items at `items`, which is the option's item itself or the elements of its list. */
static int list_set_items(const struct option *o, void *field, const struct toml_item *items,
			  size_t n, struct diag *d)
{
	const struct option_list *kind = o->type->list;
	struct list list = {.entries = calloc(ENTRIES_MAX * n + 1, kind->size)};
	int r = list.entries != NULL ? 0 : diag_set(d, ENOMEM, NULL, 0, "out of memory");

	for (size_t i = 0; i < n && r >= 0; i++) {
		r = kind->parse(o, (char *)list.entries + list.n * kind->size, &items[i], d);
		list.n += r > 0 ? (size_t)r : 0;
	}
	if (r < 0) {
		list_free(kind, &list);
		return r;
	}
	if (kind->tidy != NULL)
		list.n = kind->tidy(list.entries, list.n);
	list_put(o, field, list);
	return 0;
}

static int list_set(const struct option *o, void *field, const struct toml_item *item,
		    struct diag *d)
{
	char wanted[64];
	int r;

	if (item->kind == TOML_STRING && o->type->list->one_is_enough)
		return list_set_items(o, field, item, o->min > 0 || item->string[0] != '\0', d);
	if (item->kind != TOML_ARRAY) {
		snprintf(wanted, sizeof(wanted), "a %s",
			 o->type->list->one_is_enough ? "list of strings" : o->type->name);
		return option_bad_kind(o, item, wanted, d);
	}
	r = option_check_entries(o, item, d);
	return r < 0 ? r : list_set_items(o, field, item->elements, item->len, d);
}

static void list_dump(const struct option *o, const void *field, struct strbuf *out)
{
	const struct option_list *kind = o->type->list;
	struct list list;

	memcpy(&list, field, sizeof(list));
	if (list.n == 0 && o->min > 0)
		return;
	strbuf_putc(out, '[');
	for (size_t i = 0; i < list.n; i++) {
		strbuf_puts(out, i > 0 ? ", " : "");
		kind->dump((const char *)list.entries + i * kind->size, out);
	}
	strbuf_putc(out, ']');
}

#define LIST_TYPE(list_kind, type_name, help_argument)                                            \
	{                                                                                         \
		.name = type_name, .argument = help_argument, .set = list_set, .dump = list_dump, \
		.release = list_release, .list = &(list_kind),                                    \
	}

static int check_entry(const struct option *o, const struct toml_item *item, struct diag *d)
{
	return option_check_string(o, item, "strings in its list", d);
}

static int bad_entry(const struct option *o, const struct toml_item *item, const char *wanted,
		     struct diag *d)
{
	char text[128];

	return option_refuse(o, item, EINVAL, d, ": %s is not %s", option_shown(item, text),
			     wanted);
}

/* addresses: listen, addresses, dns_servers */

static void address_dump(const void *entry, struct strbuf *out)
{
	const struct addr *a = entry;
	char text[ADDR_TEXT_MAX];

	strbuf_printf(out, "\"%s\"",
		      a->port != 0 ? addr_format(a, text, sizeof(text))
				   : addr_format_ip(a, text, sizeof(text)));
}

/* How many addresses the text is, at most ENTRIES_MAX, or -EINVAL. */
static int listen_parse_text(struct addr *out, const char *text)
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

static int listen_parse(const struct option *o, void *out, const struct toml_item *item,
			struct diag *d)
{
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	r = listen_parse_text(out, item->string);
	if (r > 0)
		return r;
	return bad_entry(o, item,
			 "ADDRESS:PORT, localhost:PORT or :PORT (an IPv6 address in brackets, the "
			 "port 1..65535)",
			 d);
}

static const struct option_list listen_list = {
	.size = sizeof(struct addr),
	.parse = listen_parse,
	.dump = address_dump,
	.one_is_enough = true,
};
const struct option_type option_listen =
	LIST_TYPE(listen_list, "string or list of strings", "ADDRESS:PORT,...");

static int address_parse(const struct option *o, void *out, const struct toml_item *item,
			 struct diag *d)
{
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	return addr_parse(out, item->string) == 0 ? 1 : bad_entry(o, item, "an IP address", d);
}

static const struct option_list addresses_list = {
	.size = sizeof(struct addr), .parse = address_parse, .dump = address_dump};
const struct option_type option_addresses =
	LIST_TYPE(addresses_list, "list of strings", "ADDRESS,...");

static int dns_server_parse(const struct option *o, void *out, const struct toml_item *item,
			    struct diag *d)
{
	struct addr *a = out;
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	if (addr_parse(a, item->string) == 0)
		a->port = DNS_PORT;
	else if (addr_parse_endpoint(a, item->string) < 0 || a->port == 0)
		return bad_entry(o, item,
				 "ADDRESS or ADDRESS:PORT (an IPv6 address with port in brackets)",
				 d);
	return 1;
}

static const struct option_list dns_servers_list = {
	.size = sizeof(struct addr), .parse = dns_server_parse, .dump = address_dump};
const struct option_type option_dns_servers =
	LIST_TYPE(dns_servers_list, "list of strings", "ADDRESS,...");

/* strings: interfaces, users, cgroups */

static void string_dump(const void *entry, struct strbuf *out)
{
	option_dump_string(out, *(char *const *)entry);
}

static int string_copy(const struct option *o, void *out, const struct toml_item *item,
		       const char *text, size_t len, struct diag *d)
{
	char *copy = strndup(text, len);

	if (copy == NULL)
		return option_out_of_memory(o, item, d);
	*(char **)out = copy;
	return 1;
}

/* As the kernel's dev_valid_name(). */
static bool is_interface_name(const char *name, size_t len)
{
	return len > 0 && len < IFNAMSIZ && strcspn(name, "/: ") == len && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static int interface_parse(const struct option *o, void *out, const struct toml_item *item,
			   struct diag *d)
{
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	if (!is_interface_name(item->string, item->len))
		return bad_entry(o, item,
				 "the name of an interface (1..15 bytes, no '/', ':', blank)", d);
	return string_copy(o, out, item, item->string, item->len, d);
}

static const struct option_list interfaces_list = {
	.size = sizeof(char *), .parse = interface_parse, .dump = string_dump, .strings = true};
const struct option_type option_interfaces =
	LIST_TYPE(interfaces_list, "list of strings", "IF,...");

static int user_parse(const struct option *o, void *out, const struct toml_item *item,
		      struct diag *d)
{
	char number[16];
	int r;

	if (item->kind == TOML_INTEGER) {
		/* The largest stands for "no user" in the kernel. */
		r = option_check_integer(o, item, 0, UINT32_MAX - 1, d);
		if (r < 0)
			return r;
		snprintf(number, sizeof(number), "%" PRId64, item->integer);
		return string_copy(o, out, item, number, strlen(number), d);
	}
	r = check_entry(o, item, d);
	if (r < 0)
		return r;
	if (item->len == 0 || item->len > 32)
		return bad_entry(o, item, "a user's name (1..32 bytes) or number", d);
	return string_copy(o, out, item, item->string, item->len, d);
}

static const struct option_list users_list = {
	.size = sizeof(char *), .parse = user_parse, .dump = string_dump, .strings = true};
const struct option_type option_users =
	LIST_TYPE(users_list, "list of strings and integers", "USER,...");

static int login_parse(const struct option *o, void *out, const struct toml_item *item,
		       struct diag *d)
{
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	if (item->len == 0 || item->len > USERS_NAME_MAX || memchr(item->string, ':', item->len))
		return bad_entry(o, item, "a user of auth.file (1..255 bytes, no ':')", d);
	return string_copy(o, out, item, item->string, item->len, d);
}

static int login_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t logins_tidy(void *entries, size_t n)
{
	qsort(entries, n, sizeof(char *), login_order);
	return n;
}

static const struct option_list logins_list = {.size = sizeof(char *),
					       .parse = login_parse,
					       .dump = string_dump,
					       .strings = true,
					       .tidy = logins_tidy};
const struct option_type option_logins = LIST_TYPE(logins_list, "list of strings", "USER,...");

/* "a/b": at least one name, none of them empty or a way upwards. */
static bool is_cgroup_path(const char *path, size_t len)
{
	while (true) {
		size_t n = strcspn(path, "/") < len ? strcspn(path, "/") : len;

		if (n == 0 || n > 255 || (n == 1 && path[0] == '.') ||
		    (n == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (n == len)
			return true;
		path += n + 1;
		len -= n + 1;
	}
}

static int cgroup_parse(const struct option *o, void *out, const struct toml_item *item,
			struct diag *d)
{
	static const char mount[] = "/sys/fs/cgroup/";
	int r = check_entry(o, item, d);
	const char *path;
	size_t len;

	if (r < 0)
		return r;
	path = item->string;
	path += strncmp(path, mount, strlen(mount)) == 0 ? strlen(mount) : 0;
	path += strspn(path, "/");
	for (len = strlen(path); len > 0 && path[len - 1] == '/'; len--)
		;
	if (len > 4095 || !is_cgroup_path(path, len))
		return bad_entry(o, item,
				 "a control group, such as \"system.slice/backup.service\" (a path "
				 "below /sys/fs/cgroup)",
				 d);
	return string_copy(o, out, item, path, len, d);
}

static const struct option_list cgroups_list = {
	.size = sizeof(char *), .parse = cgroup_parse, .dump = string_dump, .strings = true};
const struct option_type option_cgroups = LIST_TYPE(cgroups_list, "list of strings", "PATH,...");

/* domains */

/* NULL, or what an entry is instead of a domain. */
static const char *domain_fault(const char *text, size_t n)
{
	char name[NAME_MAX_LEN + 1];
	struct addr literal;
	int r;

	if (n > 1 && text[0] == '*' && text[1] == '.')
		return "a domain: write \".example.com\" for a domain and all below it, without "
		       "'*'";
	if (n > 0 && text[0] == '.') {
		text++;
		n--;
	}
	r = name_normalise(text, n, name, &literal);
	if (r > 0)
		return "a domain, but an address: write it into \"networks\"";
	if (r < 0 && name_is_other_script(text, n))
		return "a domain as it is on the wire: write it in the form \"xn--...\"";
	return r < 0 ? "a domain such as \"www.example.com\" or \".example.com\"" : NULL;
}

static int domain_parse(const struct option *o, void *out, const struct toml_item *item,
			struct diag *d)
{
	int r = check_entry(o, item, d);
	const char *fault;

	if (r < 0)
		return r;
	fault = domain_fault(item->string, item->len);
	if (fault != NULL)
		return bad_entry(o, item, fault, d);
	return string_copy(o, out, item, item->string, item->len, d);
}

static const struct option_list domains_list = {
	.size = sizeof(char *), .parse = domain_parse, .dump = string_dump, .strings = true};
const struct option_type option_domains = LIST_TYPE(domains_list, "list of strings", "DOMAIN,...");

static int site_parse(const struct option *o, void *out, const struct toml_item *item,
		      struct diag *d)
{
	int r = check_entry(o, item, d);
	char name[NAME_MAX_LEN + 1];
	struct addr literal;
	size_t skip;

	if (r < 0)
		return r;
	if (item->len > 1 && item->string[0] == '*' && item->string[1] == '.')
		return bad_entry(
			o, item,
			"a site: write \".example.com\" for all names below it, without '*'", d);
	skip = item->len > 0 && item->string[0] == '.' ? 1 : 0;
	r = item->len > 0 ? name_normalise(item->string + skip, item->len - skip, name, &literal)
			  : 0;
	if (r < 0 && name_is_other_script(item->string, item->len))
		return bad_entry(o, item,
				 "a name as it is on the wire: write it in the form \"xn--...\"",
				 d);
	if (r < 0 || (r == 1 && skip == 1))
		return bad_entry(o, item,
				 "a name such as \"www.example.com\" or \".example.com\", an "
				 "address, or \"\"",
				 d);
	return string_copy(o, out, item, item->string, item->len, d);
}

static const struct option_list sites_list = {
	.size = sizeof(char *), .parse = site_parse, .dump = string_dump, .strings = true};
const struct option_type option_sites = LIST_TYPE(sites_list, "list of strings", "SITE,...");

/* networks */

static void prefix_dump(const void *entry, struct strbuf *out)
{
	char text[PREFIX_TEXT_MAX];

	strbuf_printf(out, "\"%s\"", prefix_format(entry, text, sizeof(text)));
}

static int prefix_entry_parse(const struct option *o, void *out, const struct toml_item *item,
			      struct diag *d)
{
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	if (prefix_parse(out, item->string) == 0)
		return 1;
	return bad_entry(o, item, "a network such as \"10.0.0.0/8\" (host bits zero) or an address",
			 d);
}

static const struct option_list prefixes_list = {
	.size = sizeof(struct prefix), .parse = prefix_entry_parse, .dump = prefix_dump};
const struct option_type option_prefixes =
	LIST_TYPE(prefixes_list, "list of strings", "NETWORK,...");

static int client_parse(const struct option *o, void *out, const struct toml_item *item,
			struct diag *d)
{
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	if (prefix_parse_masked(out, item->string) == 0)
		return 1;
	return bad_entry(o, item, "a network such as \"10.0.0.0/8\" or an address", d);
}

static const struct option_list clients_list = {
	.size = sizeof(struct prefix), .parse = client_parse, .dump = prefix_dump};
const struct option_type option_clients = LIST_TYPE(clients_list, "list of strings", "NETWORK,...");

static int special_prefix_parse(const struct option *o, void *out, const struct toml_item *item,
				struct diag *d)
{
	int r = prefix_entry_parse(o, out, item, d);

	if (r < 0 || prefix_meets_special(out))
		return r;
	return bad_entry(o, item, "in a special-purpose range: it is redirected anyway", d);
}

static const struct option_list special_prefixes_list = {
	.size = sizeof(struct prefix), .parse = special_prefix_parse, .dump = prefix_dump};
const struct option_type option_special_prefixes =
	LIST_TYPE(special_prefixes_list, "list of strings", "NETWORK,...");

/* ports */

static void port_range_dump(const void *entry, struct strbuf *out)
{
	const struct port_range *range = entry;

	if (range->first == range->last)
		strbuf_printf(out, "%u", range->first);
	else
		strbuf_printf(out, "\"%u-%u\"", range->first, range->last);
}

/* "443" or "8000-8999" */
static int port_range_parse_text(struct port_range *range, const char *text)
{
	const char *dash = strchr(text, '-');
	char first[8];

	if (dash == NULL) {
		if (port_parse(&range->first, text) < 0)
			return -EINVAL;
		range->last = range->first;
	} else {
		if ((size_t)(dash - text) >= sizeof(first))
			return -EINVAL;
		snprintf(first, sizeof(first), "%.*s", (int)(dash - text), text);
		if (port_parse(&range->first, first) < 0 || port_parse(&range->last, dash + 1) < 0)
			return -EINVAL;
	}
	return range->first == 0 || range->first > range->last ? -EINVAL : 0;
}

static int port_range_parse(const struct option *o, void *out, const struct toml_item *item,
			    struct diag *d)
{
	struct port_range *range = out;
	int r;

	if (item->kind == TOML_INTEGER) {
		r = option_check_integer(o, item, 1, UINT16_MAX, d);
		if (r < 0)
			return r;
		range->first = range->last = (uint16_t)item->integer;
		return 1;
	}
	r = option_check_string(o, item, "integers and strings in its list", d);
	if (r < 0)
		return r;
	if (port_range_parse_text(range, item->string) == 0)
		return 1;
	return bad_entry(o, item, "a port 1..65535 or a range such as \"8000-8999\"", d);
}

static int port_range_compare(const void *a, const void *b)
{
	const struct port_range *x = a, *y = b;

	return (int)x->first - (int)y->first;
}

/* Sorted, and joined where they meet: as the set of a rule wants them. */
static size_t port_ranges_tidy(void *entries, size_t n)
{
	struct port_range *ranges = entries;
	size_t kept = 0;

	qsort(ranges, n, sizeof(*ranges), port_range_compare);
	for (size_t i = 0; i < n; i++) {
		if (kept == 0 || ranges[i].first > ranges[kept - 1].last + 1)
			ranges[kept++] = ranges[i];
		else if (ranges[i].last > ranges[kept - 1].last)
			ranges[kept - 1].last = ranges[i].last;
	}
	return kept;
}

static const struct option_list ports_list = {
	.size = sizeof(struct port_range),
	.parse = port_range_parse,
	.dump = port_range_dump,
	.tidy = port_ranges_tidy,
};
const struct option_type option_ports =
	LIST_TYPE(ports_list, "list of integers and strings", "PORTS,...");

/* marks */

static void mark_entry_dump(const void *entry, struct strbuf *out)
{
	option_dump_mark(out, entry);
}

static int mark_entry_parse(const struct option *o, void *out, const struct toml_item *item,
			    struct diag *d)
{
	struct mark *mark = out;
	const char *why;
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	if (mark_parse(mark, item->string, &why) < 0)
		return option_bad_text(o, item, why, d);
	return mark->mask != 0 ? 1 : bad_entry(o, item, "a mark", d);
}

static const struct option_list marks_list = {
	.size = sizeof(struct mark), .parse = mark_entry_parse, .dump = mark_entry_dump};
const struct option_type option_marks = LIST_TYPE(marks_list, "list of strings", "VALUE/MASK,...");

/* egress addresses */

static void egress_dump(const void *entry, struct strbuf *out)
{
	char text[EGRESS_TEXT_MAX];

	strbuf_printf(out, "\"%s\"", egress_entry_format(entry, text, sizeof(text)));
}

static int egress_parse(const struct option *o, void *out, const struct toml_item *item,
			struct diag *d)
{
	const char *why;
	int r = check_entry(o, item, d);

	if (r < 0)
		return r;
	return egress_entry_parse(out, item->string, &why) == 0 ? 1 : bad_entry(o, item, why, d);
}

/* The Go program's files may have one twice. */
static size_t egress_tidy(void *entries, size_t n)
{
	struct egress_entry *list = entries;
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		size_t j = 0;

		while (j < kept &&
		       memcmp(&list[j].prefix, &list[i].prefix, sizeof(list[i].prefix)) != 0)
			j++;
		if (j == kept)
			list[kept++] = list[i];
	}
	return kept;
}

static const struct option_list egress_entries = {
	.size = sizeof(struct egress_entry),
	.parse = egress_parse,
	.dump = egress_dump,
	.tidy = egress_tidy,
};
const struct option_type option_egress =
	LIST_TYPE(egress_entries, "list of strings", "ADDRESS,...");
