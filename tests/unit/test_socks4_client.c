/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/client_feed.h"

#define REQUEST4 "\x04\x01\x00\x50\x0b\x00\x00\x01\x00"
#define REQUEST_USER             \
	"\x04\x01\x00\x50\x0b\0" \
	"\0\x01"                 \
	"bob\0"
#define REQUEST_NAME           \
	"\x04\x01\x01\xbb\0\0" \
	"\0\x01\0"             \
	"host.lan\0"
#define REQUEST6               \
	"\x04\x01\x1f\x90\0\0" \
	"\0\x01\0"             \
	"2a00:1::7\0"
#define GRANTED "\x00\x5a\x00\x00\x00\x00\x00\x00"
#define OTHER   "the upstream does not speak SOCKS4"

static const struct client_case cases[] = {
	{"IPv4", "", "11.0.0.1:80", BYTES(GRANTED), BYTES(REQUEST4), PROTO_DONE, 0, 0, NULL, 0,
	 false},
	{"IPv4, user id", "bob", "11.0.0.1:80", BYTES(GRANTED), BYTES(REQUEST_USER), PROTO_DONE, 0,
	 0, NULL, 0, false},
	{"name", "", "host.lan", BYTES(GRANTED), BYTES(REQUEST_NAME), PROTO_DONE, 0, 0, NULL, 0,
	 false},
	{"IPv6 as a name", "", "[2a00:1::7]:8080", BYTES(GRANTED), BYTES(REQUEST6), PROTO_DONE, 0,
	 0, NULL, 0, false},
	{"an address that would announce a name", "", "0.0.0.9:80", BYTES(GRANTED),
	 BYTES("\x04\x01\x00\x50\0\0\0\x01\0"
	       "0.0.0.9\0"),
	 PROTO_DONE, 0, 0, NULL, 0, false},
	{"payload behind the reply", "", "11.0.0.1:80", BYTES(GRANTED "SSH-2.0"), BYTES(REQUEST4),
	 PROTO_DONE, 7, 0, NULL, 0, false},
	{"address in the reply", "", "11.0.0.1:80", BYTES("\x00\x5a\x9c\x40\x0b\x00\x00\x09"),
	 BYTES(REQUEST4), PROTO_DONE, 0, 0, NULL, 0, false},
	{"version of the request in the reply", "", "11.0.0.1:80",
	 BYTES("\x04\x5a\x00\x00\x00\x00\x00\x00"), BYTES(REQUEST4), PROTO_DONE, 0, 0, NULL, 0,
	 false},

	{"nothing came", "", "11.0.0.1:80", BYTES(""), BYTES(REQUEST4), PROTO_MORE, 0, 0, NULL, 0,
	 false},
	{"cut", "", "11.0.0.1:80", BYTES("\x00\x5a\x00\x00\x00\x00\x00"), BYTES(REQUEST4),
	 PROTO_MORE, 7, 0, NULL, 0, false},
	{"closed", "", "11.0.0.1:80", BYTES("\x00"), BYTES(REQUEST4), PROTO_MORE, 1, 0,
	 "the upstream closed the connection during the handshake", BLAME_DEST, true},

	{"rejected", "", "11.0.0.1:80", BYTES("\x00\x5b\x00\x00\x00\x00\x00\x00"), BYTES(REQUEST4),
	 PROTO_FAIL, 6, 91, "request rejected or failed", BLAME_DEST, false},
	{"rejected, two bytes", "", "11.0.0.1:80", BYTES("\x00\x5b"), BYTES(REQUEST4), PROTO_FAIL,
	 0, 91, "request rejected or failed", BLAME_DEST, false},
	{"no identd", "", "11.0.0.1:80", BYTES("\x00\x5c"), BYTES(REQUEST4), PROTO_FAIL, 0, 92,
	 "the upstream asks for identd, which does not run here", BLAME_UPSTREAM, false},
	{"another user id", "", "11.0.0.1:80", BYTES("\x00\x5d"), BYTES(REQUEST4), PROTO_FAIL, 0,
	 93, "identd here reports another user id", BLAME_UPSTREAM, false},
	{"unknown code", "", "11.0.0.1:80", BYTES("\x00\x5e"), BYTES(REQUEST4), PROTO_FAIL, 0, 0,
	 "the upstream's reply has an unknown code", BLAME_UPSTREAM, false},
	{"HTTP", "", "11.0.0.1:80", BYTES("HTTP/1.1 400 Bad Request\r\n"), BYTES(REQUEST4),
	 PROTO_FAIL, 26, 0, OTHER, BLAME_UPSTREAM, false},
	{"SOCKS5", "", "11.0.0.1:80", BYTES("\x05\xff"), BYTES(REQUEST4), PROTO_FAIL, 2, 0, OTHER,
	 BLAME_UPSTREAM, false},
	{"empty name", "", "", BYTES(""), BYTES(""), PROTO_FAIL, 0, 0,
	 "SOCKS4a has no way to write this name", BLAME_DEST, false},
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		client_check(PROXY_SOCKS4A, "no password goes anywhere", &cases[i]);
}

/* It would end the name early, and what follows would be another request's. */
static void test_nul_in_a_name(void **state)
{
	struct client_run r = {.scheme = PROXY_SOCKS4A, .user = "", .password = ""};
	size_t n = 0;

	(void)state;
	r.dest = (struct proto_dest){.name = "a\0b", .name_len = 3, .port = 80};
	client_run(&r, (const uint8_t *)"", &n, 1);
	assert_int_equal(r.got.step, PROTO_FAIL);
	assert_int_equal(r.got.out_len, 0);
	assert_int_equal(r.got.blame, BLAME_DEST);
}

static void test_longest_request(void **state)
{
	struct client_run r = {.scheme = PROXY_SOCKS4A, .password = ""};
	char text[256];
	size_t n = 0;

	(void)state;
	memset(text, 'u', 255);
	text[255] = '\0';
	r.user = text;
	r.dest = (struct proto_dest){.name_len = 255, .port = 0x1234};
	memset(r.dest.name, 'n', 255);
	client_run(&r, (const uint8_t *)"", &n, 1);
	assert_int_equal(r.got.step, PROTO_MORE);
	assert_int_equal(r.got.out_len, SOCKS4_OUT_MAX);
	assert_memory_equal(r.got.out, "\x04\x01\x12\x34\0\0\0\x01u", 9);
	assert_memory_equal(r.got.out + 8 + 254, "u\0n", 3);
	assert_memory_equal(r.got.out + SOCKS4_OUT_MAX - 2, "n\0", 2);
}

/* The interface of a link-local address is this host's business. */
static void test_scope_stays_here(void **state)
{
	struct client_run r = {.scheme = PROXY_SOCKS4A, .user = "", .password = ""};
	size_t n = 0;

	(void)state;
	r.dest = client_dest("[fe80::1]:80");
	r.dest.addr.scope = 3;
	client_run(&r, (const uint8_t *)"", &n, 1);
	assert_int_equal(r.got.out_len, 9 + 8);
	assert_memory_equal(r.got.out + 9, "fe80::1", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_nul_in_a_name),
		cmocka_unit_test(test_longest_request),
		cmocka_unit_test(test_scope_stays_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
