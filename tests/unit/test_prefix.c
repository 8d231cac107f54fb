/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "policy/prefix.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *shown; /* NULL: refused */
	} cases[] = {
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"192.0.2.1", "192.0.2.1/32"},
		{"192.0.2.0/31", "192.0.2.0/31"},
		{"172.16.0.0/12", "172.16.0.0/12"},
		{"::/0", "::/0"},
		{"2001:DB8::/32", "2001:db8::/32"},
		{"2001:db8::1", "2001:db8::1/128"},
		{"::ffff:0:0/96", "::ffff:0.0.0.0/96"},
		{"fe80::/9", "fe80::/9"},
		{"fec0::/9", NULL},
		{"", NULL},
		{"/8", NULL},
		{"10.0.0.0/", NULL},
		{"10.0.0.0/33", NULL},
		{"10.0.0.0/-1", NULL},
		{"10.0.0.0/8/8", NULL},
		{"10.0.0.0/8 ", NULL},
		{"10.0.0.1/8", NULL}, /* host bits */
		{"10.0.0.128/24", NULL},
		{"2001:db8::1/32", NULL},
		{"::/129", NULL},
		{"10/8", NULL},
		{"10.0.0/24", NULL},
		{"[::]/0", NULL},
		{"example.com", NULL},
		{"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb/64", NULL},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct prefix p = {.family = 77};
		char out[PREFIX_TEXT_MAX];
		int r = prefix_parse(&p, cases[i].text);

		if ((r == 0) != (cases[i].shown != NULL))
			fail_msg("%s: %d", cases[i].text, r);
		if (r == 0)
			assert_string_equal(prefix_format(&p, out, sizeof(out)), cases[i].shown);
		else
			assert_int_equal(p.family, 77);
	}
}

static void test_contains_and_bounds(void **state)
{
	static const struct {
		const char *prefix, *first, *last, *before, *after; /* "": there is none */
	} cases[] = {
		{"10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
		{"172.16.0.0/12", "172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"},
		{"192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.6", "192.0.2.8"},
		{"192.0.2.6/31", "192.0.2.6", "192.0.2.7", "192.0.2.5", "192.0.2.8"},
		{"0.0.0.0/0", "0.0.0.0", "255.255.255.255", "", ""},
		{"224.0.0.0/3", "224.0.0.0", "255.255.255.255", "223.255.255.255", ""},
		{"2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
		 "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
		{"100::/63", "100::", "100:0:0:1:ffff:ffff:ffff:ffff",
		 "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "100:0:0:2::"},
		{"::1", "::1", "::1", "::", "::2"},
		{"::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr a;
		struct prefix p;
		uint8_t first[16], last[16];

		assert_int_equal(prefix_parse(&p, cases[i].prefix), 0);
		prefix_bounds(&p, first, last);
		assert_int_equal(addr_parse(&a, cases[i].first), 0);
		assert_memory_equal(first, a.ip, addr_len(&a));
		assert_true(prefix_contains(&p, &a));
		assert_int_equal(addr_parse(&a, cases[i].last), 0);
		assert_memory_equal(last, a.ip, addr_len(&a));
		assert_true(prefix_contains(&p, &a));
		if (addr_parse(&a, cases[i].before) == 0)
			assert_false(prefix_contains(&p, &a));
		if (addr_parse(&a, cases[i].after) == 0)
			assert_false(prefix_contains(&p, &a));
	}
}

static void test_families_apart(void **state)
{
	struct prefix v4, v6;
	struct addr a4, a6;
	(void)state;

	assert_int_equal(prefix_parse(&v4, "0.0.0.0/0"), 0);
	assert_int_equal(prefix_parse(&v6, "::/0"), 0);
	assert_int_equal(addr_parse(&a4, "1.2.3.4"), 0);
	assert_int_equal(addr_parse(&a6, "2001:db8::1"), 0);
	assert_true(prefix_contains(&v4, &a4));
	assert_false(prefix_contains(&v4, &a6));
	assert_false(prefix_contains(&v6, &a4));
	assert_true(prefix_contains(&v6, &a6));
}

/* What the interval sets of the rules rely on: parsable, sorted and disjoint. */
static void assert_table(const struct special_prefix *table, size_t n, uint8_t family)
{
	size_t nbytes = family == AF_INET ? 4 : 16;
	uint8_t end[16] = {0}; /* one past the prefix before */

	for (size_t i = 0; i < n; i++) {
		uint8_t first[16], last[16];
		struct prefix p;
		size_t byte = nbytes;

		assert_int_equal(prefix_parse(&p, table[i].prefix), 0);
		assert_int_equal(p.family, family);
		prefix_bounds(&p, first, last);
		if (i > 0 && memcmp(first, end, nbytes) < 0)
			fail_msg("%s overlaps the one before or is out of order", table[i].prefix);
		memcpy(end, last, nbytes);
		while (byte > 0 && ++end[byte - 1] == 0)
			byte--;
		assert_true(strlen(table[i].name) > 0 && strlen(table[i].source) > 0);
		/* Netfilter's comments end at 127 bytes, and these carry a source as well. */
		assert_true(strlen(table[i].name) + strlen(table[i].source) < 100);
	}
}

static bool is_special(const char *text)
{
	struct addr a;
	bool found = false;

	assert_int_equal(addr_parse(&a, text), 0);
	for (size_t i = 0; i < n_special_prefixes4 + n_special_prefixes6; i++) {
		const struct special_prefix *s =
			i < n_special_prefixes4 ? &special_prefixes4[i]
						: &special_prefixes6[i - n_special_prefixes4];
		struct prefix p;

		assert_int_equal(prefix_parse(&p, s->prefix), 0);
		found |= prefix_contains(&p, &a);
	}
	return found;
}

static void test_special_prefixes(void **state)
{
	static const char *const special[] = {
		"0.0.0.1",    "10.1.2.3",    "100.64.0.1",      "127.0.0.1",   "169.254.169.254",
		"172.31.0.1", "192.0.2.1",   "192.168.1.1",     "198.19.0.1",  "203.0.113.9",
		"224.0.0.1",  "240.0.0.1",   "255.255.255.255", "::",          "::1",
		"100::1",     "2001:db8::1", "2001::1",         "fc00::1",     "fd91::1",
		"fe80::1",    "fec0::1",     "ff02::1",         "2002:a00::1",
	};
	static const char *const internet[] = {
		"1.1.1.1",     "11.0.0.1",  "100.63.255.255", "100.128.0.1",      "172.15.0.1",
		"172.32.0.1",  "192.0.1.1", "198.17.255.255", "198.20.0.1",       "223.255.255.255",
		"2001:200::1", "2a00:1::1", "2606:4700::1",   "64:ff9b::101:101", "2620:4f:8000::1",
	};
	(void)state;

	assert_table(special_prefixes4, n_special_prefixes4, AF_INET);
	assert_table(special_prefixes6, n_special_prefixes6, AF_INET6);
	for (size_t i = 0; i < ARRAY_LEN(special); i++) {
		if (!is_special(special[i]))
			fail_msg("%s would be redirected", special[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(internet); i++) {
		if (is_special(internet[i]))
			fail_msg("%s would not be redirected", internet[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_contains_and_bounds),
		cmocka_unit_test(test_families_apart),
		cmocka_unit_test(test_special_prefixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
