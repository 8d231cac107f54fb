/* SPDX-License-Identifier: MIT */
#include "policy/acl.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/name.h"

#define LIST_MAX 16

/* Lists of at most LIST_MAX entries, ended by NULL. */
struct lists {
	const char *allow_from[LIST_MAX], *allow_sites[LIST_MAX], *deny_sites[LIST_MAX];
	const char *deny_networks[LIST_MAX], *allow_anyway[LIST_MAX], *trusted_proxies[LIST_MAX];
	struct port_range deny_ports[LIST_MAX];
};

struct built {
	struct acl acl;
	struct prefix prefixes[4][LIST_MAX];
	char *strings[2][LIST_MAX];
	struct port_range ports[LIST_MAX];
};

static struct prefix_list networks_of(const char *const *entries, struct prefix *out)
{
	struct prefix_list list = {.prefixes = out};

	while (entries[list.n] != NULL) {
		assert_int_equal(prefix_parse_masked(&out[list.n], entries[list.n]), 0);
		list.n++;
	}
	return list;
}

static struct string_list sites_of(const char *const *entries, char **out)
{
	struct string_list list = {.strings = out};

	for (; entries[list.n] != NULL; list.n++)
		out[list.n] = (char *)entries[list.n];
	return list;
}

static struct acl *build(struct built *b, const struct lists *l)
{
	struct diag d;

	memset(b, 0, sizeof(*b));
	b->acl.allow_from = networks_of(l->allow_from, b->prefixes[0]);
	b->acl.deny_networks = networks_of(l->deny_networks, b->prefixes[1]);
	b->acl.allow_anyway = networks_of(l->allow_anyway, b->prefixes[2]);
	b->acl.trusted_proxies = networks_of(l->trusted_proxies, b->prefixes[3]);
	b->acl.allow_sites.written = sites_of(l->allow_sites, b->strings[0]);
	b->acl.deny_sites.written = sites_of(l->deny_sites, b->strings[1]);
	memcpy(b->ports, l->deny_ports, sizeof(b->ports));
	b->acl.deny_ports.ranges = b->ports;
	while (b->ports[b->acl.deny_ports.n].first != 0)
		b->acl.deny_ports.n++;
	assert_int_equal(acl_compile(&b->acl, &d), 0);
	assert_int_equal(acl_compile(&b->acl, &d), 0); /* again is fine */
	return &b->acl;
}

static struct addr addr_of(const char *text)
{
	struct addr a;

	if (addr_parse(&a, text) < 0)
		fail_msg("%s", text);
	return a;
}

static void test_clients(void **state)
{
	static const struct lists some = {.allow_from = {"10.1.2.3/8", "192.0.2.1", "2001:db8::1",
							 "fd00::/8", "::ffff:11.0.0.1"}};
	static const struct lists none;
	static const struct {
		const struct lists *lists;
		const char *client, *listener;
		bool in;
	} cases[] = {
		{&some, "10.255.0.1", "0.0.0.0", true},
		{&some, "11.0.0.1", "0.0.0.0", true},
		{&some, "11.0.0.2", "0.0.0.0", false},
		{&some, "::ffff:10.0.0.1", "::", true},
		{&some, "192.0.2.1", "0.0.0.0", true},
		{&some, "192.0.2.2", "0.0.0.0", false},
		{&some, "2001:db8::1", "::", true},
		/* The Go program took an address for a /32. */
		{&some, "2001:db8::2", "::", false},
		{&some, "2001:db8:ffff::1", "::", false},
		{&some, "fd12::1", "::", true},
		{&some, "127.0.0.1", "127.0.0.1", false},
		{&some, "::1", "::1", false},
		{&none, "127.0.0.1", "127.0.0.1", true},
		{&none, "10.0.0.1", "127.0.0.1", true},
		{&none, "::1", "::", true},
		/* The file before a reload had allow_from. */
		{&none, "10.0.0.1", "0.0.0.0", false},
		{&none, "2001:db8::1", "::", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct built b;
		struct acl *l = build(&b, cases[i].lists);
		struct addr client = addr_of(cases[i].client), at = addr_of(cases[i].listener);
		enum acl_verdict v = acl_client(l, &client, &at);

		if (v != (cases[i].in ? ACL_ALLOWED : ACL_CLIENT))
			fail_msg("%s at %s: %d", cases[i].client, cases[i].listener, v);
		/* Who has to log in may come from everywhere, but the list holds for him as well. */
		l->passwords = true;
		v = acl_client(l, &client, &at);
		assert_int_equal(v == ACL_ALLOWED, cases[i].in || cases[i].lists == &none);
		acl_release(l);
	}
}

static void test_proxies(void **state)
{
	static const struct lists lists = {.allow_from = {"10.0.0.0/8"},
					   .trusted_proxies = {"192.0.2.1", "2001:db8::/64"}};
	static const struct {
		const char *peer;
		bool trusted;
	} cases[] = {
		{"192.0.2.1", true},   {"::ffff:192.0.2.1", true}, {"192.0.2.2", false},
		{"2001:db8::7", true}, {"2001:db8:0:1::7", false}, {"10.0.0.1", false},
		{"127.0.0.1", false},
	};
	static const struct lists none;
	struct built b;
	struct acl *l = build(&b, &lists);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr peer = addr_of(cases[i].peer);

		assert_int_equal(acl_is_proxy(l, &peer), cases[i].trusted);
	}
	acl_release(l);
	l = build(&b, &none);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr peer = addr_of(cases[i].peer);

		assert_false(acl_is_proxy(l, &peer));
	}
	acl_release(l);
}

/* A name that a proxy passes on can deny, and never allow. */
static void test_claims(void **state)
{
	static const struct lists lists = {
		.deny_sites = {"evil.test", ".evil.test", "", "11.0.0.1"},
		.allow_sites = {"good.test"}};
	struct built b;
	struct acl *l = build(&b, &lists);

	(void)state;
	assert_int_equal(acl_claim(l, "evil.test"), ACL_SITE_DENIED);
	assert_int_equal(acl_claim(l, "www.evil.test"), ACL_SITE_DENIED);
	assert_int_equal(acl_claim(l, "notevil.test"), ACL_ALLOWED);
	assert_int_equal(acl_claim(l, "good.test"), ACL_ALLOWED);
	assert_int_equal(acl_claim(l, "other.test"), ACL_ALLOWED);
	acl_release(l);
}

static const struct lists deny = {.deny_sites = {"www.Evil.test", ".Below.test", "both.test",
						 ".both.test", "192.0.2.1", "2001:DB8::1"},
				  .deny_ports = {{25, 25}, {6000, 6063}}};
static const struct lists deny_addresses = {.deny_sites = {""}};
static const struct lists allow = {
	.allow_sites = {".good.test", "one.test", "192.0.2.1"},
	.deny_sites = {"bad.good.test"},
};
static const struct lists allow_addresses = {.allow_sites = {"", ".good.test"}};
static const struct lists nothing;

/* As they come on the wire: what is an address, however it is written, is asked about as one. */
static const struct {
	const struct lists *lists;
	const char *site;
	uint16_t port;
	enum acl_verdict verdict;
} requests[] = {
	{&nothing, "www.evil.test", 25, ACL_ALLOWED},
	{&nothing, "127.0.0.1", 25, ACL_ALLOWED},
	{&deny, "www.evil.test", 443, ACL_SITE_DENIED},
	{&deny, "WWW.EVIL.TEST", 443, ACL_SITE_DENIED},
	{&deny, "www.evil.test.", 443, ACL_SITE_DENIED},
	{&deny, "Www.Evil.Test.", 443, ACL_SITE_DENIED},
	{&deny, "x.www.evil.test", 443, ACL_ALLOWED},
	{&deny, "evil.test", 443, ACL_ALLOWED},
	{&deny, "below.test", 443, ACL_ALLOWED},
	{&deny, "below.test.", 443, ACL_ALLOWED},
	{&deny, "a.below.test", 443, ACL_SITE_DENIED},
	{&deny, "A.BELOW.test.", 443, ACL_SITE_DENIED},
	{&deny, "b.a.below.test", 443, ACL_SITE_DENIED},
	{&deny, "notbelow.test", 443, ACL_ALLOWED},
	{&deny, "both.test", 443, ACL_SITE_DENIED},
	{&deny, "x.both.test", 443, ACL_SITE_DENIED},
	{&deny, "192.0.2.1", 443, ACL_SITE_DENIED},
	{&deny, "192.0.2.2", 443, ACL_ALLOWED},
	{&deny, "[2001:db8::1]", 443, ACL_SITE_DENIED},
	{&deny, "2001:db8:0::0:1", 443, ACL_SITE_DENIED},
	{&deny, "::ffff:192.0.2.1", 443, ACL_SITE_DENIED},
	{&deny, "64:ff9b::192.0.2.1", 443, ACL_SITE_DENIED},
	{&deny, "64:ff9b::192.0.2.2", 443, ACL_ALLOWED},
	{&deny, "2002:c000:201::1", 443, ACL_SITE_DENIED},
	{&deny, "::ffff:0:192.0.2.1", 443, ACL_SITE_DENIED},
	{&deny, "fine.test", 24, ACL_ALLOWED},
	{&deny, "fine.test", 25, ACL_PORT_DENIED},
	{&deny, "fine.test", 5999, ACL_ALLOWED},
	{&deny, "fine.test", 6000, ACL_PORT_DENIED},
	{&deny, "fine.test", 6063, ACL_PORT_DENIED},
	{&deny, "fine.test", 6064, ACL_ALLOWED},
	{&deny, "10.0.0.1", 25, ACL_PORT_DENIED},
	{&deny, "www.evil.test", 25, ACL_SITE_DENIED},
	{&deny_addresses, "any.test", 443, ACL_ALLOWED},
	{&deny_addresses, "11.0.0.1", 443, ACL_SITE_DENIED},
	{&deny_addresses, "::ffff:11.0.0.1", 443, ACL_SITE_DENIED},
	{&deny_addresses, "[2a00::1]", 443, ACL_SITE_DENIED},
	{&allow, "www.good.test", 443, ACL_ALLOWED},
	{&allow, "WWW.Good.Test.", 443, ACL_ALLOWED},
	{&allow, "bad.good.test", 443, ACL_SITE_DENIED},
	{&allow, "bad.good.test.", 443, ACL_SITE_DENIED},
	{&allow, "x.bad.good.test", 443, ACL_ALLOWED},
	{&allow, "good.test", 443, ACL_SITE_UNKNOWN},
	{&allow, "one.test", 443, ACL_ALLOWED},
	{&allow, "two.test", 443, ACL_SITE_UNKNOWN},
	{&allow, "test", 443, ACL_SITE_UNKNOWN},
	{&allow, "192.0.2.1", 443, ACL_ALLOWED},
	{&allow, "192.0.2.2", 443, ACL_SITE_UNKNOWN},
	{&allow, "2a00::1", 443, ACL_SITE_UNKNOWN},
	{&allow_addresses, "2a00::1", 443, ACL_ALLOWED},
	{&allow_addresses, "www.good.test", 443, ACL_ALLOWED},
	{&allow_addresses, "one.test", 443, ACL_SITE_UNKNOWN},
};

static void test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		const char *site = requests[i].site;
		char name[NAME_MAX_LEN + 1];
		struct addr dest = {0};
		struct built b;
		struct acl *l = build(&b, requests[i].lists);
		int kind = name_normalise(site, strlen(site), name, &dest);
		enum acl_verdict v;

		assert_true(kind >= 0);
		v = acl_request(l, kind == 0 ? name : NULL, &dest, requests[i].port);
		if (v != requests[i].verdict)
			fail_msg("%zu: %s:%u: %s", i, site, requests[i].port, acl_text(v));
		acl_release(l);
	}
}

static const struct lists networks = {
	.deny_networks = {"10.0.0.0/8", "127.0.0.53", "2a00:1::/32"},
	.allow_anyway = {"127.0.0.0/24", "fe80::1", "11.0.0.1", "64:ff9b::/96", "10.1.0.0/16"}};

static const struct {
	const struct lists *lists;
	const char *to;
	enum acl_verdict verdict;
} addresses[] = {
	{&nothing, "11.0.0.3", ACL_ALLOWED},
	{&nothing, "2a00:1::3", ACL_ALLOWED},
	{&nothing, "10.0.0.1", ACL_ALLOWED},
	{&nothing, "192.168.1.1", ACL_ALLOWED},
	{&nothing, "fd12::1", ACL_ALLOWED},
	{&nothing, "0.0.0.0", ACL_NETWORK_SPECIAL},
	{&nothing, "0.1.2.3", ACL_NETWORK_SPECIAL},
	{&nothing, "::", ACL_NETWORK_SPECIAL},
	{&nothing, "127.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "127.255.255.254", ACL_NETWORK_SPECIAL},
	{&nothing, "::1", ACL_NETWORK_SPECIAL},
	{&nothing, "::ffff:127.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "::ffff:7f00:1", ACL_NETWORK_SPECIAL},
	{&nothing, "::127.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "::11.0.0.3", ACL_NETWORK_SPECIAL},
	{&nothing, "169.254.169.254", ACL_NETWORK_SPECIAL},
	{&nothing, "::ffff:a9fe:a9fe", ACL_NETWORK_SPECIAL},
	{&nothing, "fe80::1", ACL_NETWORK_SPECIAL},
	{&nothing, "febf:ffff::1", ACL_NETWORK_SPECIAL},
	{&nothing, "fec0::1", ACL_NETWORK_SPECIAL},
	{&nothing, "fd00:ec2::254", ACL_NETWORK_SPECIAL},
	{&nothing, "fd20:ce::254", ACL_NETWORK_SPECIAL},
	{&nothing, "100.100.100.200", ACL_NETWORK_SPECIAL},
	{&nothing, "100.64.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "100.63.255.255", ACL_ALLOWED},
	{&nothing, "168.63.129.16", ACL_NETWORK_SPECIAL},
	{&nothing, "192.0.0.192", ACL_NETWORK_SPECIAL},
	{&nothing, "223.255.255.255", ACL_ALLOWED},
	{&nothing, "224.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "240.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "255.255.255.255", ACL_NETWORK_SPECIAL},
	{&nothing, "ff02::1", ACL_NETWORK_SPECIAL},
	{&nothing, "64:ff9b::127.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "64:ff9b::a9fe:a9fe", ACL_NETWORK_SPECIAL},
	{&nothing, "64:ff9b::11.0.0.3", ACL_ALLOWED},
	{&nothing, "64:ff9b::11.0.0.1", ACL_OWN_ADDRESS},
	{&nothing, "64:ff9b:1::1", ACL_NETWORK_SPECIAL},
	{&nothing, "::ffff:0:127.0.0.1", ACL_NETWORK_SPECIAL},
	{&nothing, "::ffff:0:11.0.0.1", ACL_OWN_ADDRESS},
	{&nothing, "::ffff:0:11.0.0.3", ACL_ALLOWED},
	{&nothing, "2002:7f00:1::", ACL_NETWORK_SPECIAL},
	{&nothing, "2002:a9fe:a9fe::1", ACL_NETWORK_SPECIAL},
	{&nothing, "2002:b00:3::1", ACL_ALLOWED},
	{&nothing, "2001::1", ACL_NETWORK_SPECIAL},
	{&nothing, "11.0.0.1", ACL_OWN_ADDRESS},
	{&nothing, "2a00:1::1", ACL_OWN_ADDRESS},
	{&nothing, "::ffff:11.0.0.1", ACL_OWN_ADDRESS},
	{&networks, "10.0.0.1", ACL_NETWORK_DENIED},
	{&networks, "::ffff:10.0.0.1", ACL_NETWORK_DENIED},
	{&networks, "64:ff9b::10.0.0.1", ACL_NETWORK_DENIED},
	{&networks, "2002:a00:1::1", ACL_NETWORK_DENIED},
	{&networks, "10.1.0.1", ACL_NETWORK_DENIED},
	{&networks, "127.0.0.1", ACL_ALLOWED},
	{&networks, "127.0.0.53", ACL_NETWORK_DENIED},
	{&networks, "127.0.1.1", ACL_NETWORK_SPECIAL},
	{&networks, "64:ff9b::127.0.0.1", ACL_ALLOWED},
	{&networks, "64:ff9b::127.0.1.1", ACL_NETWORK_SPECIAL},
	{&networks, "fe80::1", ACL_ALLOWED},
	{&networks, "fe80::2", ACL_NETWORK_SPECIAL},
	{&networks, "11.0.0.1", ACL_ALLOWED},
	{&networks, "2a00:1::1", ACL_NETWORK_DENIED},
};

static void test_addresses(void **state)
{
	static const char *const own_entries[] = {"11.0.0.1", "2a00:1::1", NULL};
	struct prefix own_prefixes[LIST_MAX];
	struct prefix_list list = networks_of(own_entries, own_prefixes);
	struct prefix_set *own = prefix_set_new();

	(void)state;
	for (size_t i = 0; i < list.n; i++)
		assert_int_equal(prefix_set_add(own, &list.prefixes[i]), 0);
	assert_int_equal(prefix_set_finish(own), 0);
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct addr to = addr_of(addresses[i].to);
		struct built b;
		struct acl *l = build(&b, addresses[i].lists);
		enum acl_verdict v = acl_address(l, &to, own);

		if (v != addresses[i].verdict)
			fail_msg("%s: %s", addresses[i].to, acl_text(v));
		acl_release(l);
	}
	prefix_set_free(own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proxies),   cmocka_unit_test(test_claims),
		cmocka_unit_test(test_clients),   cmocka_unit_test(test_requests),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
