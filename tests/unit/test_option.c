/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/conf.h"
#include "policy/option_types.h"

enum colour { RED, GREEN };

struct box {
	unsigned count;
	uint16_t port;
	char *text;
	enum colour colour;
	int64_t wait_ms;
	struct addr_list listen, own, dns;
	struct mark mark;
	struct proxy_url url;
	int level;
	struct string_list interfaces, users, cgroups;
	struct prefix_list prefixes, special;
	struct port_list ports;
	struct mark_list marks;
	unsigned colours;
};

static const char *const colour_words[] = {"red", "green", NULL};
static const char *const colour_aliases[] = {"rouge", "red", "vert", "green", NULL};

#define ROW(option_name, option_type, member) \
	.name = option_name, .type = &option_type, .offset = offsetof(struct box, member)

static const struct option table[] = {
	{ROW("count", option_integer, count), .def = "3", .min = 1, .max = 5, .help = "a count"},
	{ROW("text", option_string, text), .def = "\"x\"", .min = 1, .max = 5, .help = "a text"},
	{ROW("proxy_url", option_proxy_url, url), .help = "a URL"},
	{ROW("net.port", option_port, port), .def = "7", .help = "a port"},
	{ROW("net.mark", option_mark, mark), .def = "\"0x1000/0x1000\"", .help = "a mark"},
	{ROW("net.listen", option_listen, listen), .def = "\":1\"", .min = 1, .max = 3,
	 .help = "listeners"},
	{ROW("net.own", option_addresses, own), .def = "[]", .max = 2, .help = "addresses"},
	{ROW("net.dns", option_dns_servers, dns), .def = "[]", .max = 2, .help = "servers"},
	{ROW("look.colour", option_word, colour), .def = "\"green\"", .words = colour_words,
	 .aliases = colour_aliases, .help = "a colour"},
	{ROW("look.wait", option_duration, wait_ms), .def = "\"90s\"", .min = 10, .max = 7200000,
	 .help = "a wait"},
	{ROW("many.level", option_signed, level), .def = "-9", .min = -10, .max = 10,
	 .help = "a level"},
	{ROW("many.interfaces", option_interfaces, interfaces), .def = "[]", .max = 2,
	 .help = "interfaces"},
	{ROW("many.users", option_users, users), .def = "[]", .max = 3, .help = "users"},
	{ROW("many.cgroups", option_cgroups, cgroups), .def = "[]", .max = 2, .help = "cgroups"},
	{ROW("many.prefixes", option_prefixes, prefixes), .def = "[]", .max = 100000,
	 .help = "prefixes"},
	{ROW("many.special", option_special_prefixes, special), .def = "[]", .max = 9,
	 .help = "special ones"},
	{ROW("many.ports", option_ports, ports), .def = "[]", .max = 5, .help = "ports"},
	{ROW("many.marks", option_marks, marks), .def = "[]", .max = 2, .help = "marks"},
	{ROW("many.colours", option_word_set, colours), .def = "[\"green\"]", .min = 1, .max = 3,
	 .words = colour_words, .aliases = colour_aliases, .help = "colours"},
	{0},
};

static int set_text(struct box *box, const char *text, struct diag *d)
{
	struct toml_doc *doc;
	int r = toml_parse(text, strlen(text), "x.toml", &doc, d);

	if (r == 0) {
		r = option_set_all(table, box, doc, d);
		toml_free(doc);
	}
	return r;
}

static const char defaults[] = "# a count\ncount = 3\n"
			       "# a text\ntext = \"x\"\n"
			       "# a URL\n#proxy_url =\n"
			       "\n[net]\n"
			       "# a port\nport = 7\n"
			       "# a mark\nmark = \"0x1000/0x1000\"\n"
			       "# listeners\nlisten = [\"0.0.0.0:1\", \"[::]:1\"]\n"
			       "# addresses\nown = []\n"
			       "# servers\ndns = []\n"
			       "\n[look]\n"
			       "# a colour\ncolour = \"green\"\n"
			       "# a wait\nwait = \"1m30s\"\n"
			       "\n[many]\n"
			       "# a level\nlevel = -9\n"
			       "# interfaces\ninterfaces = []\n"
			       "# users\nusers = []\n"
			       "# cgroups\ncgroups = []\n"
			       "# prefixes\nprefixes = []\n"
			       "# special ones\nspecial = []\n"
			       "# ports\nports = []\n"
			       "# marks\nmarks = []\n"
			       "# colours\ncolours = [\"green\"]\n";

static void test_defaults_and_dump(void **state)
{
	struct box box = {0}, again = {0};
	struct strbuf out, out2;
	(void)state;

	strbuf_init_heap(&out);
	strbuf_init_heap(&out2);
	assert_int_equal(option_set_defaults(table, &box), 0);
	assert_int_equal(box.count, 3);
	assert_int_equal(box.port, 7);
	assert_string_equal(box.text, "x");
	assert_int_equal(box.colour, GREEN);
	assert_int_equal(box.wait_ms, 90000);
	option_dump(table, &box, &out);
	assert_string_equal(out.data, defaults);

	assert_int_equal(set_text(&again, out.data, NULL), 0);
	option_dump(table, &again, &out2);
	assert_string_equal(out2.data, defaults);

	strbuf_free(&out);
	strbuf_free(&out2);
	option_release(table, &box);
	assert_null(box.text);
	assert_null(box.listen.addrs);
	option_release(table, &box); /* once more is fine */
	option_release(table, &again);
}

/* What a line makes of its option, as the dump shows it. */
static void test_values(void **state)
{
	static const struct {
		const char *text, *dumped;
	} cases[] = {
		{"count = 1", "\ncount = 1\n"},
		{"COUNT = 5", "\ncount = 5\n"},
		{"text = \"abcde\"", "\ntext = \"abcde\"\n"},
		{"text = 'a\"\\'", "\ntext = \"a\\\"\\\\\"\n"},
		{"text = \"\\u00e9\"", "\ntext = \"\xc3\xa9\"\n"},
		{"Net.Port = 65535", "\nport = 65535\n"},
		{"[NET]\nport = 1", "\nport = 1\n"},
		{"net = {port = 2}", "\nport = 2\n"},
		{"[look]\n[net]\nport = 3", "\nport = 3\n"},
		{"net.mark = \"0x10/0xff\"", "\nmark = \"0x10/0xff\"\n"},
		{"net.mark = \"16\"", "\nmark = \"0x10/0xffffffff\"\n"},
		{"net.mark = \"0XFFFFFFFF/4294967295\"", "\nmark = \"0xffffffff/0xffffffff\"\n"},
		{"net.mark = \"0/0\"", "\nmark = \"0/0\"\n"},
		{"net.mark = \"0x0\"", "\nmark = \"0/0\"\n"},
		{"net.listen = \":1081\"", "\nlisten = [\"0.0.0.0:1081\", \"[::]:1081\"]\n"},
		{"net.listen = \"LocalHost:1081\"",
		 "\nlisten = [\"127.0.0.1:1081\", \"[::1]:1081\"]\n"},
		{"net.listen = \"[::1]:1081\"", "\nlisten = [\"[::1]:1081\"]\n"},
		{"net.listen = \"127.0.0.1:1081\"", "\nlisten = [\"127.0.0.1:1081\"]\n"},
		{"net.listen = [\"[::ffff:10.0.0.1]:1\", \":65535\"]",
		 "\nlisten = [\"10.0.0.1:1\", \"0.0.0.0:65535\", \"[::]:65535\"]\n"},
		{"net.own = [\"10.0.0.1\", \"2001:db8::1\"]",
		 "\nown = [\"10.0.0.1\", \"2001:db8::1\"]\n"},
		{"net.own = []", "\nown = []\n"},
		{"net.dns = [\"10.0.0.1\", \"::1\"]", "\ndns = [\"10.0.0.1:53\", \"[::1]:53\"]\n"},
		{"net.dns = [\"10.0.0.1:5353\", \"[::1]:54\"]",
		 "\ndns = [\"10.0.0.1:5353\", \"[::1]:54\"]\n"},
		{"net.dns = [\"[::1]\"]", "\ndns = [\"[::1]:53\"]\n"},
		{"look.colour = \"red\"", "\ncolour = \"red\"\n"},
		{"look.colour = \"vert\"", "\ncolour = \"green\"\n"},
		{"look.wait = \"10ms\"", "\nwait = \"10ms\"\n"},
		{"look.wait = \"2h\"", "\nwait = \"2h\"\n"},
		{"look.wait = \"120m\"", "\nwait = \"2h\"\n"},
		{"look.wait = \"1h2m3s4ms\"", "\nwait = \"1h2m3s4ms\"\n"},
		{"look.wait = \"1h0m\"", "\nwait = \"1h\"\n"},
		{"proxy_url = \"SOCKS5://u:p@H\"", "\nproxy_url = \"socks5://u:p@H:1080\"\n"},
		{"proxy_url = \"direct://\"", "\nproxy_url = \"direct://\"\n"},
		{"many.level = -10", "\nlevel = -10\n"},
		{"many.level = 10", "\nlevel = 10\n"},
		{"many.interfaces = [\"eth0\", \"123456789012345\"]",
		 "\ninterfaces = [\"eth0\", \"123456789012345\"]\n"},
		{"many.users = [\"root\", 0, 4294967294]",
		 "\nusers = [\"root\", \"0\", \"4294967294\"]\n"},
		{"many.cgroups = [\"/sys/fs/cgroup/a.slice/b/\", \"//c\"]",
		 "\ncgroups = [\"a.slice/b\", \"c\"]\n"},
		{"many.cgroups = [\"a/..b/.c\"]", "\ncgroups = [\"a/..b/.c\"]\n"},
		{"many.prefixes = [\"11.0.0.0/8\", \"11.1.2.3\", \"::ffff:0:0/96\"]",
		 "\nprefixes = [\"11.0.0.0/8\", \"11.1.2.3/32\", \"::ffff:0.0.0.0/96\"]\n"},
		{"many.special = [\"198.18.0.0/15\", \"10.1.0.0/16\", \"::/0\", \"fe80::1\", "
		 "\"::ffff:1.2.3.4\"]",
		 "\nspecial = [\"198.18.0.0/15\", \"10.1.0.0/16\", \"::/0\", \"fe80::1/128\", "
		 "\"::ffff:1.2.3.4/128\"]\n"},
		{"many.ports = [443, \"80\", \"8000-8999\"]",
		 "\nports = [80, 443, \"8000-8999\"]\n"},
		{"many.ports = [\"5-9\", \"1-3\", 7, 4, \"9-9\"]", "\nports = [\"1-9\"]\n"},
		{"many.ports = [65535, \"1-65535\"]", "\nports = [\"1-65535\"]\n"},
		{"many.marks = [\"0x2/0xff\", \"7\"]",
		 "\nmarks = [\"0x2/0xff\", \"0x7/0xffffffff\"]\n"},
		{"many.colours = [\"red\"]", "\ncolours = [\"red\"]\n"},
		{"many.colours = [\"vert\", \"red\", \"red\"]",
		 "\ncolours = [\"red\", \"green\"]\n"},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct box box = {0}, again = {0};
		struct diag d = {0};
		struct strbuf out, out2;

		assert_int_equal(option_set_defaults(table, &box), 0);
		if (set_text(&box, cases[i].text, &d) != 0)
			fail_msg("%s: %s", cases[i].text, d.text);
		strbuf_init_heap(&out);
		strbuf_init_heap(&out2);
		option_dump(table, &box, &out);
		if (strstr(out.data, cases[i].dumped) == NULL)
			fail_msg("%s: %s", cases[i].text, out.data);
		assert_int_equal(set_text(&again, out.data, NULL), 0);
		option_dump(table, &again, &out2);
		assert_string_equal(out2.data, out.data);
		strbuf_free(&out);
		strbuf_free(&out2);
		option_release(table, &box);
		option_release(table, &again);
	}
}

static void test_errors(void **state)
{
	static const struct {
		const char *text, *reason;
		int line;
	} cases[] = {
		/* names */
		{"\nprox_url = 1", "unknown option \"prox_url\"; did you mean \"proxy_url\"?", 2},
		{"[net]\nprot = 1", "unknown option \"net.prot\"; did you mean \"net.port\"?", 2},
		{"zzzzzz = 1", "unknown option \"zzzzzz\"", 1},
		{"[zzzzzz]", "unknown option \"zzzzzz\"", 1},
		{"\"a\\u001b\" = 1", "unknown option \"\"a\\u001b\"\"", 1},
		{"\"net.port\" = 1", "unknown option \"\"net.port\"\"; did you mean \"net.port\"?",
		 1},
		{"net = 1", "\"net\" is a table: write [net] and its options below", 1},
		{"[count]", "option \"count\" wants an integer, not a table", 1},
		{"[[net]]\nport = 1", "unknown option \"net[0].port\"; did you mean \"net.port\"?",
		 2},
		{"count = 1\nCount = 2",
		 "option \"Count\" is already set in line 1 (letter case does not count)", 2},
		{"[net]\nport = 1\n[Net]\nport = 1",
		 "option \"Net.port\" is already set in line 2 (letter case does not count)", 4},
		{"count = 9\nzzzzzz = 1", "option \"count\": 9 is out of range (1..5)", 1},
		/* integer, port */
		{"count = 0", "option \"count\": 0 is out of range (1..5)", 1},
		{"count = -1", "option \"count\": -1 is out of range (1..5)", 1},
		{"count = \"1\"", "option \"count\" wants an integer, not a string", 1},
		{"count = 1.0", "option \"count\" wants an integer, not a float", 1},
		{"count = true", "option \"count\" wants an integer, not a boolean", 1},
		{"count = 1979-05-27", "option \"count\" wants an integer, not a date or time", 1},
		{"net.port = 0", "option \"net.port\": 0 is out of range (1..65535)", 1},
		{"net.port = 65536", "option \"net.port\": 65536 is out of range (1..65535)", 1},
		{"net.port = \"1\"", "option \"net.port\" wants an integer, not a string", 1},
		/* string */
		{"text = \"\"", "option \"text\": length 0 is out of range (1..5 bytes)", 1},
		{"text = \"123456\"", "option \"text\": length 6 is out of range (1..5 bytes)", 1},
		{"text = \"a\\u0000\"", "option \"text\": \"a\\u0000\" contains a control byte", 1},
		{"text = \"\\u007f\"", "option \"text\": \"\\u007f\" contains a control byte", 1},
		{"text = 1", "option \"text\" wants a string, not an integer", 1},
		/* word */
		{"look.colour = \"blue\\u001b\"",
		 "option \"look.colour\": \"blue\\u001b\" contains a control byte", 1},
		{"look.colour = \"blue\"",
		 "option \"look.colour\": \"blue\" is not one of: red, green", 1},
		{"look.colour = [\"red\"]", "option \"look.colour\" wants a string, not a list", 1},
		{"look.colour = \"grean\"",
		 "\"grean\" is not one of: red, green; did you mean \"green\"?", 1},
		/* word set */
		{"many.colours = \"red\"",
		 "option \"many.colours\" wants a list of strings, not a string", 1},
		{"many.colours = []", "option \"many.colours\" is empty: leave it out", 1},
		{"many.colours = [\"red\", 1]",
		 "option \"many.colours\" wants strings in its list, not an integer", 1},
		{"many.colours = [\"red\", \"red\", \"red\", \"red\"]",
		 "a list of 4 is out of range (1..3 entries)", 1},
		{"many.colours = [\n\"red\",\n\"gren\"]",
		 "\"gren\" is not one of: red, green; did you mean \"green\"?", 3},
		{"many.colours = [\"blue\"]",
		 "option \"many.colours\": \"blue\" is not one of: red, green", 1},
		/* duration */
		{"look.wait = 5",
		 "option \"look.wait\": write a unit, such as \"5s\" (ms, s, m, h)", 1},
		{"look.wait = 1.5",
		 "option \"look.wait\" wants a duration such as \"5s\", not a float", 1},
		{"look.wait = 0", "option \"look.wait\": the duration is out of range (10ms..2h)",
		 1},
		{"look.wait = \"9ms\"",
		 "option \"look.wait\": the duration is out of range (10ms..2h)", 1},
		{"look.wait = \"2h1ms\"",
		 "option \"look.wait\": the duration is out of range (10ms..2h)", 1},
		{"look.wait = \"999999999h\"",
		 "option \"look.wait\": the duration is out of range (10ms..2h)", 1},
		{"look.wait = \"9999999999h\"", "is not a duration", 1},
		{"look.wait = \"\"", "is not a duration", 1},
		{"look.wait = \"5\"", "is not a duration", 1},
		{"look.wait = \"s\"", "is not a duration", 1},
		{"look.wait = \"-5s\"", "is not a duration", 1},
		{"look.wait = \"5 s\"", "is not a duration", 1},
		{"look.wait = \"1.5s\"", "is not a duration", 1},
		{"look.wait = \"5sec\"", "is not a duration", 1},
		{"look.wait = \"5d\"", "is not a duration", 1},
		{"look.wait = \"1s1s\"", "is not a duration", 1},
		{"look.wait = \"1m1h\"", "is not a duration", 1},
		{"look.wait = \"1m30\"", "is not a duration", 1},
		/* lists */
		{"net.listen = 1081",
		 "option \"net.listen\" wants a list of strings, not an integer", 1},
		{"net.listen = []", "is empty: leave it out", 1},
		{"net.listen = [\":1\",\":2\",\":3\",\":4\"]",
		 "a list of 4 is out of range (1..3 entries)", 1},
		{"net.listen = [\n\":1\",\n\"nonsense\"]",
		 "option \"net.listen\": \"nonsense\" is not ADDRESS:PORT", 3},
		{"net.listen = [\n\":1\",\n2]",
		 "option \"net.listen\" wants strings in its list, not an integer", 3},
		{"net.listen = \"\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \":\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \":0\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \":65536\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \"127.0.0.1\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \"::1:1081\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \"example.com:1081\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \"local:1081\"", "is not ADDRESS:PORT", 1},
		{"net.listen = \"127.0.0.1:0\"", "is not ADDRESS:PORT", 1},
		{"net.own = \"10.0.0.1\"",
		 "option \"net.own\" wants a list of strings, not a string", 1},
		{"net.own = [\"10.0.0.1:80\"]", "is not an IP address", 1},
		{"net.own = [\"host\"]", "is not an IP address", 1},
		{"net.own = [[\"10.0.0.1\"]]", "wants strings in its list, not a list", 1},
		{"net.dns = [\"10.0.0.1:0\"]", "is not ADDRESS or ADDRESS:PORT", 1},
		{"net.dns = [\"::1:53:x\"]", "is not ADDRESS or ADDRESS:PORT", 1},
		{"net.dns = [\"ns.example\"]", "is not ADDRESS or ADDRESS:PORT", 1},
		/* mark */
		{"net.mark = 4096", "wants a string such as \"0x1000/0x1000\", not an integer", 1},
		{"net.mark = \"\"", "is not VALUE/MASK", 1},
		{"net.mark = \"0x\"", "is not VALUE/MASK", 1},
		{"net.mark = \"-1\"", "is not VALUE/MASK", 1},
		{"net.mark = \"1/\"", "is not VALUE/MASK", 1},
		{"net.mark = \"1/2/3\"", "is not VALUE/MASK", 1},
		{"net.mark = \"1 /1\"", "is not VALUE/MASK", 1},
		{"net.mark = \"0x100000000\"", "is not VALUE/MASK", 1},
		{"net.mark = \"4294967296\"", "is not VALUE/MASK", 1},
		{"net.mark = \"99999999999999999999\"", "is not VALUE/MASK", 1},
		{"net.mark = \"0x3/0x1\"", "has bits in its value that are not in its mask", 1},
		{"net.mark = \"0/0x1000\"", "for no mark write 0/0", 1},
		/* signed */
		{"many.level = -11", "option \"many.level\": -11 is out of range (-10..10)", 1},
		/* lists for the rules */
		{"many.interfaces = \"eth0\"",
		 "option \"many.interfaces\" wants a list of strings, not a string", 1},
		{"many.interfaces = [\"a\", \"b\", \"c\"]",
		 "a list of 3 is out of range (0..2 entries)", 1},
		{"many.interfaces = [\"1234567890123456\"]",
		 "\"1234567890123456\" is not the name of an interface (1..15 bytes", 1},
		{"many.interfaces = [\"\"]", "is not the name of an interface", 1},
		{"many.interfaces = [\"a b\"]", "is not the name of an interface", 1},
		{"many.interfaces = [\"a/b\"]", "is not the name of an interface", 1},
		{"many.interfaces = [\"a:1\"]", "is not the name of an interface", 1},
		{"many.interfaces = [\"..\"]", "is not the name of an interface", 1},
		{"many.interfaces = [1]", "wants strings in its list, not an integer", 1},
		{"many.users = [\"\"]", "\"\" is not a user's name (1..32 bytes) or number", 1},
		{"many.users = [4294967295]", "4294967295 is out of range (0..4294967294)", 1},
		{"many.users = [-1]", "-1 is out of range (0..4294967294)", 1},
		{"many.users = [true]", "wants strings in its list, not a boolean", 1},
		{"many.cgroups = [\"/\"]", "\"/\" is not a control group", 1},
		{"many.cgroups = [\"/sys/fs/cgroup\", \"/sys/fs/cgroup/\"]",
		 "\"/sys/fs/cgroup/\" is not a control group", 1},
		{"many.cgroups = [\"a//b\"]", "is not a control group", 1},
		{"many.cgroups = [\"a/../b\"]", "is not a control group", 1},
		{"many.cgroups = [\"./b\"]", "is not a control group", 1},
		{"many.prefixes = [\n\"11.0.0.0/8\",\n\"11.0.0.1/8\"]",
		 "\"11.0.0.1/8\" is not a network such as \"10.0.0.0/8\" (host bits zero)", 3},
		{"many.prefixes = [\"host\"]", "is not a network", 1},
		{"many.prefixes = [11]", "wants strings in its list, not an integer", 1},
		{"many.special = [\"11.0.0.0/8\"]",
		 "\"11.0.0.0/8\" is not in a special-purpose range: it is redirected anyway", 1},
		{"many.special = [\"2a00::/16\"]", "is not in a special-purpose range", 1},
		{"many.special = [\"x\"]", "is not a network", 1},
		{"many.ports = [0]", "0 is out of range (1..65535)", 1},
		{"many.ports = [65536]", "65536 is out of range (1..65535)", 1},
		{"many.ports = [1.5]", "wants integers and strings in its list, not a float", 1},
		{"many.ports = [\"0\"]", "\"0\" is not a port 1..65535 or a range", 1},
		{"many.ports = [\"9-8\"]", "is not a port", 1},
		{"many.ports = [\"0-8\"]", "is not a port", 1},
		{"many.ports = [\"1-65536\"]", "is not a port", 1},
		{"many.ports = [\"1-\"]", "is not a port", 1},
		{"many.ports = [\"-1\"]", "is not a port", 1},
		{"many.ports = [\"1-2-3\"]", "is not a port", 1},
		{"many.ports = [\"000000001-2\"]", "is not a port", 1},
		{"many.marks = [\"0/0\"]", "\"0/0\" is not a mark", 1},
		{"many.marks = [\"x\"]", "\"x\" is not VALUE/MASK", 1},
		{"many.marks = [2]", "wants strings in its list, not an integer", 1},
		/* URL */
		{"proxy_url = 1", "wants a string such as \"socks5://host:1080\", not an integer",
		 1},
		{"\n\nproxy_url = \"https://h:1\"",
		 "option \"proxy_url\": scheme https is not supported (socks5, socks4a, http, "
		 "direct)",
		 3},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct box box = {0};
		struct diag d = {0};

		assert_int_equal(set_text(&box, cases[i].text, &d), -EINVAL);
		if (strstr(d.text, cases[i].reason) == NULL)
			fail_msg("%s: %s", cases[i].text, d.text);
		assert_string_equal(d.file, "x.toml");
		assert_int_equal(d.line, cases[i].line);
		option_release(table, &box);
	}
}

/* A refused value leaves the field as it was. */
static void test_error_keeps_field(void **state)
{
	static const char *const cases[] = {
		"count = 9",
		"text = \"123456\"",
		"proxy_url = \"http://x\"",
		"net.mark = \"0x3/0x1\"",
		"net.listen = [\":2\", \"x\"]",
		"look.wait = \"9ms\"",
		"look.colour = \"blue\"",
		"many.users = [\"a\", \"b\", \"\"]",
		"many.ports = [1, 0]",
	};
	struct box box = {0};
	struct strbuf out;
	(void)state;

	assert_int_equal(option_set_defaults(table, &box), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(set_text(&box, cases[i], NULL), -EINVAL);
		strbuf_init_heap(&out);
		option_dump(table, &box, &out);
		assert_string_equal(out.data, defaults);
		strbuf_free(&out);
	}
	option_release(table, &box);
}

static void test_word_index(void **state)
{
	(void)state;

	assert_int_equal(option_word_index(colour_words, colour_aliases, "red"), RED);
	assert_int_equal(option_word_index(colour_words, colour_aliases, "vert"), GREEN);
	assert_int_equal(option_word_index(colour_words, NULL, "vert"), -1);
	assert_int_equal(option_word_index(colour_words, colour_aliases, "Red"), -1);
	assert_int_equal(option_word_index(colour_words, colour_aliases, ""), -1);
}

/* As many networks as a list of blocked countries has; that this ends at all is the test. */
static void test_long_list(void **state)
{
	enum { N = 20000 };
	struct box box = {0};
	struct strbuf text;
	struct diag d;
	(void)state;

	strbuf_init_heap(&text);
	strbuf_puts(&text, "many.prefixes = [");
	for (int i = 0; i < N; i++)
		strbuf_printf(&text, "\"11.%d.%d.0/24\",\n", i / 256, i % 256);
	strbuf_puts(&text, "]\n");
	assert_int_equal(set_text(&box, text.data, &d), 0);
	assert_int_equal(box.prefixes.n, N);
	assert_int_equal(box.prefixes.prefixes[N - 1].ip[2], (N - 1) % 256);
	strbuf_free(&text);
	option_release(table, &box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_and_dump),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_error_keeps_field),
		cmocka_unit_test(test_word_index),
		cmocka_unit_test(test_long_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
