/* SPDX-License-Identifier: MIT */
#include "daemon/egress/dnsbl.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void test_name(void **state)
{
	static const struct {
		const char *address, *name;
	} rows[] = {
		{"203.0.113.7", "7.113.0.203.bl.test"},
		{"2001:db8::12ab",
		 "b.a.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
		 "bl.test"},
		{"2001:db8:1::/64",
		 "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2."
		 "bl.test"},
	};
	char out[DNSBL_NAME_MAX], longest[EGRESS_DNSBL_MAX + 1];
	struct egress_entry e;
	const char *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(egress_entry_parse(&e, rows[i].address, &why), 0);
		assert_string_equal(dnsbl_name(&e.prefix, "bl.test", out), rows[i].name);
	}
	memset(longest, 'x', EGRESS_DNSBL_MAX);
	longest[EGRESS_DNSBL_MAX] = '\0';
	assert_int_equal(strlen(dnsbl_name(&e.prefix, longest, out)), 253);
}

static void test_judge(void **state)
{
	static const struct {
		int status;
		enum dnsbl_verdict verdict;
		const char *answers[3], *said;
	} rows[] = {
		{-ENOENT, DNSBL_CLEAN, {NULL}, NULL},
		{-ETIMEDOUT, DNSBL_UNKNOWN, {NULL}, NULL},
		{-EIO, DNSBL_UNKNOWN, {NULL}, NULL},
		{-ENOMEM, DNSBL_UNKNOWN, {NULL}, NULL},
		{0, DNSBL_LISTED, {"127.0.0.2"}, "127.0.0.2"},
		{0, DNSBL_LISTED, {"127.0.0.255"}, "127.0.0.255"},
		{0, DNSBL_LISTED, {"127.0.1.1"}, "127.0.1.1"},
		{0, DNSBL_LISTED, {"127.255.254.254"}, "127.255.254.254"},
		{0, DNSBL_LISTED, {"127.0.0.1", "127.0.0.4"}, "127.0.0.4"},
		{0, DNSBL_LISTED, {"127.255.255.254", "127.0.0.4", "127.0.0.2"}, "127.0.0.4"},
		{0, DNSBL_UNKNOWN, {"127.0.0.1"}, NULL},
		{0, DNSBL_UNKNOWN, {"127.255.255.252"}, NULL},
		{0, DNSBL_UNKNOWN, {"127.255.255.254"}, NULL},
		{0, DNSBL_UNKNOWN, {"127.255.255.255"}, NULL},
		{0, DNSBL_UNKNOWN, {"127.255.255.0"}, NULL},
		{0, DNSBL_UNKNOWN, {"203.0.113.1"}, NULL},
		{0, DNSBL_UNKNOWN, {"128.0.0.2", "126.0.0.2"}, NULL},
		{0, DNSBL_UNKNOWN, {"::1"}, NULL},
	};
	char text[ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct addr addrs[3], said;
		size_t n = 0;

		for (; n < 3 && rows[i].answers[n] != NULL; n++)
			assert_int_equal(addr_parse(&addrs[n], rows[i].answers[n]), 0);
		assert_int_equal(dnsbl_judge(rows[i].status, addrs, n, &said), rows[i].verdict);
		if (rows[i].said != NULL)
			assert_string_equal(addr_format_ip(&said, text, sizeof(text)),
					    rows[i].said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_judge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
