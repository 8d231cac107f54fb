/* SPDX-License-Identifier: MIT */
/*
 * Two promises about configurations of usocksd as they are written: none is an open relay by accident, and no spelling of
 * a name or of an address has another verdict than the plain one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "policy/conf.h"
#include "policy/name.h"
#include "tests/unit/temp_files.h"

static char dir[TEMP_DIR_MAX], users[TEMP_DIR_MAX + 16];

static int setup(void **state)
{
	(void)state;
	assert_int_equal(temp_dir_make(dir, "test_access"), 0);
	snprintf(users, sizeof(users), "%s/users", dir);
	temp_write(users, "bob:$5$salt$x\n", 14);
	return chmod(users, 0600);
}

static int teardown(void **state)
{
	(void)state;
	return temp_dir_remove(dir);
}

/* "USERS" in `text` is the path of a file of users. NULL with `d`. */
static struct conf *load(const char *text, struct diag *d)
{
	const char *at = strstr(text, "USERS");
	struct conf *c = NULL;
	char path[128], whole[1024];
	int before = at == NULL ? (int)strlen(text) : (int)(at - text);

	snprintf(whole, sizeof(whole), "%.*s%s%s", before, text, at == NULL ? "" : users,
		 at == NULL ? "" : at + 5);
	snprintf(path, sizeof(path), "%s/usocksd.toml", dir);
	temp_write(path, whole, strlen(whole));
	return conf_load(&conf_usocks, path, &c, d) == 0 ? c : NULL;
}

/* ---- no open relay ---- */

#define IN   "[incoming]\n"
#define ADDR "addresses = "
#define FROM "allow_from = "
#define AUTH "[auth]\nfile = \"USERS\"\n"

enum relay {
	ALONE,  /* listens on loopback alone */
	KNOWN,  /* others reach it, and a stranger is refused or asked for a password */
	ALL,    /* the operator has written that everybody may */
	REFUSED /* is no configuration: exit code 78 */
};

static const struct {
	const char *text;
	enum relay is;
} relays[] = {
	{"", ALONE},
	{IN "port = 1080\n", ALONE},
	{IN ADDR "[]\n", ALONE},
	{IN ADDR "[]\n" FROM "[]\n", ALONE},
	{IN FROM "[]\n", ALONE},
	{IN ADDR "[\"127.0.0.1\"]\n", ALONE},
	{IN ADDR "[\"::1\"]\n", ALONE},
	{IN ADDR "[\"127.0.0.1\", \"::1\"]\n", ALONE},
	{IN ADDR "[\"127.9.9.9\"]\n", ALONE},
	{"[outgoing]\ndeny_ports = [25]\n", ALONE},
	{"[auth]\nfile = \"\"\n", ALONE},
	{IN "trusted_proxies = [\"10.0.0.1\"]\n", ALONE},
	{IN FROM "[\"10.0.0.0/8\"]\n", KNOWN},
	{IN FROM "[\"2001:db8::1\"]\n", KNOWN},
	{IN FROM "[\"127.0.0.1\"]\n", KNOWN},
	{IN ADDR "[\"0.0.0.0\"]\n" FROM "[\"10.0.0.0/8\"]\n", KNOWN},
	{IN ADDR "[\"::\"]\n" FROM "[\"10.0.0.0/8\"]\n", KNOWN},
	{IN ADDR "[\"10.1.2.3\"]\n" FROM "[\"fd00::/8\"]\n", KNOWN},
	{AUTH, KNOWN},
	{IN ADDR "[\"0.0.0.0\"]\n" AUTH, KNOWN},
	{IN ADDR "[\"10.1.2.3\", \"::1\"]\n" AUTH, KNOWN},
	{IN FROM "[\"10.0.0.0/8\"]\n" AUTH, KNOWN},
	{IN FROM "[\"0.0.0.0/0\", \"::/0\"]\n", ALL},
	{IN ADDR "[\"0.0.0.0\"]\n" FROM "[\"0.0.0.0/0\"]\n", ALL},
	{IN ADDR "[\"0.0.0.0\"]\n", REFUSED},
	{IN ADDR "[\"::\"]\n", REFUSED},
	{IN ADDR "[\"10.1.2.3\"]\n", REFUSED},
	{IN ADDR "[\"127.0.0.1\", \"10.1.2.3\"]\n", REFUSED},
	{IN ADDR "[\"::1\", \"fd00::1\"]\n" FROM "[]\n", REFUSED},
	{IN ADDR "[\"::ffff:10.1.2.3\"]\n", REFUSED},
	{IN ADDR "[\"0.0.0.0\"]\ntrusted_proxies = [\"10.0.0.1\"]\n", REFUSED},
	{IN ADDR "[\"0.0.0.0\"]\n[auth]\nfile = \"\"\n", REFUSED},
	{IN ADDR "[\"0.0.0.0\"]\n[outgoing]\nallow_sites = [\"x.test\"]\n", REFUSED},
	{IN ADDR "[\"fe80::1\"]\n", REFUSED},
};

static bool serves_loopback_alone(const struct conf *c)
{
	for (size_t i = 0; i < c->listen.n; i++) {
		if (!addr_is_loopback(&c->listen.addrs[i]))
			return false;
	}
	return c->listen.n > 0;
}

/* Who is from nowhere that the operator could mean. */
static bool serves_strangers(const struct conf *c)
{
	static const char *const strangers[] = {"203.0.113.9", "2001:db8:9::9", "192.168.7.7"};
	bool any = false;

	for (size_t i = 0; i < ARRAY_LEN(strangers); i++) {
		struct addr stranger;

		assert_int_equal(addr_parse(&stranger, strangers[i]), 0);
		for (size_t k = 0; k < c->listen.n; k++)
			any |= acl_client(&c->acl, &stranger, &c->listen.addrs[k]) == ACL_ALLOWED;
	}
	return any && c->auth.users == NULL;
}

static void test_no_open_relay(void **state)
{
	(void)state;
	assert_true(ARRAY_LEN(relays) >= 30);
	for (size_t i = 0; i < ARRAY_LEN(relays); i++) {
		struct diag d = {0};
		struct conf *c = load(relays[i].text, &d);

		if ((c == NULL) != (relays[i].is == REFUSED))
			fail_msg("%s: %s", relays[i].text, d.text);
		if (c == NULL) { /* and what to write */
			assert_non_null(strstr(d.text, "is an open relay: write"));
			assert_non_null(strstr(d.text, "allow_from = ["));
			continue;
		}
		/* On loopback the listener's address lets anybody in: nobody else comes there. */
		if (serves_loopback_alone(c) != (relays[i].is == ALONE) ||
		    (relays[i].is != ALONE && serves_strangers(c) != (relays[i].is == ALL)))
			fail_msg("%s", relays[i].text);
		conf_unref(c);
	}
}

/* ---- one meaning of a name ---- */

static const char rules[] = "[outgoing]\n"
			    "deny_sites = [\"www.evil.test\", \".below.test\", "
			    "\"xn--bcher-kva.test\", \"203.0.113.7\", "
			    "\"2001:db8::7\"]\n"
			    "deny_networks = [\"198.51.100.0/24\", \"2001:db8:5::/48\"]\n";

static const struct {
	const char *canonical;
	bool denied;
} meanings[] = {
	{"www.evil.test", true},
	{"a.below.test", true},
	{"b.a.below.test", true},
	{"xn--bcher-kva.test", true},
	{"203.0.113.7", true},
	{"2001:db8::7", true},
	{"198.51.100.9", true},
	{"2001:db8:5::9", true},
	{"127.0.0.1", true},
	{"169.254.169.254", true},
	{"::1", true},
	{"evil.test", false},
	{"below.test", false},
	{"www.good.test", false},
	{"203.0.113.8", false},
	{"2001:db8::8", false},
};

enum verdict { V_NO_NAME, V_DENIED, V_ALLOWED };

static enum verdict verdict_of(const struct conf *c, const char *spelling, size_t n)
{
	static struct prefix_set *own;
	char name[NAME_MAX_LEN + 1];
	struct addr addr = {.family = AF_UNSPEC};
	int rc = name_normalise(spelling, n, name, &addr);
	enum acl_verdict v;

	if (rc < 0)
		return V_NO_NAME;
	if (own == NULL) {
		own = prefix_set_new();
		assert_int_equal(prefix_set_finish(own), 0);
	}
	v = acl_request(&c->acl, rc == 0 ? name : NULL, &addr, 80);
	if (v == ACL_ALLOWED && rc == 1)
		v = acl_address(&c->acl, &addr, own);
	return v == ACL_ALLOWED ? V_ALLOWED : V_DENIED;
}

struct tries {
	const struct conf *c;
	const char *canonical;
	enum verdict want;
	size_t n;
};

/* Another spelling of the same: the same verdict, or, with `may_fail`, that it is none. */
static void try_spelling(struct tries *t, const char *spelling, size_t n, bool may_fail)
{
	enum verdict v = verdict_of(t->c, spelling, n);

	if (v != t->want && !(may_fail && v == V_NO_NAME))
		fail_msg("%s as \"%.*s\": %d", t->canonical, (int)n, spelling, v);
	t->n++;
}

static void try_text(struct tries *t, const char *spelling, bool may_fail)
{
	try_spelling(t, spelling, strlen(spelling), may_fail);
}

/* What is no spelling of anything. */
static void try_none(struct tries *t, const char *spelling, size_t n)
{
	if (verdict_of(t->c, spelling, n) != V_NO_NAME)
		fail_msg("%s: \"%.*s\" is a name", t->canonical, (int)n, spelling);
	t->n++;
}

/* Upper case at each place, at all, at every second; a dot behind each of them if it is a name. */
static void try_cases(struct tries *t, bool is_name)
{
	char text[64];
	size_t n = strlen(t->canonical);

	for (size_t mask = 0; mask < n + 3; mask++) {
		memcpy(text, t->canonical, n + 1);
		for (size_t i = 0; i < n; i++) {
			if (mask == i || mask == n || (mask == n + 1 && i % 2 == 0) ||
			    (mask == n + 2 && i % 2 == 1))
				text[i] = (char)toupper((unsigned char)text[i]);
		}
		try_text(t, text, false);
		memcpy(text + n, ".", 2);
		if (is_name)
			try_text(t, text, false);
		else
			try_none(t, text, n + 1);
	}
}

/* What a resolver might cut off, decode or take for something else. */
static void try_dirt(struct tries *t)
{
	static const char *const around[][2] = {
		{"", ".."},
		{".", ""},
		{"", " "},
		{" ", ""},
		{"", "\n"},
		{"", "\r\nx"},
		{"", "/"},
		{"", "#"},
		{"", "?"},
		{"", ":80"},
		{"", "%00"},
		{"http://", ""},
		{"user@", ""},
		{"[", ""},
		{"", "]"},
		{"[[", "]]"},
		{"", "%lo"},
		{"", "\x7f"},
		{"", "\xff"},
		{"\t", ""},
		{"", "\\"},
		{"\"", "\""},
		{"", "\xe3\x80\x82"},
		{"*", ""},
	};
	char text[128];
	size_t n = strlen(t->canonical);
	int len;

	for (size_t i = 0; i < ARRAY_LEN(around); i++) {
		if (around[i][1][0] == ':' && strchr(t->canonical, ':') != NULL)
			continue; /* another address */
		len = snprintf(text, sizeof(text), "%s%s%s", around[i][0], t->canonical,
			       around[i][1]);

		try_none(t, text, (size_t)len);
	}
	memcpy(text, t->canonical, n);
	memcpy(text + n, "\0.good.test", 11);
	try_none(t, text, n + 1);
	try_none(t, text, n + 11);
}

/* Numbers that inet_aton(3) would take. */
static void try_numbers(struct tries *t, const uint8_t ip[4])
{
	static const char *const formats[] = {
		"%u.%u.%u",        "0x%02x.0x%02x.0x%02x.0x%02x",
		"0%o.0%o.0%o.0%o", "%03u.%03u.%03u.0%03u",
		"%u.%u.0x%x%02x",
	};
	uint32_t all = (uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 | (uint32_t)ip[2] << 8 | ip[3];
	char text[64];

	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
		int n = snprintf(text, sizeof(text), formats[i], ip[0], ip[1], ip[2], ip[3]);
#pragma GCC diagnostic pop
		try_none(t, text, (size_t)n);
	}
	try_none(t, text, (size_t)snprintf(text, sizeof(text), "%u", all));
	try_none(t, text, (size_t)snprintf(text, sizeof(text), "0x%x", all));
	try_none(t, text, (size_t)snprintf(text, sizeof(text), "0%o", all));
	try_none(t, text, (size_t)snprintf(text, sizeof(text), "%u.%u", ip[0], all & 0xffffff));
	/* The same address, as IPv6 has it. */
	for (unsigned brackets = 0; brackets < 2; brackets++) {
		const char *open = brackets ? "[" : "", *close = brackets ? "]" : "";

		snprintf(text, sizeof(text), "%s::ffff:%s%s", open, t->canonical, close);
		try_text(t, text, false);
		snprintf(text, sizeof(text), "%s::FFFF:%x:%x%s", open, all >> 16, all & 0xffff,
			 close);
		try_text(t, text, false);
		snprintf(text, sizeof(text), "%s0:0:0:0:0:ffff:%04x:%04x%s", open, all >> 16,
			 all & 0xffff, close);
		try_text(t, text, false);
	}
	snprintf(text, sizeof(text), "[%s]", t->canonical);
	try_text(t, text, true);
}

static void try_ipv6(struct tries *t, const struct addr *a)
{
	char text[64];

	for (unsigned style = 0; style < 3; style++) {
		size_t n = 0;

		for (size_t i = 0; i < 16; i += 2)
			n += (size_t)snprintf(text + n, sizeof(text) - n,
					      style == 0   ? "%s%x"
					      : style == 1 ? "%s%04x"
							   : "%s%04X",
					      i == 0 ? "" : ":",
					      (unsigned)a->ip[i] << 8 | a->ip[i + 1]);
		try_text(t, text, false);
		memmove(text + 1, text, n);
		text[0] = '[';
		memcpy(text + n + 1, "]", 2);
		try_text(t, text, false);
	}
	snprintf(text, sizeof(text), "[%s]", t->canonical);
	try_text(t, text, false);
}

static void test_one_meaning(void **state)
{
	struct diag d = {0};
	struct conf *c = load(rules, &d);
	size_t n = 0;

	(void)state;
	assert_non_null(c);
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
		struct tries t = {.c = c,
				  .canonical = meanings[i].canonical,
				  .want = meanings[i].denied ? V_DENIED : V_ALLOWED};
		struct addr a;
		bool is_name = addr_parse(&a, t.canonical) < 0;

		try_cases(&t, is_name);
		try_dirt(&t);
		if (!is_name && a.family == AF_INET)
			try_numbers(&t, a.ip);
		else if (!is_name)
			try_ipv6(&t, &a);
		n += t.n;
	}
	print_message("%zu spellings\n", n);
	assert_true(n >= 500);
	/* As people write it; a resolver would make xn--bcher-kva.test of it. */
	assert_int_equal(verdict_of(c, "b\u00fccher.test", 12), V_NO_NAME);
	conf_unref(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_open_relay),
		cmocka_unit_test(test_one_meaning),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
