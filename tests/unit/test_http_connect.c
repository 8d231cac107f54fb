/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "tests/unit/client_feed.h"

#define CONNECT(authority)  "CONNECT " authority " HTTP/1.1\r\nHost: " authority "\r\n"
#define REQUEST4            CONNECT("11.0.0.1:80") "\r\n"
#define BOB                 "Proxy-Authorization: Basic Ym9iOnNlY3JldA==\r\n"
#define OK                  "HTTP/1.1 200 OK\r\n\r\n"
#define OTHER               "the upstream does not speak HTTP"
#define MALFORMED           "the upstream's status line is malformed"
#define CLOSED              "the upstream closed the connection during the handshake"
#define DENIED              "407 Proxy Authentication Required"
#define ASKS                "HTTP/1.1 407 Who?\r\nProxy-Authenticate: "
#define ONLY_BASIC(scheme)  DENIED ": the upstream asks for " scheme ", and only Basic is served"
#define IN(bytes)           "", "11.0.0.1:80", BYTES(bytes), BYTES(REQUEST4)
#define IN_BOB(bytes)       "bob", "11.0.0.1:80", BYTES(bytes), BYTES(CONNECT("11.0.0.1:80") BOB "\r\n")
#define IS_DONE(payload)    PROTO_DONE, payload, 0, NULL, 0, false
#define WANTS_MORE(payload) PROTO_MORE, payload, 0, NULL, 0, false

static const struct client_case cases[] = {
	{"IPv4", IN(OK), IS_DONE(0)},
	{"IPv6", "", "[2a00:1::7]:8080", BYTES(OK), BYTES(CONNECT("[2a00:1::7]:8080") "\r\n"),
	 IS_DONE(0)},
	{"name", "", "host.lan", BYTES(OK), BYTES(CONNECT("host.lan:443") "\r\n"), IS_DONE(0)},
	{"user", IN_BOB(OK), IS_DONE(0)},
	{"user of one letter", "u", "11.0.0.1:80", BYTES(OK),
	 BYTES(CONNECT("11.0.0.1:80") "Proxy-Authorization: Basic dTpzZWNyZXQ=\r\n\r\n"),
	 IS_DONE(0)},
	{"user of two letters", "ub", "11.0.0.1:80", BYTES(OK),
	 BYTES(CONNECT("11.0.0.1:80") "Proxy-Authorization: Basic dWI6c2VjcmV0\r\n\r\n"),
	 IS_DONE(0)},
	{"payload", IN(OK "\r\nSSH-2.0"), IS_DONE(9)},
	{"fields", IN("HTTP/1.1 200 Connection established\r\nA: b\r\n c\r\nVia: x\r\n\r\n."),
	 IS_DONE(1)},
	{"lengths mean nothing",
	 IN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello"),
	 IS_DONE(5)},
	{"bare LF", IN("HTTP/1.1 200 OK\nA: b\n\nx"), IS_DONE(1)},
	{"LF and CR LF", IN("HTTP/1.1 200 OK\r\nA: b\n\r\n\n"), IS_DONE(1)},
	{"HTTP/1.0, no reason", IN("HTTP/1.0 200\r\n\r\n"), IS_DONE(0)},
	{"empty reason", IN("HTTP/1.1 200 \r\n\r\n"), IS_DONE(0)},
	{"another 2xx", IN("HTTP/1.1 204 No Content\r\n\r\n!"), IS_DONE(1)},
	{"299", IN("HTTP/1.1 299 x\r\n\r\n"), IS_DONE(0)},
	{"1xx first", IN("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\n" OK "z"),
	 IS_DONE(1)},

	{"nothing came", IN(""), WANTS_MORE(0)},
	{"cut in the version", IN("HTTP/1"), WANTS_MORE(6)},
	{"cut in the status line", IN("HTTP/1.1 200 OK"), WANTS_MORE(15)},
	{"cut before the status line's end", IN("HTTP/1.1 403 No\r"), WANTS_MORE(16)},
	{"cut in the fields", IN("HTTP/1.1 200 OK\r\nA: b\r\n\r"), WANTS_MORE(1)},
	{"cut after a 1xx", IN("HTTP/1.1 100 x\r\n\r\n"), WANTS_MORE(0)},
	{"closed at once", IN(""), PROTO_MORE, 0, 0, CLOSED, BLAME_DEST, true},
	{"closed in the fields", IN("HTTP/1.1 200 OK\r\n"), PROTO_MORE, 0, 0, CLOSED, BLAME_DEST,
	 true},

	{"SOCKS5", IN("\x05\xff"), PROTO_FAIL, 2, 0, OTHER, BLAME_UPSTREAM, false},
	{"TLS", IN("\x15\x03\x01\x00\x02\x02\x46"), PROTO_FAIL, 7, 0, OTHER, BLAME_UPSTREAM, false},
	{"SSH", IN("SSH-2.0-x\r\n"), PROTO_FAIL, 11, 0, OTHER, BLAME_UPSTREAM, false},
	{"HTTP/2", IN("HTTP/2 200\r\n\r\n"), PROTO_FAIL, 14, 0, OTHER, BLAME_UPSTREAM, false},
	{"empty line first", IN("\r\n" OK), PROTO_FAIL, 21, 0, OTHER, BLAME_UPSTREAM, false},
	{"no number", IN("HTTP/1.1 abc x\r\n\r\n"), PROTO_FAIL, 2, 0, MALFORMED, BLAME_UPSTREAM,
	 false},
	{"two digits", IN("HTTP/1.1 20\r\n"), PROTO_FAIL, 0, 0, MALFORMED, BLAME_UPSTREAM, false},
	{"four digits", IN("HTTP/1.1 2000 x\r\n"), PROTO_FAIL, 0, 0, MALFORMED, BLAME_UPSTREAM,
	 false},
	{"status below 100", IN("HTTP/1.1 099 x\r\n"), PROTO_FAIL, 0, 0, MALFORMED, BLAME_UPSTREAM,
	 false},
	{"no space", IN("HTTP/1.1\t200 OK\r\n"), PROTO_FAIL, 0, 0, MALFORMED, BLAME_UPSTREAM,
	 false},
	{"no minor version", IN("HTTP/1. 200 OK\r\n"), PROTO_FAIL, 0, 0, MALFORMED, BLAME_UPSTREAM,
	 false},
	{"NUL in the status", IN("HTTP/1.1 20\0 OK\r\n"), PROTO_FAIL, 0, 0, MALFORMED,
	 BLAME_UPSTREAM, false},
	{"status line of nothing", IN("HTTP/1.\n"), PROTO_FAIL, 0, 0, MALFORMED, BLAME_UPSTREAM,
	 false},

	{"403", IN("HTTP/1.1 403 Filtered\r\nServer: x\r\n\r\n<html>"), PROTO_FAIL, 19, 403,
	 "403 Forbidden", BLAME_POLICY, false},
	{"502", IN("HTTP/1.0 502 \r\n"), PROTO_FAIL, 0, 502, "502 Bad Gateway", BLAME_DEST, false},
	{"101", IN("HTTP/1.1 101 x\r\n"), PROTO_FAIL, 0, 101, "101 Switching Protocols",
	 BLAME_UPSTREAM, false},
	{"refused after a 1xx", IN("HTTP/1.1 102 x\r\n\r\nHTTP/1.1 504 x\r\n"), PROTO_FAIL, 0, 504,
	 "504 Gateway Timeout", BLAME_DEST, false},

	{"407, Basic, no user", IN(ASKS "Basic realm=\"x\"\r\n\r\n."), PROTO_FAIL, 1, 407,
	 DENIED ": the upstream asks for Basic, and no user is configured", BLAME_UPSTREAM, false},
	{"407, Basic, user", IN_BOB(ASKS "Basic realm=\"x\"\r\n\r\n"), PROTO_FAIL, 0, 407,
	 DENIED ": the user name or password is not accepted", BLAME_UPSTREAM, false},
	{"407, Digest", IN(ASKS "Digest realm=\"Basic , Basic \\\", Basic \"\r\n\r\n"), PROTO_FAIL,
	 0, 407, ONLY_BASIC("Digest"), BLAME_UPSTREAM, false},
	{"407, two schemes", IN_BOB(ASKS "NTLM\r\nproxy-authenticate:Negotiate\n\n"), PROTO_FAIL, 0,
	 407, ONLY_BASIC("NTLM"), BLAME_UPSTREAM, false},
	{"407, Basic among others", IN_BOB(ASKS "Negotiate , \tbAsIc realm=x\r\n\r\n"), PROTO_FAIL,
	 0, 407, DENIED ": the user name or password is not accepted", BLAME_UPSTREAM, false},
	{"407, another field", IN(ASKS "Basics\r\nWWW-Authenticate: Basic\r\n\r\n"), PROTO_FAIL, 0,
	 407, DENIED, BLAME_UPSTREAM, false},
	{"407, nothing asked for", IN("HTTP/1.1 407 x\r\n\r\n"), PROTO_FAIL, 0, 407, DENIED,
	 BLAME_UPSTREAM, false},
	{"407, cut", IN(ASKS "Basic"), WANTS_MORE(25)},
	{"407, closed in the fields", IN(ASKS "Bearer x\r\nA:"), PROTO_MORE, 2, 407,
	 ONLY_BASIC("Bearer"), BLAME_UPSTREAM, true},

	{"empty name", "", "", BYTES(""), BYTES(""), PROTO_FAIL, 0, 0,
	 "HTTP has no way to write this name", BLAME_DEST, false},
	{"a name that is a field", "", "a\r\nX: b", BYTES(""), BYTES(""), PROTO_FAIL, 0, 0,
	 "HTTP has no way to write this name", BLAME_DEST, false},
	{"a name with a port", "", "a:1", BYTES(""), BYTES(""), PROTO_FAIL, 0, 0,
	 "HTTP has no way to write this name", BLAME_DEST, false},
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		client_check(PROXY_HTTP, "secret", &cases[i]);
}

/* Every status is an answer; what it counts as is in RFC 9110 section 15. */
static void test_every_status(void **state)
{
	(void)state;
	for (unsigned status = 100; status <= 999; status++) {
		struct client_run r = {.scheme = PROXY_HTTP, .user = "", .password = ""};
		char line[40];
		size_t n = (size_t)snprintf(line, sizeof(line), "HTTP/1.1 %u x\r\n\r\n", status);

		r.dest = client_dest("host.lan");
		client_run(&r, (const uint8_t *)line, &n, 1);
		if (status / 100 == 2) {
			assert_int_equal(r.got.step, PROTO_DONE);
		} else if (status / 100 == 1 && status != 101) {
			assert_int_equal(r.got.step, PROTO_MORE);
		} else {
			assert_int_equal(r.got.step, PROTO_FAIL);
			assert_int_equal(r.got.reply, status);
			assert_non_null(r.got.error);
		}
		if (status / 100 == 3)
			assert_int_equal(r.got.blame, BLAME_POLICY);
		else if (status >= 512)
			assert_int_equal(r.got.blame, BLAME_DEST);
	}
}

/* `head` bytes of answer, the last two of which are CR LF if it ends at all. */
static enum proto_step answer_of(struct client_run *r, const char *status, size_t head, bool ends)
{
	uint8_t bytes[2 * HTTP_CONNECT_HEAD_MAX];
	size_t at = strlen(status), n = head + 1;

	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, status, at);
	if (ends)
		memcpy(bytes + head - 4, "\r\n\r\n", 4);
	bytes[head] = '!';
	client_run(r, bytes, &n, 1);
	r->want = NULL;
	return r->got.step;
}

static void test_long_heads(void **state)
{
	struct client_run r = {.scheme = PROXY_HTTP, .user = "", .password = ""};
	static const char ok[] = "HTTP/1.1 200 OK\r\nA: ", denied[] = "HTTP/1.1 407 No\r\nA: ";
	static const char endless[] = "the upstream's answer has no end within 8 KiB";

	(void)state;
	r.dest = client_dest("host.lan");
	assert_int_equal(answer_of(&r, ok, HTTP_CONNECT_HEAD_MAX, true), PROTO_DONE);
	assert_int_equal(r.got.consumed, HTTP_CONNECT_HEAD_MAX);
	assert_int_equal(answer_of(&r, ok, HTTP_CONNECT_HEAD_MAX + 1, true), PROTO_FAIL);
	assert_string_equal(r.got.error, endless);
	assert_int_equal(answer_of(&r, ok, HTTP_CONNECT_HEAD_MAX - 1, false), PROTO_FAIL);
	assert_int_equal(answer_of(&r, ok, HTTP_CONNECT_HEAD_MAX - 2, false), PROTO_MORE);
	assert_int_equal(answer_of(&r, "HTTP/1.1 200 ", HTTP_CONNECT_HEAD_MAX, false), PROTO_FAIL);
	assert_string_equal(r.got.error, endless);
	/* What is known already is told. */
	assert_int_equal(answer_of(&r, denied, HTTP_CONNECT_HEAD_MAX, false), PROTO_FAIL);
	assert_int_equal(r.got.reply, 407);
}

/* 1xx may come without end; each is small. */
static void test_endless_1xx(void **state)
{
	struct client_run r = {.scheme = PROXY_HTTP, .user = "", .password = ""};
	static const char one[] = "HTTP/1.1 100 x\r\n\r\n";
	char all[HTTP_CONNECT_HEAD_MAX + sizeof(one)];
	size_t n = 0;

	(void)state;
	r.dest = client_dest("host.lan");
	for (; n + sizeof(one) <= sizeof(all); n += sizeof(one) - 1)
		memcpy(all + n, one, sizeof(one));
	client_run(&r, (const uint8_t *)all, &n, 1);
	assert_int_equal(r.got.step, PROTO_FAIL);
	assert_true(r.got.consumed <= HTTP_CONNECT_HEAD_MAX);
}

static void test_longest_request(void **state)
{
	struct client_run r = {.scheme = PROXY_HTTP};
	char text[256];
	size_t n = 0;

	(void)state;
	memset(text, 'u', 255);
	text[255] = '\0';
	r.user = r.password = text;
	r.dest = (struct proto_dest){.name_len = 255, .port = 65535};
	memset(r.dest.name, 'n', 255);
	client_run(&r, (const uint8_t *)"", &n, 1);
	assert_int_equal(r.got.step, PROTO_MORE);
	assert_true(r.got.out_len > HTTP_CONNECT_OUT_MAX - 20);
	assert_memory_equal(r.got.out + r.got.out_len - 4, "\r\n\r\n", 4);
}

static void test_odd_names(void **state)
{
	struct client_run r = {.scheme = PROXY_HTTP, .user = "", .password = ""};
	size_t n = 0;

	(void)state;
	r.dest = (struct proto_dest){.name = "a\0b", .name_len = 3, .port = 80};
	client_run(&r, (const uint8_t *)"", &n, 1);
	assert_int_equal(r.got.step, PROTO_FAIL);
	assert_int_equal(r.got.out_len, 0);
	r.dest = client_dest("[fe80::1]:80");
	r.dest.addr.scope = 3; /* this host's business */
	client_run(&r, (const uint8_t *)"", &n, 1);
	assert_memory_equal(r.got.out, "CONNECT [fe80::1]:80 HTTP", 25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),           cmocka_unit_test(test_every_status),
		cmocka_unit_test(test_long_heads),      cmocka_unit_test(test_endless_1xx),
		cmocka_unit_test(test_longest_request), cmocka_unit_test(test_odd_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
