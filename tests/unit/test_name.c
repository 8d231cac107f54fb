/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "policy/name.h"

#define TEXT(s) (s), sizeof(s) - 1

struct name_case {
	const char *in;
	size_t n;
	int ret;
	const char *want; /* the name, or the address */
};

#define L10  "abcdefghij"
#define L60  L10 L10 L10 L10 L10 L10
#define L63  L60 "abc"
#define N253 L63 "." L63 "." L63 "." L60 "a" /* 3 * 64 + 61 */

static const struct name_case cases[] = {
	{TEXT("example.com"), 0, "example.com"},
	{TEXT("ExAmPlE.CoM"), 0, "example.com"},
	{TEXT("AZaz-09._x.z"), 0, "azaz-09._x.z"},
	{TEXT("example.com."), 0, "example.com"},
	{TEXT("localhost"), 0, "localhost"},
	{TEXT("_dmarc.example.com"), 0, "_dmarc.example.com"},
	{TEXT("xn--bcher-kva.example"), 0, "xn--bcher-kva.example"},
	{TEXT("1.2.3.4.example"), 0, "1.2.3.4.example"},
	{TEXT("0x7f.example"), 0, "0x7f.example"},
	{TEXT("123a"), 0, "123a"},
	{TEXT("0xserver"), 0, "0xserver"},
	{TEXT("a.x12"), 0, "a.x12"},
	{TEXT(L63), 0, L63},
	{TEXT(N253), 0, N253},
	{TEXT(N253 "."), 0, N253},

	{TEXT("192.0.2.1"), 1, "192.0.2.1"},
	{TEXT("2001:DB8::1"), 1, "2001:db8::1"},
	{TEXT("[2001:db8::1]"), 1, "2001:db8::1"},
	{TEXT("::ffff:192.0.2.1"), 1, "192.0.2.1"},
	{TEXT("[::ffff:127.0.0.1]"), 1, "127.0.0.1"},
	{TEXT("::"), 1, "::"},
	{TEXT("0000:0000:0000:0000:0000:ffff:255.255.255.255"), 1, "255.255.255.255"},
	{TEXT("[0000:0000:0000:0000:0000:1111:255.255.255.255]"), 1, "::1111:ffff:ffff"},

	{TEXT(""), -EINVAL, NULL},
	{TEXT("."), -EINVAL, NULL},
	{TEXT(".."), -EINVAL, NULL},
	{TEXT("example.com.."), -EINVAL, NULL},
	{TEXT(".example.com"), -EINVAL, NULL},
	{TEXT("a..b"), -EINVAL, NULL},
	{TEXT(L63 "d"), -EINVAL, NULL},
	{TEXT(L63 "d.example"), -EINVAL, NULL},
	{TEXT("example." L63 "d"), -EINVAL, NULL},
	{TEXT(N253 "b"), -EINVAL, NULL},
	{TEXT(N253 "b."), -EINVAL, NULL},
	{TEXT("v4.test\0.evil.example"), -EINVAL, NULL},
	{TEXT("example.com\0"), -EINVAL, NULL},
	{TEXT("127.0.0.1\0"), -EINVAL, NULL},
	{TEXT("\0"), -EINVAL, NULL},
	{TEXT("a\r\nb"), -EINVAL, NULL},
	{TEXT("a b"), -EINVAL, NULL},
	{TEXT(" a"), -EINVAL, NULL},
	{TEXT("b\xc3\xbc"
	      "cher.example"),
	 -EINVAL, NULL},
	{TEXT("a/b"), -EINVAL, NULL},
	{TEXT("a:80"), -EINVAL, NULL},
	{TEXT("user@a"), -EINVAL, NULL},
	{TEXT("*.example.com"), -EINVAL, NULL},
	{TEXT("0x7f.1"), -EINVAL, NULL},
	{TEXT("0x7f000001"), -EINVAL, NULL},
	{TEXT("0X7F000001"), -EINVAL, NULL},
	{TEXT("127.0.0.0x1"), -EINVAL, NULL},
	{TEXT("a.0x"), -EINVAL, NULL},
	{TEXT("2130706433"), -EINVAL, NULL},
	{TEXT("1.2.3"), -EINVAL, NULL},
	{TEXT("1.2.3."), -EINVAL, NULL},
	{TEXT("127.0.0.1."), -EINVAL, NULL},
	{TEXT("0177.0.0.1"), -EINVAL, NULL},
	{TEXT("1.2.3.256"), -EINVAL, NULL},
	{TEXT("1.2.3.4.5"), -EINVAL, NULL},
	{TEXT("example.123"), -EINVAL, NULL},
	{TEXT("host%zone"), -EINVAL, NULL},
	{TEXT("fe80::1%eth0"), -EINVAL, NULL},
	{TEXT("[2001:db8::1"), -EINVAL, NULL},
	{TEXT("2001:db8::1]"), -EINVAL, NULL},
	{TEXT("[]"), -EINVAL, NULL},
	{TEXT("[192.0.2.1]"), -EINVAL, NULL},
	{TEXT("[[::1]]"), -EINVAL, NULL},
	{TEXT("[::1]:80"), -EINVAL, NULL},
	{TEXT("[0000:0000:0000:0000:0000:1111:255.255.255.2555]"), -EINVAL, NULL},
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct name_case *k = &cases[i];
		char out[NAME_MAX_LEN + 1] = "untouched", text[ADDR_TEXT_MAX];
		struct addr addr = {.family = AF_UNSPEC};
		char *in = test_malloc(k->n + 1); /* sanitizers see each byte beyond */

		print_message("case: %s\n", k->in);
		memcpy(in + 1, k->in, k->n);
		assert_int_equal(name_normalise(in + 1, k->n, out, &addr), k->ret);
		test_free(in);
		if (k->ret == 1) {
			assert_string_equal(out, "");
			assert_string_equal(addr_format_ip(&addr, text, sizeof(text)), k->want);
			assert_int_equal(addr.port, 0);
			continue;
		}
		assert_int_equal(addr.family, AF_UNSPEC);
		assert_string_equal(out, k->ret == 0 ? k->want : "untouched");
	}
}

/* Each byte on its own, inside a name: what is allowed is a short list. */
static void test_every_byte(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		char in[] = {'a', (char)c, 'b'}, out[NAME_MAX_LEN + 1];
		struct addr addr;
		int want = -EINVAL;

		if (c != 0 &&
		    strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.",
			   (int)c) != NULL)
			want = 0;
		/* "a:b" and the like are no literals. */
		assert_int_equal(name_normalise(in, sizeof(in), out, &addr), want);
	}
}

/* What came out goes in again unchanged. */
static void test_idempotent(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char once[NAME_MAX_LEN + 1], twice[NAME_MAX_LEN + 1];
		struct addr addr;

		if (name_normalise(cases[i].in, cases[i].n, once, &addr) != 0)
			continue;
		assert_int_equal(name_normalise(once, strlen(once), twice, &addr), 0);
		assert_string_equal(once, twice);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_idempotent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
