/* SPDX-License-Identifier: MIT */
#include "policy/conf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/conf_sections.h"
#include "policy/strbuf.h"

#define CONF_FILE_MAX ((size_t)16 << 20)
/* Some ten million domains. */
#define LIST_FILE_MAX ((size_t)256 << 20)
/* User and password of 255 bytes each, and what is between and behind them. */
#define AUTH_FILE_MAX 1024
/* Some hundred thousand users. */
#define USERS_FILE_MAX ((size_t)16 << 20)

const char *const log_level_words[] = {"critical", "error", "warning", "info", "debug", NULL};
const char *const log_level_aliases[] = {"crit",        "critical", "warn", "warning",
					 "information", "info",     NULL};
const char *const handshake_mode_words[] = {"auto", "strict", "one-flight", NULL};
const char *const log_format_words[] = {"plain", "logfmt", "json", NULL};

int addr_list_check_distinct(const struct addr_list *list, const char *option, const char *file,
			     struct diag *d)
{
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < list->n; i++) {
		for (size_t j = 0; j < list->n; j++) {
			const struct addr *a = &list->addrs[i], *b = &list->addrs[j];

			if (i == j || a->family != b->family || a->port != b->port)
				continue;
			if (addr_is_any(a) || addr_equal_ip(a, b))
				return diag_set(d, EINVAL, file, 0,
						"option \"%s\": %s is there twice, or under all "
						"addresses as well",
						option, addr_format(b, text, sizeof(text)));
		}
	}
	return 0;
}

bool addr_list_has_both_families(const struct addr_list *list)
{
	static const uint8_t loopback4[4] = {127, 0, 0, 1};

	for (size_t i = 0; i < list->n; i++) {
		const struct addr *a = &list->addrs[i];
		bool any = addr_is_any(a), found = false;

		if (!any && !(addr_is_loopback(a) &&
			      (a->family == AF_INET6 || memcmp(a->ip, loopback4, 4) == 0)))
			return false;
		for (size_t j = 0; j < list->n && !found; j++) {
			const struct addr *b = &list->addrs[j];

			found = b->family != a->family && b->port == a->port &&
				(any ? addr_is_any(b) : addr_is_loopback(b));
		}
		if (!found)
			return false;
	}
	return true;
}

/* "16 MiB", "1024 bytes" */
static const char *size_text(size_t n, char out[32])
{
	bool mib = n >= (size_t)1 << 20;

	snprintf(out, 32, "%zu %s", mib ? n >> 20 : n, mib ? "MiB" : "bytes");
	return out;
}

static int file_read_all(int fd, const char *file, size_t most, struct strbuf *text, struct diag *d)
{
	char size[32];
	char chunk[16384];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return diag_set(d, errno, file, 0, "cannot read: %s", strerror(errno));
		if (text->len + (size_t)n > most)
			return diag_set(d, EFBIG, file, 0, "larger than %s", size_text(most, size));
		strbuf_put(text, chunk, (size_t)n);
	}
	if (text->truncated)
		return diag_set(d, ENOMEM, file, 0, "out of memory");
	return 0;
}

static int conf_note_file(struct conf *c, const char *file, struct diag *d)
{
	char **strings = realloc(c->files.strings, (c->files.n + 1) * sizeof(*strings));

	if (strings != NULL)
		c->files.strings = strings;
	if (strings == NULL || (strings[c->files.n] = strdup(file)) == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	c->files.n++;
	return 0;
}

/* Options that there is one of keep no places, but for those that messages want. */
static const struct {
	const char *option;
	size_t place;
} noted[] = {
	{"proxy_url", offsetof(struct conf, proxy_url_place)},
	{"incoming.addresses", offsetof(struct conf, incoming.addresses_place)},
	{"auth.file", offsetof(struct conf, auth.file_place)},
	{"outgoing.addresses", offsetof(struct conf, egress.addresses_place)},
};

static void conf_note_places(struct conf *c, const struct toml_doc *doc, const char *file)
{
	size_t n;
	const struct toml_item *items = toml_items(doc, &n);

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < ARRAY_LEN(noted); k++) {
			struct place *at = (struct place *)((char *)c + noted[k].place);

			if (strcasecmp(items[i].path, noted[k].option) == 0)
				*at = (struct place){.file = file, .line = items[i].line};
		}
	}
}

/* Sets what `file` says. -ENOENT only if the file is not there. */
static int conf_read_file(struct conf *c, const char *file, struct diag *d)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct toml_doc *doc = NULL;
	struct strbuf text;
	int r;

	if (fd < 0)
		return diag_set(d, errno, file, 0, "cannot open: %s", strerror(errno));
	strbuf_init_heap(&text);
	r = file_read_all(fd, file, CONF_FILE_MAX, &text, d);
	close(fd);
	if (r == 0)
		r = toml_parse(text.data, text.len, file, &doc, d);
	if (r == 0)
		r = conf_note_file(c, file, d);
	if (r == 0)
		r = option_section_set_all(c->program->options, c->program->sections, c, doc,
					   c->files.strings[c->files.n - 1], d);
	if (r == 0)
		conf_note_places(c, doc, c->files.strings[c->files.n - 1]);
	toml_free(doc);
	strbuf_free(&text);
	return r;
}

static int is_dropin(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".toml") == 0;
}

/* Byte order, whatever the locale: the same everywhere. */
static int dropin_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int conf_read_dropins(struct conf *c, struct diag *d)
{
	const char *dir = c->program->dropin_dir;
	struct dirent **entries;
	char path[PATH_MAX];
	int n = scandir(dir, &entries, is_dropin, dropin_order);
	int r = 0;

	if (n < 0)
		return errno == ENOENT
			       ? 0
			       : diag_set(d, errno, dir, 0, "cannot read: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		if (r == 0) {
			snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
			r = conf_read_file(c, path, d);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int conf_read(struct conf *c, const char *file, struct diag *d)
{
	const struct conf_program *p = c->program;
	int r;

	if (file != NULL)
		return conf_read_file(c, file, d);
	r = conf_read_file(c, p->default_file, d);
	if (r == -ENOENT && !p->file_optional)
		return diag_set(d, ENOENT, p->default_file, 0,
				"the configuration file does not exist; write it, or name another "
				"with -f");
	if (r < 0 && r != -ENOENT)
		return r;
	return conf_read_dropins(c, d);
}

/* A file that an option names: no pipe, which would be waited for. */
static int conf_open_named(const char *file, struct stat *st, struct diag *d)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return diag_set(d, errno, file, 0, "cannot open: %s", strerror(errno));
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	return diag_set(d, EINVAL, file, 0, "is not a regular file");
}

/* A file with something that not everybody may know, into `text`, which the caller wipes. */
static int conf_read_secret(struct conf *c, const char *file, size_t most, const char *what,
			    struct strbuf *text, struct diag *d)
{
	struct stat st;
	int fd = conf_open_named(file, &st, d), r;

	if (fd < 0)
		return fd;
	if ((st.st_mode & S_IRWXO) != 0)
		r = diag_set(d, EINVAL, file, 0,
			     "has %s and is open to everybody (mode %04o): chmod o-rwx %s", what,
			     (unsigned)st.st_mode & 07777, file);
	else
		r = file_read_all(fd, file, most, text, d);
	close(fd);
	return r == 0 ? conf_note_file(c, file, d) : r;
}

/* What is wrong with such a file as a whole is said of the option that names it, at `at`. Returns `r`. */
static int conf_named_failed(int r, struct place at, const char *option, struct diag *d)
{
	const struct diag why = *d;

	if (r < 0 && why.file[0] != '\0' && why.line == 0)
		diag_set(d, -r, at.file, at.line, "option \"%s\": %s: %s", option, why.file,
			 why.text);
	return r;
}

static int conf_read_auth(struct conf *c, struct upstream_conf *u, struct diag *d)
{
	struct strbuf text;
	int r;

	strbuf_init_heap(&text);
	r = conf_read_secret(c, u->auth_file, AUTH_FILE_MAX, "a password", &text, d);
	if (r == 0)
		r = conf_parse_auth(&u->url, text.data, text.len, u->auth_file, d);
	explicit_bzero(text.data, text.len);
	strbuf_free(&text);
	return r;
}

static int conf_read_users(struct conf *c, struct diag *d)
{
	struct strbuf text;
	int r;

	strbuf_init_heap(&text);
	r = conf_read_secret(c, c->auth.file, USERS_FILE_MAX, "hashes of passwords", &text, d);
	if (r == 0)
		r = c->program->parse_users(text.data, text.len, c->auth.file, &c->auth.users, d);
	explicit_bzero(text.data, text.len);
	strbuf_free(&text);
	return r;
}

static bool is_named(const char *file)
{
	return file != NULL && file[0] != '\0';
}

static int conf_read_list(struct conf *c, const char *file, struct strbuf *text, struct diag *d)
{
	struct stat st;
	int fd, r;

	if (!is_named(file))
		return 0;
	fd = conf_open_named(file, &st, d);
	if (fd < 0)
		return fd;
	r = file_read_all(fd, file, LIST_FILE_MAX, text, d);
	close(fd);
	return r == 0 ? conf_note_file(c, file, d) : r;
}

static int conf_read_rule(struct conf *c, struct flow_rule *rule, struct diag *d)
{
	struct strbuf domains, networks;
	int r;

	strbuf_init_heap(&domains);
	strbuf_init_heap(&networks);
	r = conf_named_failed(conf_read_list(c, rule->domains_file, &domains, d),
			      conf_rule_place(rule, "domains_file"), "rule.domains_file", d);
	if (r == 0)
		r = conf_named_failed(conf_read_list(c, rule->networks_file, &networks, d),
				      conf_rule_place(rule, "networks_file"), "rule.networks_file",
				      d);
	if (r == 0)
		r = rule_compile(rule, is_named(rule->domains_file) ? domains.data : NULL,
				 domains.len, is_named(rule->networks_file) ? networks.data : NULL,
				 networks.len, d);
	strbuf_free(&domains);
	strbuf_free(&networks);
	return r;
}

/* What options name, and what comes of it. */
static int conf_read_lists(struct conf *c, struct diag *d)
{
	int r = 0;

	for (size_t i = 0; i < c->n_upstreams && r == 0; i++) {
		struct upstream_conf *u = &c->upstreams[i];

		if (is_named(u->auth_file))
			r = conf_named_failed(conf_read_auth(c, u, d),
					      conf_upstream_place(u, "auth_file"),
					      "upstream.auth_file", d);
	}
	for (size_t i = 0; i < c->rules.n && r == 0; i++)
		r = conf_read_rule(c, &c->rules.rules[i], d);
	if (r == 0 && is_named(c->auth.file))
		r = conf_named_failed(conf_read_users(c, d), c->auth.file_place, "auth.file", d);
	if (r == 0)
		r = egress_check_users(&c->egress, c->auth.users, d);
	return r;
}

int conf_load_defaults(const struct conf_program *p, struct conf **c, struct diag *d)
{
	struct conf *conf = calloc(1, sizeof(*conf));
	int r;

	if (conf == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	conf->refs = 1;
	conf->program = p;
	r = option_set_defaults(p->options, conf);
	if (r < 0) {
		conf_unref(conf);
		return diag_set(d, -r, NULL, 0, "out of memory");
	}
	*c = conf;
	return 0;
}

int conf_load(const struct conf_program *p, const char *file, struct conf **c, struct diag *d)
{
	struct conf *conf;
	int r = conf_load_defaults(p, &conf, d);

	if (r < 0)
		return r;
	r = conf_read(conf, file, d);
	if (file == NULL)
		file = p->default_file;
	if (r == 0 && p->sections == conf_sections)
		r = conf_sections_finish(conf, file, d);
	if (r == 0)
		r = p->finish(conf, file, d);
	if (r == 0 && p->lists)
		r = conf_read_lists(conf, d);
	if (r < 0) {
		conf_unref(conf);
		return r;
	}
	*c = conf;
	return 0;
}

int conf_set_string(struct conf *c, const char *name, const char *value, struct diag *d)
{
	const struct toml_item item = {
		.path = name, .kind = TOML_STRING, .string = value, .len = strlen(value)};

	return option_set(c->program->options, c, &item, d);
}

void conf_dump(const struct conf *c, struct strbuf *out)
{
	option_dump(c->program->options, c, out);
	option_section_dump(c->program->sections, c, out);
}

struct conf *conf_ref(struct conf *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void conf_unref(struct conf *c)
{
	/* Release: what this thread read of it comes before another thread frees it. */
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	option_release(c->program->options, c);
	acl_release(&c->acl);
	users_free(c->auth.users);
	conf_sections_release(c);
	egress_release(&c->egress);
	option_section_release(c->program->sections, c);
	for (size_t i = 0; i < c->files.n; i++)
		free(c->files.strings[i]);
	free(c->files.strings);
	free(c->listen.addrs); /* where no option owns it: filled by finish() */
	free(c->metrics.at.addrs);
	free(c);
}
