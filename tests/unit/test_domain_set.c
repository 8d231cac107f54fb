/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "policy/domain_set.h"
#include "policy/strbuf.h"

static struct domain_set *set_of(const char *text)
{
	struct domain_set *s = domain_set_new();
	char *copy = test_malloc(strlen(text)); /* sanitizers see each byte beyond */
	struct diag d;

	assert_non_null(s);
	memcpy(copy, text, strlen(text));
	if (domain_set_add_text(s, copy, strlen(text), "list", &d) != 0)
		fail_msg("%s:%d: %s", d.file, d.line, d.text);
	test_free(copy);
	return s;
}

static const char entries[] = "\xef\xbb\xbf# one a line\r\n"
			      "Example.com\r\n"
			      "\t .below.example.\t# and what is under it\r\n"
			      "\r\n"
			      ".co.uk\n"
			      "deep.www.alone.example\n"
			      "1.2.3.4.example\n"
			      "_srv.example\n"
			      "localhost";

static const struct {
	const char *name;
	bool in;
} cases[] = {
	{"example.com", true},
	{"www.example.com", false},
	{"xexample.com", false},
	{"example.co", false},
	{"com", false},
	{"below.example", true},
	{"a.below.example", true},
	{"c.b.a.below.example", true},
	{"notbelow.example", false},
	{"below.example.com", false},
	{"example", false},
	{"co.uk", true},
	{"shop.co.uk", true},
	{"uk", false},
	{"deep.www.alone.example", true},
	{"www.alone.example", false},
	{"x.deep.www.alone.example", false},
	{"1.2.3.4.example", true},
	{"2.3.4.example", false},
	{"_srv.example", true},
	{"localhost", true},
	{"a.localhost", false},
	{"and", false},
};

static void test_contains(void **state)
{
	struct domain_set *s = set_of(entries);

	(void)state;
	assert_int_equal(domain_set_count(s), 7);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		print_message("case: %s\n", cases[i].name);
		assert_int_equal(domain_set_contains(s, cases[i].name), cases[i].in);
	}
	assert_true(domain_set_bytes(s) > 0);
	domain_set_free(s);
}

static void test_empty(void **state)
{
	struct domain_set *s = set_of("# nothing\n\n   \n");

	(void)state;
	domain_set_free(s);
	s = set_of("");
	assert_int_equal(domain_set_count(s), 0);
	assert_false(domain_set_contains(s, "example.com"));
	assert_false(domain_set_contains(s, ""));
	domain_set_free(s);
	domain_set_free(NULL);
}

/* The wider entry counts, in whatever order they come. */
static void test_both_kinds(void **state)
{
	static const char *const orders[] = {".a.example\na.example\nb.a.example\n",
					     "b.a.example\na.example\n.a.example\n",
					     "a.example\n.a.example\na.example\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		struct domain_set *s = set_of(orders[i]);

		assert_true(domain_set_contains(s, "a.example"));
		assert_true(domain_set_contains(s, "b.a.example"));
		assert_true(domain_set_contains(s, "c.b.a.example"));
		assert_false(domain_set_contains(s, "example"));
		/* What comes behind the one that covers it is not kept. */
		assert_int_equal(domain_set_count(s), i == 1 ? 2 : 1);
		domain_set_free(s);
	}
}

static const struct {
	const char *text;
	int line;
	const char *says;
} bad[] = {
	{"*.example.com", 1, "\"*.example.com\": write \".example.com\", which"},
	{"a.example\n\n192.0.2.1 # x\n", 3, "\"192.0.2.1\" is an address"},
	{"a.example\n.192.0.2.1", 2, "is an address"},
	{"[2001:db8::1]", 1, "is an address"},
	{"10.0.0.0/8", 1, "networks"},
	{"https://www.example.com/", 1, "is not a domain name"},
	{"b\xc3\xbc"
	 "cher.example",
	 1, "\"xn--...\""},
	{"0.0.0.0 ads.example", 1, "is more than one name"},
	{"example.com:443", 1, "is not a domain name"},
	{".", 1, "is not a domain name"},
	{"..", 1, "is not a domain name"},
	{"..example.com", 1, "is not a domain name"},
	{"a..example.com", 1, "is not a domain name"},
	{"example.com..", 1, "is not a domain name"},
	{"*", 1, "is not a domain name"},
	{"0x7f.1", 1, "is not a domain name"},
	{"a\x1b[31m.example", 1, "\"a\\u001b[31m.example\""},
	{"\xff\xfe"
	 "a",
	 1, "\"\\u00ff\\u00fea\" is not a domain name"},
	{"a\xff.example", 1, "\"a\\u00ff.example\""},
	{"a.example\n\xef\xbb\xbf"
	 "b.example",
	 2, "\"xn--...\""},
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct domain_set *s = domain_set_new();
		struct diag d;

		print_message("case: %s\n", bad[i].text);
		assert_int_equal(
			domain_set_add_text(s, bad[i].text, strlen(bad[i].text), "list", &d),
			-EINVAL);
		assert_string_equal(d.file, "list");
		assert_int_equal(d.line, bad[i].line);
		if (strstr(d.text, bad[i].says) == NULL)
			fail_msg("%s", d.text);
		domain_set_free(s);
	}
}

/* A NUL ends no entry, and an entry of any length is refused in one line. */
static void test_bad_bytes(void **state)
{
	static char endless[100000];
	struct domain_set *s = domain_set_new();
	struct diag d;

	(void)state;
	assert_int_equal(domain_set_add(s, "v4.example\0.evil.example", 24, &d), -EINVAL);
	assert_non_null(strstr(d.text, "v4.example\\u0000"));
	assert_int_equal(domain_set_add(s, "", 0, &d), -EINVAL);
	memset(endless, 'a', sizeof(endless));
	assert_int_equal(domain_set_add_text(s, endless, sizeof(endless), "list", &d), -EINVAL);
	assert_true(strlen(d.text) < 200);
	assert_int_equal(domain_set_count(s), 0);
	domain_set_free(s);
}

static void add(struct domain_set *s, const char *before, unsigned i)
{
	char entry[64];
	struct diag d;

	snprintf(entry, sizeof(entry), "%s%u.example", before, i);
	assert_int_equal(domain_set_add(s, entry, strlen(entry), &d), 0);
}

static bool contains(const struct domain_set *s, const char *before, unsigned i)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%u.example", before, i);
	return domain_set_contains(s, name);
}

/* Through every growth of the table. */
static void test_many(void **state)
{
	const unsigned n = 20000;
	struct domain_set *s = domain_set_new();

	(void)state;
	for (unsigned i = 0; i < n; i++)
		add(s, i % 2 == 0 ? "host" : ".zone", i);
	assert_int_equal(domain_set_count(s), n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(contains(s, "host", i), i % 2 == 0);
		assert_int_equal(contains(s, "zone", i), i % 2 == 1);
		assert_int_equal(contains(s, "www.zone", i), i % 2 == 1);
		assert_false(contains(s, "www.host", i));
		assert_false(contains(s, "", i));
	}
	domain_set_free(s);
}

/* 127 labels, of which the last ones are an entry; and an entry as long as a name can be. */
static void test_deep(void **state)
{
	char name[254] = "";
	struct domain_set *s = domain_set_new();
	struct diag d;

	(void)state;
	for (size_t i = 0; i < 126; i++)
		strcat(name, "a.");
	strcat(name, "b");
	assert_int_equal(domain_set_add(s, ".a.a.b", 6, &d), 0);
	assert_true(domain_set_contains(s, name));
	assert_false(domain_set_contains(s, name + 250));
	domain_set_free(s);

	s = domain_set_new();
	assert_int_equal(domain_set_add(s, name, strlen(name), &d), 0);
	assert_true(domain_set_contains(s, name));
	assert_false(domain_set_contains(s, name + 2));
	domain_set_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contains),   cmocka_unit_test(test_empty),
		cmocka_unit_test(test_both_kinds), cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bad_bytes),  cmocka_unit_test(test_many),
		cmocka_unit_test(test_deep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
