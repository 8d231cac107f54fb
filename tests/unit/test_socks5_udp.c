/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/proto/socks5_udp.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1
#define V4       "\0\0\0\1\x0b\0\0\1\0\x35"
#define V6       "\0\0\0\4\x2a\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\1\xbb"

static const struct row {
	const uint8_t *in;
	size_t n;
	int head_len;
	const char *dest; /* endpoint, or name */
	uint16_t port;
} rows[] = {
	{BYTES(V4), 10, "11.0.0.1:53", 53},
	{BYTES(V4 "payload"), 10, "11.0.0.1:53", 53},
	{BYTES(V6), 22, "[2a00:1::1]:443", 443},
	{BYTES(V6 "\0"), 22, "[2a00:1::1]:443", 443},
	{BYTES("\0\0\0\3\4a.bc\0\x35x"), 11, "a.bc", 53},
	{BYTES("\0\0\0\3\0\0\x35"), 7, "", 53},
	{BYTES("\0\0\0\3\3a\0b\0\0"), 10, "a", 0},
	/* An IPv4 address in IPv6 is that address. */
	{BYTES("\0\0\0\4\0\0\0\0\0\0\0\0\0\0\xff\xff\x0b\0\0\1\0\x35"), 22, "11.0.0.1:53", 53},
	/* The reserved bytes are nobody's business. */
	{BYTES("\xff\xff\0\1\x0b\0\0\1\0\x35"), 10, "11.0.0.1:53", 53},
	{BYTES("\0\0\1\1\x0b\0\0\1\0\x35"), -EOPNOTSUPP, NULL, 0},
	{BYTES("\0\0\x80\1\x0b\0\0\1\0\x35"), -EOPNOTSUPP, NULL, 0},
	{BYTES("\0\0\xff\3\1a\0\x35"), -EOPNOTSUPP, NULL, 0},
	{BYTES(""), -EINVAL, NULL, 0},
	{BYTES("\0\0\0"), -EINVAL, NULL, 0},
	{BYTES("\0\0\0\0\x0b\0\0\1\0\x35"), -EINVAL, NULL, 0},
	{BYTES("\0\0\0\2\x0b\0\0\1\0\x35"), -EINVAL, NULL, 0},
	{BYTES("\0\0\0\5\x0b\0\0\1\0\x35"), -EINVAL, NULL, 0},
	{BYTES("\0\0\0\xff\x0b\0\0\1\0\x35"), -EINVAL, NULL, 0},
	{BYTES("\0\0\0\3\xff"
	       "a\0\x35"),
	 -EINVAL, NULL, 0},
};

/* In memory of its own, so that sanitizers see each byte beyond. */
static int parse(const uint8_t *in, size_t n, struct proto_dest *dest)
{
	uint8_t *copy = test_malloc(n + 1);
	int len;

	memcpy(copy + 1, in, n);
	len = socks5_udp_parse(copy + 1, n, dest);
	assert_int_equal(socks5_udp_head_len(copy + 1, n), len);
	test_free(copy);
	return len;
}

static void test_parse(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct proto_dest dest;
		char text[ADDR_TEXT_MAX];

		memset(&dest, 0xee, sizeof(dest));
		assert_int_equal(parse(rows[i].in, rows[i].n, &dest), rows[i].head_len);
		if (rows[i].head_len < 0)
			continue;
		assert_int_equal(dest.port, rows[i].port);
		if (dest.addr.family == AF_UNSPEC)
			assert_string_equal(dest.name, rows[i].dest);
		else
			assert_string_equal(addr_format(&dest.addr, text, sizeof(text)),
					    rows[i].dest);
	}
}

/* Cut anywhere, a header is none; what is behind it does not count. */
static void test_cut(void **state)
{
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t n = 0; n < rows[i].n && rows[i].head_len > 0; n++) {
			struct proto_dest dest;
			int want = n < (size_t)rows[i].head_len ? -EINVAL : rows[i].head_len;

			assert_int_equal(parse(rows[i].in, n, &dest), want);
		}
	}
}

static void test_write(void **state)
{
	static const struct {
		const char *from;
		const uint8_t *head;
		size_t len;
	} cases[] = {
		{"11.0.0.1:53", BYTES(V4)},
		{"[2a00:1::1]:443", BYTES(V6)},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t out[SOCKS5_UDP_HEAD_ADDR_MAX];
		struct proto_dest dest;
		struct addr from;

		assert_int_equal(addr_parse_endpoint(&from, cases[i].from), 0);
		assert_int_equal(socks5_udp_write(&from, out), cases[i].len);
		assert_memory_equal(out, cases[i].head, cases[i].len);
		assert_int_equal(parse(out, cases[i].len, &dest), cases[i].len);
		assert_true(addr_equal(&dest.addr, &from));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
