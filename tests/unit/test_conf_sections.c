/* SPDX-License-Identifier: MIT */
/*
 * [[upstream]], [group.NAME] and [[rule]]: what files make of them, and what is refused.
 */
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

	assert_int_equal(temp_dir_make(f->dir, "test_conf_sections"), 0);
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

static struct conf *load(const struct fixture *f)
{
	struct conf *c = NULL;
	struct diag d = {0};
	char text[1024];

	if (conf_load(&f->program, NULL, &c, &d) != 0)
		fail_msg("%s", diag_format(&d, text, sizeof(text)));
	return c;
}

static struct conf *load_text(const struct fixture *f, const char *text)
{
	write_main(f, text);
	return load(f);
}

static void assert_url(const struct upstream_conf *u, const char *expected)
{
	char text[PROXY_URL_TEXT_MAX];

	assert_string_equal(proxy_url_format(&u->url, text, sizeof(text)), expected);
}

static void assert_members(const struct group_conf *g, const char *name, const size_t *members,
			   size_t n)
{
	assert_string_equal(g->name, name);
	assert_int_equal(g->n_members, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(g->members[i], members[i]);
}

static void test_short_form(void **state)
{
	struct conf *c = load_text(*state, "proxy_url = \"socks5://u:p@10.0.0.1\"\n");

	assert_int_equal(c->n_upstreams, 1);
	assert_string_equal(c->upstreams[0].name, "socks5://10.0.0.1:1080");
	assert_url(&c->upstreams[0], "socks5://10.0.0.1:1080");
	assert_string_equal(c->upstreams[0].url.password, "p");
	assert_string_equal(c->upstreams[0].group, "default");
	assert_null(c->upstreams[0].place.file);
	assert_int_equal(c->upstreams[0].weight, 1);
	assert_int_equal(c->n_groups, 1);
	assert_members(&c->groups[0], "default", (const size_t[]){0}, 1);
	assert_int_equal(c->rules.n, 0);
	assert_int_equal(c->sniff.ports.n, 2);
	assert_int_equal(c->sniff.timeout, 300);
	conf_unref(c);
}

static const char two_groups[] = "[[upstream]]\n"
				 "url = \"socks5://10.0.0.1\"\n"
				 "group = \"far\"\n"
				 "name = \"a\"\n"
				 "weight = 7\nwarm = 3\naddress = \"auto\"\nproxy_protocol = true\n"
				 "name_fallback = true\nsource = [\"10.0.0.9\", \"fd00::9\"]\n"
				 "[[upstream]]\n"
				 "url = \"direct://\"\n"
				 "[group.far]\n"
				 "choose = \"failover\"\nwhen_all_down = \"direct\"\n"
				 "probe_interval = \"5s\"\nprobe_dest = \"[::1]:80\"\n";

static void test_upstreams(void **state)
{
	struct fixture *f = *state;
	struct conf *c = load_text(f, two_groups);
	const struct upstream_conf *a = &c->upstreams[0], *b = &c->upstreams[1];

	assert_int_equal(c->n_upstreams, 2);
	assert_string_equal(a->name, "a");
	assert_string_equal(a->place.file, f->file);
	assert_int_equal(a->place.line, 1);
	assert_int_equal(a->weight, 7);
	assert_int_equal(a->warm, 3);
	assert_int_equal(a->address, UPSTREAM_ADDRESS_AUTO);
	assert_true(a->proxy_protocol && a->name_fallback);
	assert_int_equal(a->source.n, 2);
	assert_int_equal(a->group_index, 1);
	assert_string_equal(b->name, "direct");
	assert_int_equal(b->place.line, 11);
	assert_int_equal(b->address, UPSTREAM_ADDRESS_NAME);
	assert_false(b->proxy_protocol || b->name_fallback);
	assert_int_equal(c->n_groups, 2);
	assert_members(&c->groups[0], "default", (const size_t[]){1}, 1);
	assert_null(c->groups[0].place.file);
	assert_members(&c->groups[1], "far", (const size_t[]){0}, 1);
	assert_int_equal(c->groups[1].choose, GROUP_FAILOVER);
	assert_int_equal(c->groups[1].when_all_down, GROUP_ALL_DOWN_DIRECT);
	assert_int_equal(c->groups[1].probe_interval, 5000);
	assert_string_equal(c->groups[1].probe_dest, "[::1]:80");
	assert_int_equal(c->groups[1].place.line, 13);
	conf_unref(c);
}

static void test_rules(void **state)
{
	struct fixture *f = *state;
	struct conf *c;
	char text[2048], name[128];
	const struct flow_rule *r;

	snprintf(text, sizeof(text), "%s%s", two_groups,
		 "[[rule]]\n"
		 "name = \"first\"\n"
		 "domains = [\".Example.com\", \"x.test\"]\nnetworks = [\"11.0.0.0/8\"]\n"
		 "ports = [\"8000-8999\", 443]\nclients = [\"10.1.0.0/16\", \"fd00::1\"]\n"
		 "unknown_name = \"match\"\nobserve = true\naction = \"refuse\"\n"
		 "[[rule]]\n"
		 "group = \"far\"\n"
		 "[[rule]]\n");
	c = load_text(f, text);
	assert_int_equal(c->rules.n, 3);
	r = c->rules.rules;
	assert_string_equal(r[0].name, "first");
	assert_int_equal(r[0].domains.n, 2);
	assert_string_equal(r[0].domains.strings[0], ".Example.com");
	assert_int_equal(r[0].networks.n, 1);
	assert_int_equal(r[0].clients.n, 2);
	assert_int_equal(r[0].ports.n, 2);
	assert_int_equal(r[0].ports.ranges[0].first, 443);
	assert_int_equal(r[0].unknown_name, RULE_UNKNOWN_MATCH);
	assert_true(r[0].observe);
	assert_int_equal(r[0].action, RULE_REFUSE);
	assert_null(r[0].group);
	assert_int_equal(r[1].action, RULE_PROXY);
	assert_int_equal(r[1].unknown_name, RULE_UNKNOWN_AUTO);
	assert_int_equal(r[1].group_index, 1);
	snprintf(name, sizeof(name), "%s:%d", f->file, r[1].place.line);
	assert_string_equal(r[1].name, name);
	assert_int_equal(r[2].place.line, r[1].place.line + 2);
	assert_int_equal(r[2].group_index, 0);
	assert_string_equal(r[2].group, "default");
	conf_unref(c);
}

/* Lists grow, groups of one name are one, and each knows its own file. */
static void test_dropins(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	write_main(f, two_groups);
	write_dropin(f, "1.toml",
		     "[[upstream]]\nurl = \"socks5://10.0.0.3\"\ngroup = \"far\"\n"
		     "[group.far]\nprobe_interval = 0\nprobe_dest = \"\"\n"
		     "[[rule]]\naction = \"direct\"\nports = [22]\n"
		     "[[rule]]\ngroup = \"far\"\n");
	write_dropin(f, "2.toml", "[[upstream]]\nurl = \"socks5://10.0.0.4\"\n[[rule]]\n");
	c = load(f);
	assert_int_equal(c->n_upstreams, 4);
	assert_url(&c->upstreams[2], "socks5://10.0.0.3:1080");
	assert_non_null(strstr(c->upstreams[2].place.file, "d/1.toml"));
	assert_non_null(strstr(c->upstreams[3].place.file, "d/2.toml"));
	assert_members(&c->groups[0], "default", (const size_t[]){1, 3}, 2);
	assert_members(&c->groups[1], "far", (const size_t[]){0, 2}, 2);
	assert_int_equal(c->groups[1].choose, GROUP_FAILOVER);
	assert_int_equal(c->groups[1].probe_interval, 0);
	assert_int_equal(c->rules.n, 3);
	assert_non_null(strstr(c->rules.rules[2].name, "d/2.toml:3"));
	conf_unref(c);
}

static void test_default_group_is_first(void **state)
{
	struct conf *c = load_text(*state, "[[upstream]]\nurl = \"direct://\"\ngroup = \"z\"\n"
					   "[[upstream]]\nurl = \"socks5://10.0.0.1\"\n"
					   "[group.z]\n[group.default]\nchoose = \"failover\"\n");

	assert_int_equal(c->n_groups, 2);
	assert_members(&c->groups[0], "default", (const size_t[]){1}, 1);
	assert_int_equal(c->groups[0].choose, GROUP_FAILOVER);
	assert_int_equal(c->groups[0].place.line, 7);
	assert_members(&c->groups[1], "z", (const size_t[]){0}, 1);
	conf_unref(c);
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	struct strbuf text;
	struct conf *c;

	strbuf_init_heap(&text);
	for (int i = 0; i < UPSTREAMS_MAX; i++)
		strbuf_printf(&text, "[[upstream]]\nurl = \"socks5://10.0.%d.%d\"\n", i / 256,
			      i % 256);
	c = load_text(f, text.data);
	assert_int_equal(c->n_upstreams, UPSTREAMS_MAX);
	assert_int_equal(c->groups[0].n_members, UPSTREAMS_MAX);
	assert_url(&c->upstreams[UPSTREAMS_MAX - 1], "socks5://10.0.3.255:1080");
	conf_unref(c);
	strbuf_free(&text);
}

/* The rules may be there before the daemon has an upstream. */
static void test_rules_program(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	f->program = conf_transocks_rules;
	f->program.default_file = f->file;
	f->program.dropin_dir = f->dropins;
	c = load_text(f, "[[rule]]\ngroup = \"far\"\n");
	assert_int_equal(c->n_upstreams, 0);
	conf_unref(c);
	c = load_text(f, two_groups);
	assert_int_equal(c->n_upstreams, 2);
	conf_unref(c);
}

static const struct refusal {
	const char *text;
	int line; /* 0: none */
	const char *why;
} refusals[] = {
	{"[[upstream]]\nurl = \"direct://\"\n[upstream.x]\n", 3, "upstream"},
	{"[upstream]\nurl = \"direct://\"\n", 1, "write [[upstream]] and its options below"},
	{"upstream = \"direct://\"\n", 1, "write [[upstream]] and its options below"},
	{"upstream = []\n", 1, "write [[upstream]]"},
	{"[upstream]\n", 1, "write [[upstream]]"},
	{"[[group]]\nchoose = \"failover\"\n", 1, "write [group.NAME] and its options below"},
	{"[group]\nchoose = \"failover\"\n", 1, "write [group.NAME]"},
	{"[group]\n", 1, "write [group.NAME]"},
	{"[[group.a]]\nchoose = \"failover\"\n", 1, "write [group.NAME]"},
	{"[group.\"a b\"]\nchoose = \"failover\"\n", 1, "letters, digits, '-' and '_' only"},
	{"[group.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", 1,
	 "at most 63 letters"},
	{"[[upstreem]]\nurl = \"direct://\"\n", 1, "did you mean [[upstream]]?"},
	{"[groups.far]\nchoose = \"failover\"\n", 1, "did you mean [group.NAME]?"},
	{"[[rules]]\n", 1, "did you mean [[rule]]?"},
	{"[[upstream]]\nurll = \"direct://\"\n", 2,
	 "unknown option \"urll\" in [[upstream]]; did you mean \"url\"?"},
	{"[[upstream]]\nurl = \"direct://\"\nfoo.bar = 1\n", 3,
	 "unknown option \"foo.bar\" in [[upstream]]"},
	{"[group.far]\nchose = \"failover\"\n", 2,
	 "unknown option \"chose\" in [group.far]; did you mean \"choose\"?"},
	{"[[upstream]]\nurl = 7\n", 2, "option \"upstream.url\" wants a string"},
	{"[[upstream]]\nurl = \"direct://\"\nURL = \"direct://\"\n", 3,
	 "\"upstream[0].URL\" is already set in line 2"},
	{"[[upstream]]\nname = \"x\"\n", 1, "[[upstream]] without \"url\""},
	{"[[upstream]]\n", 1, "[[upstream]] without \"url\""},
	{"proxy_url = \"direct://\"\n[[upstream]]\nurl = \"direct://\"\n", 2,
	 "[[upstream]] beside \"proxy_url\""},
	{"[[upstream]]\nurl = \"socks5://h\"\n[[upstream]]\nurl = \"socks5://h:1080\"\n", 3,
	 "another upstream is called \"socks5://h:1080\" as well"},
	{"[[rule]]\n", 0, "\"proxy_url\" must be set, or an [[upstream]]"},
	{"proxy_url = \"direct://\"\n[group.far]\nchoose = \"failover\"\n", 2,
	 "[group.far]: no upstream is in the group \"far\"; write group = \"far\""},
	{"[[upstream]]\nurl = \"direct://\"\ngroup = \"tokyo\"\n[group.tokio]\n", 4,
	 "did you mean \"tokyo\"?"},
	{"proxy_url = \"direct://\"\n[[rule]]\ngroup = \"far\"\n", 3,
	 "[[rule]]: no upstream is in the group \"far\""},
	{"proxy_url = \"direct://\"\n[[rule]]\naction = \"direct\"\ngroup = \"default\"\n", 4,
	 "option \"rule.group\" is for action \"proxy\", not \"direct\""},
	{"[[upstream]]\nurl = \"direct://\"\ngroup = \"far\"\n", 0,
	 "no upstream is in the group \"default\""},
	{"[[upstream]]\nurl = \"direct://\"\ngroup = \"far\"\n[[rule]]\ngroup = \"far\"\n"
	 "observe = true\n",
	 0, "no upstream is in the group \"default\""},
	{"proxy_url = \"direct://\"\n[[rule]]\nports = []\n", 3,
	 "option \"rule.ports\" is empty: leave it out"},
	{"proxy_url = \"direct://\"\n[[rule]]\ndomains = [\"*.example.com\"]\n", 3,
	 "write \".example.com\""},
	{"proxy_url = \"direct://\"\n[[rule]]\ndomains = [\".b\xc3\xbc"
	 "cher.example\"]\n",
	 3, "write it in the form \"xn--...\""},
	{"proxy_url = \"socks5://b\xc3\xbc"
	 "cher.example\"\n",
	 1, "in the form \"xn--...\""},
	{"proxy_url = \"direct://\"\n[[rule]]\ndomains = [\"10.0.0.1\"]\n", 3,
	 "write it into \"networks\""},
	{"proxy_url = \"direct://\"\n[[rule]]\ndomains = [\".\"]\n", 3, "is not a domain"},
	{"proxy_url = \"direct://\"\n[[rule]]\nobserve = 1\n", 3, "wants true or false"},
	{"[[upstream]]\nurl = \"direct://\"\nproxy_protocol = true\n", 3,
	 "option \"upstream.proxy_protocol\" is for an upstream"},
	{"[[upstream]]\n# why\n\nurl = \"direct://\"\nproxy_protocol = true\nweight = 2\n", 5,
	 "option \"upstream.proxy_protocol\" is for"},
	{"[[upstream]]\n# why\nname = \"x\"\n", 1, "[[upstream]] without \"url\""},
	{"# why\n[[upstream]]\nurl = \"socks5://h\"\n[[upstream]]\nurl = \"socks5://i\"\n\n"
	 "name = \"socks5://h:1080\"\n",
	 7, "is called \"socks5://h:1080\" as well"},
	{"[[upstream]]\nurl = \"direct://\"\nwarm = 1\n", 3, "option \"upstream.warm\" is for"},
	{"[[upstream]]\nurl = \"direct://\"\nauth_file = \"/x\"\n", 3, "auth_file\" is for"},
	{"[[upstream]]\nurl = \"socks5://u@h\"\nauth_file = \"/x\"\n", 3,
	 "option \"upstream.auth_file\" stands beside a user in the URL"},
	{"[[upstream]]\nurl = \"socks5://h\"\nauth_file = \"x\"\n", 3,
	 "\"x\" is not a whole path: it must begin with '/'"},
	{"[[upstream]]\nurl = \"socks5://h\"\naddress = \"ip\"\nname_fallback = true\n", 4,
	 "option \"upstream.name_fallback\" has nothing to fall back from"},
	{"[[upstream]]\nurl = \"socks5://h\"\nweight = 0\n", 3, "0 is out of range (1..1000)"},
	{"[[upstream]]\nurl = \"socks5://h\"\nweight = 1001\n", 3, "1001 is out of range"},
	{"[[upstream]]\nurl = \"socks5://h\"\nwarm = 1001\n", 3, "1001 is out of range (0..1000)"},
	{"[[upstream]]\nurl = \"socks5://h\"\nsource = [\"h\"]\n", 3, "\"h\" is not an IP address"},
	{"[[upstream]]\nurl = \"socks5://h\"\nsource = [\"::1\", \"::1\"]\n", 3,
	 "option \"upstream.source\": ::1 is there twice"},
	{"[[upstream]]\nurl = \"socks5://h\"\nsource = [\"0.0.0.0\"]\n", 3,
	 "0.0.0.0 is no address"},
	{"[[upstream]]\nurl = \"socks5://10.0.0.1\"\nsource = [\"::1\"]\n", 3,
	 "the upstream's address is IPv4, and no source is"},
	{"[[upstream]]\nurl = \"socks5://[fd00::1]\"\nsource = [\"10.0.0.2\"]\n", 3,
	 "the upstream's address is IPv6, and no source is"},
	{"[[upstream]]\nurl = \"socks5://h\"\nname = \"direct\"\n", 3, "is for direct:// alone"},
	{"[[upstream]]\nurl = \"socks5://h\"\nname = \"\"\n", 3, "length 0 is out of range"},
	{"[[upstream]]\nurl = \"socks5://h\"\naddress = \"names\"\n", 3,
	 "is not one of: name, auto, ip"},
	{"[[upstream]]\nurl = \"socks5://h\"\ngroup = \"a.b\"\n", 3, "\"a.b\" is not a name"},
	{"[[upstream]]\nurl = \"socks5://u:hunter2@h/\"\nurl2 = 1\n", 3, "did you mean \"url\"?"},
	{"[[upstream]]\nurl = \"socks5://u:hunter2/@h\"\n", 2, "path, query and fragment"},
	{"proxy_url = \"direct://\"\n[group.default]\nprobe_dest = \"h:1\"\n", 3,
	 "[group.default]: \"probe_dest\" without \"probe_interval\""},
	{"proxy_url = \"direct://\"\n[group.default]\nprobe_dest = \"h\"\n", 3,
	 "\"h\" is not HOST:PORT"},
	{"proxy_url = \"direct://\"\n[group.default]\nprobe_dest = \"1.2:3\"\n", 3,
	 "\"1.2:3\" is not HOST:PORT"},
	{"proxy_url = \"direct://\"\n[group.default]\nprobe_interval = \"999ms\"\n", 3,
	 "\"probe_interval\" is at least 1s"},
	{"proxy_url = \"direct://\"\n[[rule]]\nunknown_name = \"skip\"\n", 3,
	 "option \"rule.unknown_name\" is for a rule on domains"},
	{"proxy_url = \"direct://\"\n[[rule]]\nname = \"a\"\n[[rule]]\n[[rule]]\naction = "
	 "\"direct\"\n"
	 "name = \"a\"\n",
	 7, "another rule is called \"a\" as well"},
	{"proxy_url = \"direct://\"\n[[rule]]\nports = [443, 0]\n", 3, "0 is out of range"},
	{"proxy_url = \"direct://\"\n[[rule]]\nports = [\"9-8\"]\n", 3, "is not a port"},
	{"proxy_url = \"direct://\"\n[[rule]]\nclients = [\"10.0.0.1/8\"]\n", 3,
	 "is not a network"},
	{"proxy_url = \"direct://\"\n[sniff]\ntimeout = 0\n", 3, "out of range (1ms..10s)"},
};

static void test_refusals(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		const struct refusal *r = &refusals[i];
		struct conf *c = NULL;
		struct diag d = {0};
		char text[1024];

		write_main(f, r->text);
		assert_int_equal(conf_load(&f->program, NULL, &c, &d), -EINVAL);
		diag_format(&d, text, sizeof(text));
		if (strcmp(d.file, f->file) != 0 || d.line != r->line ||
		    strstr(d.text, r->why) == NULL)
			fail_msg("%s\ngave: %s\nnot line %d: %s", r->text, text, r->line, r->why);
		assert_null(strstr(text, "hunter2"));
	}
}

static void test_too_many(void **state)
{
	struct fixture *f = *state;
	struct strbuf text;
	struct conf *c = NULL;
	struct diag d = {0};

	strbuf_init_heap(&text);
	for (int i = 0; i <= UPSTREAMS_MAX; i++)
		strbuf_puts(&text, "[[upstream]]\nurl = \"direct://\"\n");
	write_main(f, text.data);
	assert_int_equal(conf_load(&f->program, NULL, &c, &d), -EINVAL);
	assert_int_equal(d.line, 2 * UPSTREAMS_MAX + 1);
	assert_string_equal(d.text, "more than 1024 tables [[upstream]]");
	strbuf_free(&text);
}

/* What --dump-config prints is the same configuration. */
static void test_dump(void **state)
{
	struct fixture *f = *state;
	struct strbuf text, first, second;
	struct conf *c;

	strbuf_init_heap(&text);
	strbuf_printf(&text, "%s[[rule]]\ndomains = [\"a.b\"]\naction = \"direct\"\n[[rule]]\n",
		      two_groups);
	c = load_text(f, text.data);
	strbuf_init_heap(&first);
	conf_dump(c, &first);
	conf_unref(c);
	c = load_text(f, first.data);
	assert_int_equal(c->n_upstreams, 2);
	assert_int_equal(c->rules.n, 2);
	strbuf_init_heap(&second);
	conf_dump(c, &second);
	assert_string_equal(second.data, first.data);
	conf_unref(c);
	strbuf_free(&text);
	strbuf_free(&first);
	strbuf_free(&second);
}

static void test_remarks(void **state)
{
	static const struct {
		const char *text, *where; /* NULL: nothing is said */
	} cases[] = {
		{"[[rule]]\nports = [1]\n[[rule]]\n", NULL},
		{"[[rule]]\nobserve = true\n[[rule]]\n", NULL},
		{"[[rule]]\naction = \"refuse\"\n[[rule]]\nports = [1]\n[[rule]]\n",
		 "main.toml:4: note: this rule and those behind it are never reached"},
		{"sniff.ports = []\n[[rule]]\nports = [1]\n", NULL},
		{"sniff.ports = []\n[[rule]]\ndomains = [\"a.b\"]\nunknown_name = \"match\"\n",
		 NULL},
		{"sniff.ports = []\n[[rule]]\ndomains = [\"a.b\"]\n",
		 "main.toml:3: note: \"sniff.ports\""},
		{"sniff.ports = []\n[[rule]]\ndomains = [\"a.b\"]\nunknown_name = \"skip\"\n",
		 "main.toml:3: note: \"sniff.ports\""},
		{"[[rule]]\ndomains = [\"a.b\"]\nports = [22, \"81-442\"]\naction = \"refuse\"\n",
		 "main.toml:2: note: none of its ports is one of \"sniff.ports\""},
		{"[[rule]]\ndomains = [\"a.b\"]\nports = [22]\nunknown_name = \"match\"\n", NULL},
		{"[[rule]]\ndomains = [\"a.b\"]\nports = [\"22-80\"]\n", NULL},
		{"[[rule]]\ndomains = [\"a.b\"]\naction = \"refuse\"\n",
		 "main.toml:2: note: this rule also refuses what has no name"},
		{"[[rule]]\ndomains = [\"a.b\"]\naction = \"refuse\"\nobserve = true\n", NULL},
		{"[[rule]]\ndomains = [\"a.b\"]\naction = \"refuse\"\nunknown_name = \"skip\"\n",
		 NULL},
		{"[[rule]]\nnetworks = [\"11.0.0.0/8\"]\naction = \"refuse\"\n", NULL},
		{"proxy_url = \"socks5://h\"\n[[rule]]\nnetworks = [\"11.0.0.0/8\"]\n"
		 "action = \"refuse\"\n",
		 "main.toml:2: note: upstream \"socks5://h:1080\" is told names"},
		{"proxy_url = \"socks5://h\"\n[[rule]]\nnetworks = [\"11.0.0.0/8\"]\n"
		 "action = \"refuse\"\nports = [22]\n",
		 NULL},
		{"proxy_url = \"socks5://h\"\n[[rule]]\nnetworks = [\"11.0.0.0/8\"]\n", NULL},
		{"[[upstream]]\nurl = \"socks5://h\"\naddress = \"auto\"\n[[rule]]\n"
		 "networks = [\"11.0.0.0/8\"]\naction = \"refuse\"\n",
		 NULL},
		{"sniff.ports = []\nProxy_URL = \"socks5://u:hunter2@h\"\n",
		 "main.toml:2: note: \"proxy_url\" has a password, and everybody may read"},
		{"proxy_url = \"socks5://u@h\"\n", NULL},
		{"[[upstream]]\n\nurl = \"socks5://u:hunter2@h\"\n",
		 "main.toml:3: note: \"upstream.url\" has a password, and everybody may read"},
	};
	struct fixture *f = *state;
	char text[512];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct strbuf out;
		struct conf *c;

		snprintf(text, sizeof(text), "%s%s",
			 strstr(cases[i].text, "://") != NULL ? "" : "proxy_url = \"direct://\"\n",
			 cases[i].text);
		write_main(f, text);
		assert_int_equal(chmod(f->file, 0644), 0);
		c = load(f);
		strbuf_init_heap(&out);
		conf_remarks(c, &out);
		if (cases[i].where == NULL)
			assert_string_equal(out.data, "");
		else if (strstr(out.data, cases[i].where) == NULL ||
			 strstr(out.data, "hunter2") != NULL ||
			 strchr(out.data, '\n') != out.data + out.len - 1)
			fail_msg("%s\ngave: %s", cases[i].text, out.data);
		strbuf_free(&out);
		conf_unref(c);
	}
}

/* The password is nobody else's to read. */
static void test_closed_file_has_no_remark(void **state)
{
	struct fixture *f = *state;
	struct strbuf out;
	struct conf *c;

	write_main(f, "proxy_url = \"socks5://u:hunter2@h\"\n");
	assert_int_equal(chmod(f->file, 0640), 0);
	c = load(f);
	strbuf_init_heap(&out);
	conf_remarks(c, &out);
	assert_string_equal(out.data, "");
	strbuf_free(&out);
	conf_unref(c);
}

static void write_named(struct fixture *f, const char *name, const char *text, size_t n,
			mode_t mode)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	temp_write(path, text, n);
	assert_int_equal(chmod(path, mode), 0);
}

static int load_auth(struct fixture *f, const char *url, const char *name, struct conf **c,
		     struct diag *d)
{
	char text[512];

	snprintf(text, sizeof(text), "[[upstream]]\nurl = \"%s\"\nauth_file = \"%s/%s\"\n", url,
		 f->dir, name);
	write_main(f, text);
	*c = NULL;
	return conf_load(&f->program, NULL, c, d);
}

static void test_auth_file(void **state)
{
	static const struct {
		const char *url, *text, *user, *password;
	} cases[] = {
		{"socks5://h", "us er:p:a#ss%40\n", "us er", "p:a#ss%40"},
		{"socks5://h", "u:p", "u", "p"},
		{"socks5://h", "u:\n", "u", ""},
		{"http://h:1", "\xc3\xa9:p\n", "\xc3\xa9", "p"},
		{"socks4a://h", "u\n", "u", ""},
		{"socks4a://h", "u:", "u", ""},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf *c;
		struct diag d = {0};
		struct strbuf sb;

		write_named(f, "auth", cases[i].text, strlen(cases[i].text), 0640);
		if (load_auth(f, cases[i].url, "auth", &c, &d) != 0)
			fail_msg("%s: %s", cases[i].text, d.text);
		assert_string_equal(c->upstreams[0].url.user, cases[i].user);
		assert_string_equal(c->upstreams[0].url.password, cases[i].password);
		/* The option is dumped, not what came of it. */
		strbuf_init_heap(&sb);
		conf_dump(c, &sb);
		assert_null(strchr(strstr(sb.data, "[[upstream]]"), '@'));
		assert_non_null(strstr(sb.data, "/auth\"\n"));
		strbuf_free(&sb);
		conf_unref(c);
	}
}

/* What a named file lacks as a whole is said of the option that names it. */
static void assert_of_option(const struct fixture *f, const struct diag *d, int line,
			     const char *option, const char *path)
{
	char begin[256];

	snprintf(begin, sizeof(begin), "option \"%s\": %s: ", option, path);
	assert_string_equal(d->file, f->file);
	assert_int_equal(d->line, line);
	if (strncmp(d->text, begin, strlen(begin)) != 0)
		fail_msg("%s\nnot %s", d->text, begin);
}

static void assert_auth_refused(struct fixture *f, const char *url, const char *name, int err,
				int line, const char *why)
{
	struct conf *c;
	struct diag d = {0};
	char path[128];

	assert_int_equal(load_auth(f, url, name, &c, &d), -err);
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	if (line == 0) {
		assert_of_option(f, &d, 3, "upstream.auth_file", path);
		line = d.line;
		snprintf(path, sizeof(path), "%s", f->file);
	}
	if (strcmp(d.file, path) != 0 || d.line != line || strstr(d.text, why) == NULL ||
	    strstr(d.text, "hunter2") != NULL)
		fail_msg("%s:%d: %s\nnot line %d: %s", d.file, d.line, d.text, line, why);
}

static void test_auth_file_refused(void **state)
{
	static const struct {
		const char *url, *text;
		int line;
		const char *why;
	} cases[] = {
		{"socks5://h", "", 1, "wanted is one line \"user:password\""},
		{"socks5://h", "\n", 1, "wanted is one line"},
		{"socks5://h", "hunter2\n", 1, "wanted is one line"},
		{"socks5://h", ":hunter2\n", 1, "the user name is empty"},
		{"socks5://h", "# hunter2\nu:p\n", 2, "more than one line"},
		{"socks5://h", "u:hunter2\r\n", 1, "contains a control byte"},
		{"socks4a://h", "u:hunter2\n", 1, "a user and no password"},
		{"socks4a://h", "\n", 1, "wanted is one line"},
	};
	struct fixture *f = *state;
	char text[1200];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_named(f, "auth", cases[i].text, strlen(cases[i].text), 0600);
		assert_auth_refused(f, cases[i].url, "auth", EINVAL, cases[i].line, cases[i].why);
	}
	write_named(f, "auth", "u:a\0b", 5, 0600);
	assert_auth_refused(f, "socks5://h", "auth", EINVAL, 1, "contains a control byte");
	memset(text, 'a', sizeof(text));
	text[1] = ':';
	write_named(f, "auth", text, 2 + 256, 0600);
	assert_auth_refused(f, "socks5://h", "auth", EINVAL, 1, "255 bytes each");
	write_named(f, "auth", text, sizeof(text), 0600);
	assert_auth_refused(f, "socks5://h", "auth", EFBIG, 0, "larger than 1024 bytes");
}

static void test_auth_file_mode(void **state)
{
	static const mode_t modes[] = {0604, 0602, 0601, 0644};
	struct fixture *f = *state;
	char path[128], why[256];

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		write_named(f, "auth", "u:hunter2\n", 10, modes[i]);
		snprintf(why, sizeof(why), "(mode %04o): chmod o-rwx %s/auth", (unsigned)modes[i],
			 f->dir);
		assert_auth_refused(f, "socks5://h", "auth", EINVAL, 0, why);
	}
	assert_auth_refused(f, "socks5://h", "none", ENOENT, 0, "cannot open: No such file");
	assert_auth_refused(f, "socks5://h", ".", EINVAL, 0, "is not a regular file");
	snprintf(path, sizeof(path), "%s/pipe", f->dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_auth_refused(f, "socks5://h", "pipe", EINVAL, 0, "is not a regular file");
}

/* What transocks-rules needs not, it does not open. */
static void test_auth_file_and_rules(void **state)
{
	struct fixture *f = *state;
	struct conf *c;
	struct diag d;

	f->program = conf_transocks_rules;
	f->program.default_file = f->file;
	f->program.dropin_dir = f->dropins;
	assert_int_equal(load_auth(f, "socks5://h", "none", &c, &d), 0);
	assert_int_equal(c->n_upstreams, 1);
	conf_unref(c);
}

static void write_lists(struct fixture *f, const char *domains, const char *networks)
{
	char text[512];

	write_named(f, "domains", domains, strlen(domains), 0644);
	write_named(f, "networks", networks, strlen(networks), 0644);
	snprintf(text, sizeof(text),
		 "proxy_url = \"direct://\"\n[[rule]]\ndomains = [\"here.test\"]\n"
		 "domains_file = \"%s/domains\"\nnetworks_file = \"%s/networks\"\n"
		 "action = \"refuse\"\n",
		 f->dir, f->dir);
	write_main(f, text);
}

static enum rule_action verdict(const struct conf *c, const char *dest, const char *name)
{
	struct rule_verdict v;
	struct addr client = {.family = AF_INET}, a;
	struct flow_facts facts = {.client = &client, .dest = &a, .port = 443, .name = name};

	assert_int_equal(addr_parse(&a, dest), 0);
	rules_match(&c->rules, &facts, &v);
	return v.action;
}

static void test_lists(void **state)
{
	struct fixture *f = *state;
	struct conf *c;

	write_lists(f, "# theirs\n.there.test\n\n", "11.0.0.0/8\nfd00::/8\n");
	c = load(f);
	assert_int_equal(verdict(c, "11.0.0.1", "a.there.test"), RULE_REFUSE);
	assert_int_equal(verdict(c, "fd00::1", "here.test"), RULE_REFUSE);
	assert_int_equal(verdict(c, "12.0.0.1", "here.test"), RULE_PROXY);
	assert_int_equal(verdict(c, "11.0.0.1", "elsewhere.test"), RULE_PROXY);
	conf_unref(c);
}

/* A file that is not named is no condition; one without entries is one that never holds. */
static void test_one_list(void **state)
{
	struct fixture *f = *state;
	struct conf *c;
	char text[512];

	write_named(f, "list", "", 0, 0644);
	snprintf(text, sizeof(text),
		 "proxy_url = \"direct://\"\n[[rule]]\nnetworks = [\"11.0.0.0/8\"]\n"
		 "action = \"refuse\"\n[[rule]]\nnetworks_file = \"%s/list\"\n"
		 "action = \"direct\"\n[[rule]]\ndomains_file = \"%s/list\"\naction = \"direct\"\n",
		 f->dir, f->dir);
	c = load_text(f, text);
	assert_int_equal(verdict(c, "11.0.0.1", NULL), RULE_REFUSE);
	assert_int_equal(verdict(c, "11.0.0.1", "a.test"), RULE_REFUSE);
	assert_int_equal(verdict(c, "12.0.0.1", "a.test"), RULE_PROXY);
	conf_unref(c);
	write_named(f, "list", "12.0.0.0/8\n", 11, 0644);
	snprintf(text, sizeof(text),
		 "proxy_url = \"direct://\"\n[[rule]]\nnetworks_file = \"%s/list\"\n"
		 "action = \"direct\"\n",
		 f->dir);
	c = load_text(f, text);
	assert_int_equal(verdict(c, "12.0.0.1", NULL), RULE_DIRECT);
	conf_unref(c);
}

static void assert_list_refused(struct fixture *f, const char *name, int err, int line)
{
	struct conf *c = NULL;
	struct diag d = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(conf_load(&f->program, NULL, &c, &d), -err);
	assert_string_equal(d.file, path);
	assert_int_equal(d.line, line);
}

static void test_lists_refused(void **state)
{
	struct fixture *f = *state;
	struct conf *c = NULL;
	struct diag d = {0};
	char path[128];

	write_lists(f, "a.test\n*.b.test\n", "11.0.0.0/8\n");
	assert_list_refused(f, "domains", EINVAL, 2);
	write_lists(f, "a.test\n", "# x\n\n11.0.0.1/8\n");
	assert_list_refused(f, "networks", EINVAL, 3);
	snprintf(path, sizeof(path), "%s/networks", f->dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(conf_load(&f->program, NULL, &c, &d), -ENOENT);
	assert_of_option(f, &d, 5, "rule.networks_file", path);
	snprintf(path, sizeof(path), "%s/domains", f->dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(conf_load(&f->program, NULL, &c, &d), -ENOENT);
	assert_of_option(f, &d, 4, "rule.domains_file", path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_short_form),
		TEST(test_upstreams),
		TEST(test_rules),
		TEST(test_dropins),
		TEST(test_default_group_is_first),
		TEST(test_many),
		TEST(test_rules_program),
		TEST(test_refusals),
		TEST(test_too_many),
		TEST(test_dump),
		TEST(test_remarks),
		TEST(test_closed_file_has_no_remark),
		TEST(test_auth_file),
		TEST(test_auth_file_refused),
		TEST(test_auth_file_mode),
		TEST(test_auth_file_and_rules),
		TEST(test_lists),
		TEST(test_one_list),
		TEST(test_lists_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
