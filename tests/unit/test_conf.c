/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/conf.h"
#include "tests/unit/temp_files.h"

/* A directory of its own for each test, with "main.toml" and "d/" as the files of `program`. */
struct fixture {
	char dir[TEMP_DIR_MAX], file[96], dropins[96];
	struct conf_program program;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(temp_dir_make(f->dir, "test_conf"), 0);
	snprintf(f->file, sizeof(f->file), "%s/main.toml", f->dir);
	snprintf(f->dropins, sizeof(f->dropins), "%s/d", f->dir);
	f->program = conf_transocks;
	f->program.default_file = f->file;
	f->program.dropin_dir = f->dropins;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int rc = temp_dir_remove(f->dir);

	free(f);
	return rc;
}

static void write_main(const struct fixture *f, const char *text)
{
	temp_write(f->file, text, strlen(text));
}

static void write_dropin(const struct fixture *f, const char *name, const char *text)
{
	char path[256];

	mkdir(f->dropins, 0755);
	snprintf(path, sizeof(path), "%s/%s", f->dropins, name);
	temp_write(path, text, strlen(text));
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

static void assert_list(const struct addr_list *list, const char *const *expected, size_t n)
{
	char text[ADDR_TEXT_MAX];

	assert_int_equal(list->n, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(addr_format(&list->addrs[i], text, sizeof(text)), expected[i]);
}

static void test_transocks_defaults(void **state)
{
	static const char *const listen[] = {"127.0.0.1:1081", "[::1]:1081"};
	struct fixture *f = *state;
	struct conf *c;

	write_main(f, "proxy_url = \"direct://\"\n");
	c = load(&conf_transocks, f->file);
	assert_int_equal(atomic_load(&c->refs), 1);
	assert_ptr_equal(c->program, &conf_transocks);
	assert_list(&c->listen, listen, 2);
	assert_true(c->listen_default);
	assert_int_equal(c->proxy_url.scheme, PROXY_DIRECT);
	assert_int_equal(c->workers, 0);
	assert_string_equal(c->user, DEFAULT_USER);
	assert_int_equal(c->mark.value, DEFAULT_MARK_VALUE);
	assert_int_equal(c->mark.mask, DEFAULT_MARK_MASK);
	assert_string_equal(c->log.filename, "");
	assert_int_equal(c->log.level, LOG_LEVEL_INFO);
	assert_int_equal(c->log.format, LOG_FORMAT_PLAIN);
	assert_int_equal(c->timeouts.connect, 5000);
	assert_int_equal(c->timeouts.greeting, 2000);
	assert_int_equal(c->timeouts.reply, 30000);
	assert_int_equal(c->timeouts.flow_setup, 45000);
	assert_int_equal(c->timeouts.idle, 0);
	assert_int_equal(c->timeouts.half_close, 600000);
	assert_int_equal(c->timeouts.drain, 60000);
	assert_int_equal(c->timeouts.keepalive, 60000);
	assert_int_equal(c->dns.servers.n, 0);
	assert_int_equal(c->mode, REDIRECT_MODE_REDIRECT);
	assert_int_equal(c->tproxy_mark.value, DEFAULT_TPROXY_MARK_VALUE);
	assert_int_equal(c->tproxy_mark.mask, DEFAULT_TPROXY_MARK_MASK);
	assert_int_equal(c->redirect.backend, REDIRECT_BACKEND_AUTO);
	assert_int_equal(c->redirect.family, REDIRECT_FAMILY_BOTH);
	assert_int_equal(c->redirect.quic, REDIRECT_QUIC_PASS);
	assert_int_equal(c->redirect.when_daemon_down, REDIRECT_DOWN_CLOSED);
	assert_int_equal(c->redirect.priority, DEFAULT_REDIRECT_PRIORITY);
	assert_int_equal(c->redirect.share, 100);
	assert_int_equal(c->redirect.gateway.n + c->redirect.bypass.n + c->redirect.ports.n, 0);
	conf_unref(c);
}

/* The same file for the rules: it may be missing, and need not name an upstream. */
static void test_rules(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	f->program = conf_transocks_rules;
	f->program.default_file = f->file;
	f->program.dropin_dir = f->dropins;
	c = load(&f->program, NULL);
	assert_int_equal(c->proxy_url.scheme, PROXY_NONE);
	assert_int_equal(c->redirect.share, 100);
	conf_unref(c);
	write_main(f, "[redirect]\nshare = 7\ngateway = [\"eth1\", \"eth2\"]\n");
	c = load(&f->program, f->file);
	assert_int_equal(c->redirect.share, 7);
	assert_int_equal(c->redirect.gateway.n, 2);
	assert_string_equal(c->redirect.gateway.strings[1], "eth2");
	conf_unref(c);
}

static void test_usocks_defaults(void **state)
{
	static const char *const listen[] = {"127.0.0.1:1080", "[::1]:1080"};
	struct fixture *f = *state;
	struct conf *c;

	f->program = conf_usocks;
	f->program.default_file = f->file; /* not there, and need not be */
	f->program.dropin_dir = f->dropins;
	c = load(&f->program, NULL);
	assert_list(&c->listen, listen, 2);
	assert_true(c->listen_default);
	assert_int_equal(c->proxy_url.scheme, PROXY_NONE);
	assert_string_equal(c->user, DEFAULT_USER);
	assert_int_equal(c->mark.value, DEFAULT_MARK_VALUE);
	assert_int_equal(c->incoming.commands,
			 1 << INCOMING_CONNECT | 1 << INCOMING_BIND | 1 << INCOMING_UDP_ASSOCIATE);
	assert_int_equal(c->timeouts.handshake, 10000);
	assert_int_equal(c->timeouts.connect, 10000);
	assert_int_equal(c->timeouts.half_close, 600000);
	assert_int_equal(c->timeouts.drain, 60000);
	assert_int_equal(c->timeouts.keepalive, 60000);
	conf_unref(c);
}

static void test_usocks_listen(void **state)
{
	static const char *const expected[] = {"10.1.2.3:3128", "[2001:db8::1]:3128"};
	struct fixture *f = *state;
	struct conf *c;

	write_main(f, "[incoming]\nport = 3128\naddresses = [\"10.1.2.3\", \"2001:db8::1\"]\n"
		      "allow_from = [\"10.0.0.0/8\"]\n");
	c = load(&conf_usocks, f->file);
	assert_list(&c->listen, expected, 2);
	assert_false(c->listen_default);
	conf_unref(c);
	write_main(f, "[incoming]\naddresses = [\"0.0.0.0\", \"::\"]\nallow_from = [\"::/0\"]\n");
	c = load(&conf_usocks, f->file);
	assert_true(c->listen_default);
	conf_unref(c);
}

/* What is listened on, or what the refusal names; "incoming" of the file. */
static void test_usocks_open_relay(void **state)
{
	static const struct {
		const char *incoming, *listen, *refused;
	} cases[] = {
		{"", "127.0.0.1:1080", NULL},
		{"allow_from = []", "127.0.0.1:1080", NULL},
		{"allow_from = [\"10.0.0.0/8\"]", "0.0.0.0:1080", NULL},
		{"allow_from = [\"2001:db8::1\"]\nport = 1", "0.0.0.0:1", NULL},
		{"addresses = [\"127.0.0.2\"]", "127.0.0.2:1080", NULL},
		{"addresses = [\"::1\"]", "[::1]:1080", NULL},
		{"addresses = [\"10.1.2.3\"]\nallow_from = [\"10.1.2.9/8\"]", "10.1.2.3:1080",
		 NULL},
		{"addresses = [\"10.1.2.3\"]", NULL, ": 10.1.2.3 without"},
		{"addresses = [\"10.1.2.3\"]\nallow_from = []", NULL, ": 10.1.2.3 without"},
		{"addresses = [\"0.0.0.0\"]", NULL, ": 0.0.0.0 without"},
		{"addresses = [\"127.0.0.1\", \"::\"]", NULL, ": :: without"},
		{"addresses = [\"::1\", \"fe80::1\"]", NULL, ": fe80::1 without"},
		{"addresses = [\"::ffff:10.1.2.3\"]", NULL, ": 10.1.2.3 without"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[256], listen[ADDR_TEXT_MAX];
		struct conf *c = NULL;
		struct diag d;
		int r;

		snprintf(text, sizeof(text), "[incoming]\n%s\n", cases[i].incoming);
		write_main(f, text);
		r = conf_load(&conf_usocks, f->file, &c, &d);
		if (cases[i].refused != NULL) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(d.file, f->file);
			assert_int_equal(d.line, 2);
			assert_non_null(strstr(d.text, cases[i].refused));
			assert_non_null(strstr(d.text, "allow_from = ["));
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(addr_format(&c->listen.addrs[0], listen, sizeof(listen)),
				    cases[i].listen);
		conf_unref(c);
	}
}

/* Listening where only this host comes, for others alone. */
static void test_usocks_remarks(void **state)
{
	static const struct {
		const char *incoming;
		bool nobody; /* is served, and that is said of line 3 */
	} cases[] = {
		{"addresses = [\"127.0.0.1\"]\nallow_from = [\"10.0.0.0/8\"]", true},
		{"addresses = [\"127.0.0.1\", \"::1\"]\nallow_from = [\"10.0.0.0/8\", "
		 "\"fd00::/8\"]",
		 true},
		{"addresses = [\"::1\"]\nallow_from = [\"127.0.0.1\"]", true},
		{"addresses = [\"127.0.0.1\"]", false},
		{"allow_from = [\"10.0.0.0/8\"]", false},
		{"addresses = []\nallow_from = [\"10.0.0.0/8\"]", false},
		{"addresses = [\"127.0.0.1\", \"10.1.2.3\"]\nallow_from = [\"10.0.0.0/8\"]", false},
		{"addresses = [\"127.0.0.1\", \"::1\"]\nallow_from = [\"::1\"]", false},
		{"addresses = [\"127.0.0.1\"]\nallow_from = [\"127.0.0.9\"]", false},
		{"addresses = [\"127.0.0.1\"]\nallow_from = [\"0.0.0.0/0\"]", false},
		{"addresses = [\"127.0.0.1\"]\nallow_from = [\"10.0.0.0/8\"]\n"
		 "trusted_proxies = [\"127.0.0.1\"]",
		 false},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[256], where[256] = "";
		struct strbuf out;
		struct conf *c;

		snprintf(text, sizeof(text), "[incoming]\n\n%s\n", cases[i].incoming);
		write_main(f, text);
		c = load(&conf_usocks, f->file);
		strbuf_init_heap(&out);
		conf_remarks(c, &out);
		if (cases[i].nobody)
			snprintf(where, sizeof(where), "%s:3: note: only this host", f->file);
		if ((out.len > 0) != cases[i].nobody ||
		    strncmp(out.data, where, strlen(where)) != 0)
			fail_msg("%s\ngave: %s", cases[i].incoming, out.data);
		strbuf_free(&out);
		conf_unref(c);
	}
}

/* Where metrics are served, or what the refusal says. */
static void test_metrics(void **state)
{
	static const struct {
		const struct conf_program *program;
		const char *text;
		size_t n;
		const char *first, *refused;
		bool optional;
	} cases[] = {
		{&conf_usocks, "", 0, NULL, NULL, false},
		{&conf_usocks, "metrics.listen = \"\"", 0, NULL, NULL, false},
		{&conf_usocks, "metrics.listen = \"10.1.2.3:1\"", 1, "10.1.2.3:1", NULL, false},
		{&conf_usocks, "metrics.listen = [\":9\", \"127.0.0.1:8\"]", 3, "0.0.0.0:9", NULL,
		 false},
		{&conf_usocks, "incoming.metrics_port = 1081", 2, "127.0.0.1:1081", NULL, true},
		{&conf_usocks, "incoming.metrics_port = 0\nmetrics.listen = \":9\"", 2, "0.0.0.0:9",
		 NULL, true},
		{&conf_usocks, "incoming.metrics_port = 8\nmetrics.listen = \":9\"", 0, NULL,
		 "\"incoming.metrics_port\" stands beside \"metrics.listen\"", false},
		{&conf_usocks, "incoming.metrics_port = 1080", 0, NULL,
		 "\"incoming.metrics_port\": 127.0.0.1:1080 is where flows come in", false},
		{&conf_usocks, "metrics.listen = \":1080\"", 0, NULL,
		 "\"metrics.listen\": 0.0.0.0:1080 is where flows come in", false},
		{&conf_usocks, "metrics.listen = \"10.1.2.3:1080\"", 1, "10.1.2.3:1080", NULL,
		 false},
		{&conf_usocks, "metrics.listen = [\":9\", \"127.0.0.1:9\"]", 0, NULL,
		 "127.0.0.1:9 is there twice", false},
		{&conf_usocks, "metrics.listen = \"9\"", 0, NULL, "is not ADDRESS:PORT", false},
		{&conf_transocks, "proxy_url = \"direct://\"\nmetrics.listen = \"localhost:9\"", 2,
		 "127.0.0.1:9", NULL, true},
		{&conf_transocks, "proxy_url = \"direct://\"\nmetrics.listen = \"[::1]:1081\"", 0,
		 NULL, "[::1]:1081 is where flows come in", false},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char first[ADDR_TEXT_MAX];
		struct conf *c = NULL;
		struct diag d;
		int r;

		write_main(f, cases[i].text);
		r = conf_load(cases[i].program, f->file, &c, &d);
		if (cases[i].refused != NULL) {
			assert_int_equal(r, -EINVAL);
			if (strstr(d.text, cases[i].refused) == NULL)
				fail_msg("%s: %s", cases[i].text, d.text);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(c->metrics.at.n, cases[i].n);
		if (cases[i].n > 0)
			assert_int_equal(c->metrics.at_default, cases[i].optional);
		if (cases[i].n > 0)
			assert_string_equal(
				addr_format(&c->metrics.at.addrs[0], first, sizeof(first)),
				cases[i].first);
		conf_unref(c);
	}
}

/* Who has to log in may come from everywhere. */
static void test_usocks_users(void **state)
{
	static const char users[] = "bob:$5$salt$x\n# nobody\nalice:$6$salt$x\n";
	struct fixture *f = *state;
	char path[128], text[256], listen[ADDR_TEXT_MAX];
	struct conf *c = NULL;
	struct diag d;

	snprintf(path, sizeof(path), "%s/users", f->dir);
	temp_write(path, users, sizeof(users) - 1);
	snprintf(text, sizeof(text), "[auth]\nfile = \"%s\"\n", path);
	write_main(f, text);
	for (int mode = 0600; mode <= 0607; mode++) {
		assert_int_equal(chmod(path, (mode_t)mode), 0);
		if (mode == 0600)
			continue;
		assert_int_equal(conf_load(&conf_usocks, f->file, &c, &d), -EINVAL);
		assert_string_equal(d.file, f->file);
		assert_int_equal(d.line, 2);
		assert_non_null(strstr(d.text, path));
		assert_non_null(strstr(d.text, "has hashes of passwords and is open to everybody"));
	}
	assert_int_equal(chmod(path, 0640), 0);
	c = load(&conf_usocks, f->file);
	assert_int_equal(c->auth.users->n, 2);
	assert_true(c->acl.passwords);
	assert_string_equal(addr_format(&c->listen.addrs[0], listen, sizeof(listen)),
			    "0.0.0.0:1080");
	assert_string_equal(c->files.strings[1], path);
	conf_unref(c);
	c = NULL;
	snprintf(text, sizeof(text),
		 "[incoming]\naddresses = [\"10.1.2.3\"]\n[auth]\nfile = \"%s\"\n", path);
	write_main(f, text);
	c = load(&conf_usocks, f->file);
	assert_string_equal(addr_format(&c->listen.addrs[0], listen, sizeof(listen)),
			    "10.1.2.3:1080");
	conf_unref(c);
	temp_write(path, "bob:secret\n", 11);
	assert_int_equal(conf_load(&conf_usocks, f->file, &c, &d), -EINVAL);
	assert_int_equal(d.line, 1);
	assert_null(strstr(d.text, "secret"));
	write_main(f, "[auth]\nfile = \"users\"\n");
	assert_int_equal(conf_load(&conf_usocks, f->file, &c, &d), -EINVAL);
	assert_non_null(strstr(d.text, "whole path"));
}

/* A family may be left out only where both are named alike. */
static void test_both_families(void **state)
{
	static const struct {
		const char *listen;
		bool both;
	} cases[] = {
		{"\"localhost:1081\"", true},
		{"\":1081\"", true},
		{"[\":1081\", \"localhost:1\"]", true},
		{"[\"[::1]:5\", \"127.0.0.1:5\"]", true},
		{"\"127.0.0.1:1081\"", false},
		{"\"[::1]:1081\"", false},
		{"\"[::]:1081\"", false},
		{"[\"127.0.0.1:1\", \"[::1]:2\"]", false},
		{"[\"127.0.0.2:1\", \"[::1]:1\"]", false},
		{"[\"0.0.0.0:1\", \"[::1]:1\"]", false},
		{"[\":1081\", \"10.0.0.1:1080\"]", false},
	};
	struct fixture *f = *state;
	char text[256];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf *c;

		snprintf(text, sizeof(text), "proxy_url = \"direct://\"\nlisten = %s\n",
			 cases[i].listen);
		write_main(f, text);
		c = load(&conf_transocks, f->file);
		assert_int_equal(c->listen_default, cases[i].both);
		conf_unref(c);
	}
}

static void test_level_words(void **state)
{
	static const struct {
		const char *word;
		enum log_level level;
	} cases[] = {
		{"critical", LOG_LEVEL_CRITICAL}, {"crit", LOG_LEVEL_CRITICAL},
		{"error", LOG_LEVEL_ERROR},       {"warning", LOG_LEVEL_WARNING},
		{"warn", LOG_LEVEL_WARNING},      {"info", LOG_LEVEL_INFO},
		{"information", LOG_LEVEL_INFO},  {"debug", LOG_LEVEL_DEBUG},
	};
	struct fixture *f = *state;
	struct diag d = {0};
	struct conf *c;

	write_main(f, "proxy_url = \"direct://\"\n");
	c = load(&conf_transocks, f->file);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(conf_set_string(c, "log.level", cases[i].word, &d), 0);
		assert_int_equal(c->log.level, cases[i].level);
	}
	assert_int_equal(conf_set_string(c, "log.filename", "/x", &d), 0);
	assert_string_equal(c->log.filename, "/x");
	assert_int_equal(conf_set_string(c, "log.format", "json", &d), 0);
	assert_int_equal(c->log.format, LOG_FORMAT_JSON);
	assert_int_equal(conf_set_string(c, "log.level", "loud", &d), -EINVAL);
	assert_string_equal(d.file, "");
	assert_string_equal(d.text,
			    "option \"log.level\": \"loud\" is not one of: critical, error, "
			    "warning, info, debug");
	conf_unref(c);
}

static void test_dropins(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	write_main(f, "proxy_url = \"direct://\"\nworkers = 1\nuser = \"a\"\n");
	write_dropin(f, "20-b.toml", "workers = 3\n");
	write_dropin(f, "10-a.toml", "workers = 2\nuser = \"b\"\n");
	write_dropin(f, ".hidden.toml", "workers = 9\n");
	write_dropin(f, "30.toml.bak", "workers = 9\n");
	write_dropin(f, ".toml", "workers = 9\n");
	c = load(&f->program, NULL);
	assert_int_equal(c->workers, 3);
	assert_string_equal(c->user, "b");
	conf_unref(c);

	c = load(&f->program, f->file); /* named: that file alone */
	assert_int_equal(c->workers, 1);
	conf_unref(c);
}

static void test_optional_file_with_dropin(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	f->program.file_optional = true;
	write_dropin(f, "a.toml", "proxy_url = \"direct://\"\n");
	c = load(&f->program, NULL);
	assert_int_equal(c->proxy_url.scheme, PROXY_DIRECT);
	conf_unref(c);
}

static void assert_fails(const struct conf_program *p, const char *file, int err, const char *where,
			 const char *why)
{
	struct conf *c = NULL;
	struct diag d = {0};
	char text[1024];

	assert_int_equal(conf_load(p, file, &c, &d), -err);
	assert_null(c);
	diag_format(&d, text, sizeof(text));
	if (strstr(text, where) == NULL || strstr(text, why) == NULL)
		fail_msg("%s", text);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	const struct conf_program *p = &f->program;

	assert_fails(p, NULL, ENOENT, "main.toml: ", "name another with -f");
	assert_fails(p, f->file, ENOENT, "main.toml: ", "cannot open: No such file");
	assert_fails(p, f->dir, EISDIR, f->dir, "cannot read: Is a directory");

	write_main(f, "workers = 1\n");
	assert_fails(p, NULL, EINVAL, "main.toml: ", "\"proxy_url\" must be set");
	assert_fails(p, f->file, EINVAL, "main.toml: ", "direct://");
	write_main(f, "proxy_url = \"direct://\"\n\nworker = 1\n");
	assert_fails(p, NULL, EINVAL, "main.toml:3: ", "did you mean \"workers\"?");
	write_main(f, "proxy_url = \"direct://\"\nworkers = \n");
	assert_fails(p, NULL, EINVAL, "main.toml:2: ", "expected value");
	write_main(f, "proxy_url = \"direct://\"\ntimeouts.handshake = \"1s\"\n");
	assert_fails(p, NULL, EINVAL, "main.toml:2: ", "unknown option \"timeouts.handshake\"");

	write_main(f, "proxy_url = \"direct://\"\nmode = \"tproxy\"\ntproxy_mark = \"0/0\"\n");
	assert_fails(p, NULL, EINVAL, "main.toml: ", "option \"tproxy_mark\"");
	write_main(f, "proxy_url = \"direct://\"\nmode = \"tproxy\"\nmark = \"0x30/0x30\"\n");
	assert_fails(p, NULL, EINVAL, "main.toml: ", "share bits of their masks");
	write_main(f, "proxy_url = \"direct://\"\nmode = \"tproxy\"\n[redirect]\n"
		      "exempt_marks = [\"5\", \"0x10/0x10\"]\n");
	assert_fails(p, NULL, EINVAL, "main.toml: ", "0x10/0x10 would exempt what \"tproxy_mark\"");
	write_main(f, "proxy_url = \"direct://\"\nmode = \"tproxy\"\n[redirect]\n"
		      "exempt_marks = [\"5\", \"0x20/0x30\", \"0x30/0xf0\"]\n");
	assert_fails(p, NULL, EINVAL, "main.toml: ", "0x30/0xf0 would exempt");
	write_main(f, "proxy_url = \"direct://\"\n[redirect]\n\npriority = -200\n");
	assert_fails(p, NULL, EINVAL, "main.toml:4: ", "-200 is out of range (-199..99)");

	write_main(f, "proxy_url = \"direct://\"\n");
	write_dropin(f, "a.toml", "\nworkers = 257\n");
	assert_fails(p, NULL, EINVAL, "d/a.toml:2: ", "257 is out of range (0..256)");
}

static void test_usocks_named_file(void **state)
{
	struct fixture *f = *state;

	write_main(f, "[auth]\n\nFile = \"/nonexistent\"\n");
	assert_fails(&conf_usocks, f->file, ENOENT, "main.toml:3: ",
		     "option \"auth.file\": /nonexistent: cannot open: No such file");
	write_main(f, "[auth]\nfile = \"/\"\n");
	assert_fails(&conf_usocks, f->file, EINVAL,
		     "main.toml:2: ", "option \"auth.file\": /: is not a regular file");
}

static void test_unreadable(void **state)
{
	struct fixture *f = *state;
	bool root = geteuid() == 0;

	write_main(f, "proxy_url = \"direct://\"\n");
	assert_int_equal(chmod(f->file, 0), 0);
	if (root && seteuid(65534) != 0)
		skip(); /* a user namespace with one user: root, who may read everything */
	assert_fails(&f->program, NULL, EACCES, "main.toml: ", "cannot open: Permission denied");
	if (root)
		assert_int_equal(seteuid(0), 0);
}

static void test_dropin_dir_is_a_file(void **state)
{
	struct fixture *f = *state;

	write_main(f, "proxy_url = \"direct://\"\n");
	temp_write(f->dropins, "", 0);
	assert_fails(&f->program, NULL, ENOTDIR, "/d: ", "cannot read: Not a directory");
}

static void test_size_limit(void **state)
{
	size_t limit = (size_t)16 << 20;
	struct fixture *f = *state;
	static const char head[] = "proxy_url = \"direct://\"\n";
	char *text = malloc(limit + 1);
	struct conf *c;

	memset(text, '\n', limit + 1);
	memcpy(text, head, strlen(head));
	temp_write(f->file, text, limit);
	c = load(&f->program, NULL);
	conf_unref(c);
	temp_write(f->file, text, limit + 1);
	assert_fails(&f->program, NULL, EFBIG, "main.toml: ", "larger than 16 MiB");
	free(text);
}

static void test_references(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	write_main(f, "proxy_url = \"direct://\"\n");
	c = load(&f->program, NULL);
	assert_ptr_equal(conf_ref(c), c);
	assert_int_equal(atomic_load(&c->refs), 2);
	conf_unref(c);
	assert_int_equal(atomic_load(&c->refs), 1);
	conf_unref(c); /* freed: the leak checker watches */
	conf_unref(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_transocks_defaults),
		TEST(test_rules),
		TEST(test_usocks_defaults),
		TEST(test_usocks_listen),
		TEST(test_metrics),
		TEST(test_usocks_open_relay),
		TEST(test_usocks_remarks),
		TEST(test_usocks_named_file),
		TEST(test_usocks_users),
		TEST(test_both_families),
		TEST(test_level_words),
		TEST(test_dropins),
		TEST(test_optional_file_with_dropin),
		TEST(test_errors),
		TEST(test_unreadable),
		TEST(test_dropin_dir_is_a_file),
		TEST(test_size_limit),
		TEST(test_references),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
