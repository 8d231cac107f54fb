/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/proto/sniff.h"
#include "tests/unit/feed.h"

struct outcome {
	enum sniff_result result;
	enum sniff_protocol protocol;
	bool ech, to_proxy, tunnel;
	uint16_t to_port;
	const char *none;
	char name[NAME_MAX_LEN + 1];
	size_t read; /* how many bytes it took */
};

struct run {
	const struct outcome *want; /* NULL: keep what comes */
	struct outcome got;
};

static void run_pieces(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct run *r = ctx;
	struct outcome *got = &r->got;
	struct sniff s;

	memset(got, 0, sizeof(*got));
	memset(&s, 0xee, sizeof(s));
	sniff_init(&s);
	for (size_t i = 0; i < n_ends; i++) {
		/* Another copy of just what is there each time, so that sanitizers see each byte beyond, and
		 * each pointer into the last one. */
		uint8_t *in = malloc(ends[i] + 1); /* not cmocka's, which has guards behind */

		memcpy(in + 1, bytes, ends[i]);
		got->result = sniff_step(&s, in + 1, ends[i]);
		assert_int_equal(sniff_step(&s, in + 1, ends[i]), got->result);
		free(in);
		if (got->result != SNIFF_MORE)
			break;
		assert_int_equal(s.at, ends[i]);
	}
	got->protocol = s.protocol;
	got->read = s.at;
	got->ech = s.ech;
	got->to_proxy = s.to_proxy;
	got->tunnel = s.tunnel;
	got->to_port = s.to_port;
	if (got->result == SNIFF_FOUND) {
		memcpy(got->name, s.name, strlen(s.name));
	} else if (got->result == SNIFF_NONE) {
		got->none = s.none;
	}
	if (r->want != NULL)
		assert_memory_equal(got, r->want, sizeof(*got));
}

static void run_case(struct outcome *o, const void *bytes, size_t n)
{
	struct run whole = {.want = NULL}, pieces = {.want = &whole.got};

	run_pieces(&whole, bytes, &n, 1);
	feed_every_split(run_pieces, &pieces, bytes, n);
	*o = whole.got;
}

static void check(const char *what, const struct outcome *o, const char *name, const char *none)
{
	const char *got = o->result == SNIFF_FOUND  ? o->name
			  : o->result == SNIFF_NONE ? o->none
						    : "(more)";

	if (o->result != (name != NULL ? SNIFF_FOUND : none != NULL ? SNIFF_NONE : SNIFF_MORE))
		fail_msg("%s: %s", what, got);
	if (name != NULL || none != NULL)
		assert_string_equal(got, name != NULL ? name : none);
}

struct http_case {
	const char *in;
	size_t n;
	const char *name; /* or, where it is NULL, */
	const char *none; /* or, where that is NULL, too, more is wanted */
	int proxied;      /* 1: to_proxy; -1: it is not even known to be HTTP */
};

#define TEXT(s)   (s), sizeof(s) - 1
#define GET(h)    TEXT("GET / HTTP/1.1\r\n" h "\r\n")
#define HOST(h)   GET("Host: " h "\r\n")
#define TARGET(t) TEXT("GET " t " HTTP/1.1\r\nHost: other.example\r\n\r\n")
#define CONN(t)   TEXT("CONNECT " t " HTTP/1.1\r\nHost: other.example\r\n\r\n")

#define MALFORMED   "malformed request"
#define NOT_A_NAME  "not a domain name"
#define NEITHER     "not TLS or HTTP"
#define PRIOR       "HTTP/2 with prior knowledge"
#define DUPLICATE   "duplicate Host"
#define FOLDED      "a folded line"
#define EMPTY       "an empty host"
#define USER        "a user name before the host"
#define AN_ADDRESS  "an address"
#define L60         "abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghijklmnopqrstuv"
#define N253        L60 ".abc." L60 ".ab." L60 ".ab." L60
#define OTHER_FIELD "X-Other: some \t text; \"more\"\r\n"

static const struct http_case http_cases[] = {
	{HOST("www.example.com"), "www.example.com", NULL, 0},
	{HOST("WWW.Example.COM."), "www.example.com", NULL, 0},
	{HOST("www.example.com:8080"), "www.example.com", NULL, 0},
	{HOST("www.example.com:"), "www.example.com", NULL, 0},
	{HOST("www.example.com.:80"), "www.example.com", NULL, 0},
	{HOST(" \t www.example.com\t "), "www.example.com", NULL, 0},
	{HOST("xn--bcher-kva.example"), "xn--bcher-kva.example", NULL, 0},
	{HOST("localhost"), "localhost", NULL, 0},
	{GET("Host:www.example.com\r\n"), "www.example.com", NULL, 0},
	{GET("hOsT: www.example.com\r\n"), "www.example.com", NULL, 0},
	{GET(OTHER_FIELD "Host: a.example\r\n" OTHER_FIELD), "a.example", NULL, 0},
	{GET("X-Host: b.example\r\nHost: a.example\r\nHosts: c.example\r\nHos: d\r\n"), "a.example",
	 NULL, 0},
	{GET("Empty:\r\nHost: a.example\r\nCookie: \xc3\xbc\r\n"), "a.example", NULL, 0},
	{TEXT("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("GET / HTTP/1.1\nHost: a.example\n\n"), "a.example", NULL, 0},
	{TEXT("GET / HTTP/1.1\r\nHost: a.example\r\n\npayload"), "a.example", NULL, 0},
	{TEXT("\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("GET /a?b=c%20d HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("GET /\xc3\xbc HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("M-SEARCH * HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("get / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "a.example", NULL, 0},
	{TEXT("POST / HTTP/1.1\r\nHost: a.example\r\n\r\nHost: b.example\r\n\r\n"), "a.example",
	 NULL, 0},
	{HOST(N253 ":65535"), N253, NULL, 0},

	{TARGET("http://www.example.com/"), "www.example.com", NULL, 1},
	{TARGET("http://www.example.com"), "www.example.com", NULL, 1},
	{TARGET("HTTPS://WWW.example.com:8443/?a@b"), "www.example.com", NULL, 1},
	{TARGET("http://www.example.com?q"), "www.example.com", NULL, 1},
	{TARGET("http://www.example.com#f"), "www.example.com", NULL, 1},
	{TARGET("coap+tcp://www.example.com/"), "www.example.com", NULL, 1},
	{TEXT("GET http://a.example/ HTTP/1.0\r\n\r\n"), "a.example", NULL, 1},
	{TEXT("GET http://a.example/ HTTP/1.1\r\nHost: a b\r\n\r\n"), "a.example", NULL, 1},
	{CONN("www.example.com:443"), "www.example.com", NULL, 1},

	/* More is wanted. */
	{TEXT("G"), NULL, NULL, -1},
	{TEXT("\r"), NULL, NULL, -1},
	{TEXT("GET / HTTP/1."), NULL, NULL, 0},
	{TEXT("GET / HTTP/1.1\r\nHost: a.example\r\n"), NULL, NULL, 0},
	{TEXT("GET / HTTP/1.1\r\nHost: a.example\r\n\r"), NULL, NULL, 0},
	{TEXT("PRI * HTTP/"), NULL, NULL, -1},

	{HOST("192.0.2.1"), NULL, AN_ADDRESS, 0},
	{HOST("192.0.2.1:8080"), NULL, AN_ADDRESS, 0},
	{HOST("[2001:db8::1]"), NULL, AN_ADDRESS, 0},
	{HOST("[2001:db8::1]:80"), NULL, AN_ADDRESS, 0},
	{HOST("[2001:db8::1]80"), NULL, MALFORMED, 0},
	{HOST("[2001:db8::1"), NULL, MALFORMED, 0},
	{HOST("2001:db8::1"), NULL, MALFORMED, 0},
	{HOST("[fe80::1%25eth0]"), NULL, NOT_A_NAME, 0},
	{HOST("[v1.x]"), NULL, NOT_A_NAME, 0},
	{HOST("2130706433"), NULL, NOT_A_NAME, 0},
	{HOST("127.1"), NULL, NOT_A_NAME, 0},
	{HOST("a.example, b.example"), NULL, NOT_A_NAME, 0},
	{HOST("a.example b.example"), NULL, NOT_A_NAME, 0},
	{HOST("ex%61mple.com"), NULL, NOT_A_NAME, 0},
	{HOST("b\xc3\xbc"
	      "cher.example"),
	 NULL, NOT_A_NAME, 0},
	{HOST("*.example.com"), NULL, NOT_A_NAME, 0},
	{HOST("a.example/"), NULL, NOT_A_NAME, 0},
	{HOST("a..example"), NULL, NOT_A_NAME, 0},
	{HOST("x" N253), NULL, NOT_A_NAME, 0},
	{HOST("a.example:x"), NULL, MALFORMED, 0},
	{HOST("a.example:80:80"), NULL, MALFORMED, 0},
	{HOST("a.example:-1"), NULL, MALFORMED, 0},
	{HOST("a.example:65536"), NULL, MALFORMED, 0},
	{HOST("a.example:42949672960080"), NULL, MALFORMED, 0},
	{HOST("user@a.example"), NULL, USER, 0},
	{HOST(""), NULL, EMPTY, 0},
	{HOST(":80"), NULL, EMPTY, 0},
	{HOST("a.example\r\nHost: a.example"), NULL, DUPLICATE, 0},
	{HOST("a.example\r\n" OTHER_FIELD "HOST: b.example"), NULL, DUPLICATE, 0},
	{HOST("\r\nHost: b.example"), NULL, DUPLICATE, 0},
	{HOST("a.example\nHost: b.example"), NULL, DUPLICATE, 0},
	{HOST("a.example\r\n .b.example"), NULL, FOLDED, 0},
	{HOST("a.example\r\nCookie: a\r\n\tb"), NULL, FOLDED, 0},
	{GET(" Host: a.example\r\n"), NULL, FOLDED, 0},
	{GET("Host : a.example\r\n"), NULL, MALFORMED, 0},
	{GET("Host\t: a.example\r\n"), NULL, MALFORMED, 0},
	{GET("Other : x\r\nHost: a.example\r\n"), NULL, MALFORMED, 0},
	{GET(": x\r\nHost: a.example\r\n"), NULL, MALFORMED, 0},
	{GET("no colon\r\nHost: a.example\r\n"), NULL, MALFORMED, 0},
	{GET("Host\r\n"), NULL, MALFORMED, 0},
	{HOST("a.example\rHost: b.example"), NULL, MALFORMED, 0},
	{HOST("a.example\0.b.example"), NULL, MALFORMED, 0},
	{HOST("a.example\x7f"), NULL, MALFORMED, 0},
	{GET("Ho\0st: a.example\r\n"), NULL, MALFORMED, 0},
	{GET("Other: \x1b[2J\r\nHost: a.example\r\n"), NULL, MALFORMED, 0},
	{GET("\r\r\nHost: a.example\r\n"), NULL, MALFORMED, 0},
	{GET(""), NULL, "no Host", 0},
	{TEXT("GET / HTTP/1.0\r\n\r\n"), NULL, "no Host", 0},
	{GET(OTHER_FIELD), NULL, "no Host", 0},

	{TARGET("http:///"), NULL, EMPTY, 0},
	{TARGET("http://:80/"), NULL, EMPTY, 0},
	{TARGET("http://192.0.2.1/"), NULL, AN_ADDRESS, 0},
	{TARGET("http://[2001:db8::1]:80/"), NULL, AN_ADDRESS, 0},
	{TARGET("http://user@www.example.com/"), NULL, USER, 0},
	{TARGET("http://user:secret@www.example.com/"), NULL, USER, 0},
	{TARGET("http://a.example:80@b.example/"), NULL, USER, 0},
	{TARGET("http://www.example.com\\@b.example/"), NULL, USER, 0},
	{TARGET("http://a.example:x/"), NULL, MALFORMED, 0},
	{TEXT("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n"), NULL,
	 DUPLICATE, 0},
	{CONN("www.example.com"), NULL, MALFORMED, 0},
	{CONN("www.example.com:"), NULL, MALFORMED, 0},
	{CONN("192.0.2.1:443"), NULL, AN_ADDRESS, 0},
	{CONN("[2001:db8::1]:443"), NULL, AN_ADDRESS, 0},
	{CONN("user@www.example.com:443"), NULL, USER, 0},
	{CONN("/"), NULL, MALFORMED, 0},
	{CONN("http://a.example:443"), NULL, MALFORMED, 0},
	{CONN("a.example:443/b"), NULL, MALFORMED, 0},

	{TEXT("GET / HTTP/1x1\r\n"), NULL, MALFORMED, 0},
	{TEXT("GET / HTTP/1.x\r\n"), NULL, MALFORMED, 0},
	{TEXT("GET / HTTP/1.1 \r\n"), NULL, MALFORMED, 0},
	{TEXT("GET / HTTP/1.1\r\r\n"), NULL, MALFORMED, 0},
	{TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), NULL, PRIOR, -1},
	{TEXT("GET / HTTP/2.0\r\n"), NULL, NEITHER, -1},
	{TEXT("GET / HTTP/0.9\r\n"), NULL, NEITHER, -1},
	{TEXT("GET /\r\n"), NULL, NEITHER, -1},
	{TEXT("GET  / HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET\t/ HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET / http/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET a.example/ HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET http:/a.example/ HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET http://a.example\x01/ HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET *a HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("GET *aHTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("OPTIONS rtsp://a.example/ RTSP/1.0\r\n"), NULL, NEITHER, -1},
	{TEXT("connect a.example:443 HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("\r\n\r\nGET / HTTP/1.1\r\n"), NULL, NEITHER, -1},
	{TEXT("SSH-2.0-OpenSSH_9.2p1\r\n"), NULL, NEITHER, -1},
	{TEXT("EHLO a.example\r\n"), NULL, NEITHER, -1},
	{TEXT("*1\r\n$4\r\nPING\r\n"), NULL, NEITHER, -1},
	{TEXT("\0\0\0\x08\x04\xd2\x16\x2f"), NULL, NEITHER, -1},
	{TEXT("\x80\x2e\x01\x03\x01"), NULL, NEITHER, -1},
	{TEXT("\x03\0\0\x13\x0e\xe0"), NULL, NEITHER, -1},
};

static void http(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(http_cases); i++) {
		const struct http_case *c = &http_cases[i];
		struct outcome o;

		run_case(&o, c->in, c->n);
		check(c->in, &o, c->name, c->none);
		assert_int_equal(o.protocol, c->proxied < 0 ? SNIFF_UNKNOWN : SNIFF_HTTP);
		assert_int_equal(o.to_proxy, c->proxied > 0);
		assert_int_equal(o.tunnel, c->proxied > 0 && strncmp(c->in, "CONNECT ", 8) == 0);
		assert_false(o.ech);
	}
}

static void ports(void **state)
{
	static const struct {
		const char *in;
		uint16_t port;
	} cases[] = {
		{"GET http://a.example/ HTTP/1.1\r\n\r\n", 80},
		{"GET http://a.example:/ HTTP/1.1\r\n\r\n", 80},
		{"GET HTTPS://a.example HTTP/1.1\r\n\r\n", 443},
		{"GET http://a.example:8080/ HTTP/1.1\r\n\r\n", 8080},
		{"GET https://a.example:65535?q HTTP/1.1\r\n\r\n", 65535},
		{"GET ftp://a.example/ HTTP/1.1\r\n\r\n", 0},
		{"GET ftp://a.example:21/ HTTP/1.1\r\n\r\n", 21},
		{"GET httpx://a.example/ HTTP/1.1\r\n\r\n", 0},
		{"CONNECT a.example:443 HTTP/1.1\r\n\r\n", 443},
		{"GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct outcome o;

		run_case(&o, cases[i].in, strlen(cases[i].in));
		check(cases[i].in, &o, "a.example", NULL);
		assert_int_equal(o.to_port, cases[i].port);
	}
}

/* Other protocols are let go at their first byte that is neither. */
static void early(void **state)
{
	static const struct {
		const char *in;
		size_t read;
	} cases[] = {
		{"\x80\x2e\x01", 1},
		{"\x13", 1},
		{"<?xml", 1},
		{"\x16\x02", 2},
		{"\x16\x03\x01\x50", 5},
		{"SSH-2.0-OpenSSH_9.2p1\r\n", 22},
		{"PRI * HTTP/2.0\r\n", 12},
		{"GET / FTP/1.0\r\n", 7},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct outcome o;

		run_case(&o, cases[i].in, strlen(cases[i].in) + 1);
		assert_int_equal(o.result, SNIFF_NONE);
		assert_int_equal(o.read, cases[i].read);
	}
}

/* In one piece, in two that end at each `step`th byte, and with `step` 1 byte by byte, too. */
static void run_long(struct outcome *o, const uint8_t *bytes, size_t n, size_t step)
{
	static size_t each[SNIFF_BYTES_MAX];
	struct run whole = {.want = NULL}, pieces = {.want = &whole.got};

	run_pieces(&whole, bytes, &n, 1);
	for (size_t i = 1; i < n; i += step)
		run_pieces(&pieces, bytes, (size_t[]){i, n}, 2);
	run_pieces(&pieces, bytes, (size_t[]){n - 1, n}, 2);
	if (step == 1 && n <= ARRAY_LEN(each)) {
		for (size_t i = 0; i < n; i++)
			each[i] = i + 1;
		run_pieces(&pieces, bytes, each, n);
	}
	*o = whole.got;
}

#define SAMPLES "tests/data/hello/"

static size_t read_sample(const char *file, uint8_t *bytes, size_t cap)
{
	char path[256];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), SAMPLES "%s", file);
	f = fopen(path, "r");
	if (f == NULL)
		fail_msg("%s is missing", path);
	n = fread(bytes, 1, cap, f);
	fclose(f);
	assert_in_range(n, 1, cap - 1);
	return n;
}

/* A row of the table: file, result, protocol, flags, name or reason. */
static void check_sample(char *row)
{
	static uint8_t bytes[16 * 1024];
	char *rest = NULL;
	const char *file = strtok_r(row, "|", &rest);
	const char *result = strtok_r(NULL, "|", &rest);
	const char *protocol = strtok_r(NULL, "|", &rest);
	const char *flags = strtok_r(NULL, "|", &rest);
	const char *text = strtok_r(NULL, "\n", &rest);
	bool found = strcmp(result, "found") == 0, none = strcmp(result, "none") == 0;
	size_t n = read_sample(file, bytes, sizeof(bytes));
	struct outcome o;

	run_long(&o, bytes, n, 1);
	check(file, &o, found ? text : NULL, none ? text : NULL);
	if (o.protocol != (strcmp(protocol, "tls") == 0    ? SNIFF_TLS
			   : strcmp(protocol, "http") == 0 ? SNIFF_HTTP
							   : SNIFF_UNKNOWN))
		fail_msg("%s: protocol %d", file, o.protocol);
	if (o.ech != (strcmp(flags, "ech") == 0) || o.to_proxy != (strcmp(flags, "to-proxy") == 0))
		fail_msg("%s: ech %d, to_proxy %d", file, o.ech, o.to_proxy);
}

static void samples(void **state)
{
	char row[512];
	size_t n = 0;
	FILE *f = fopen(SAMPLES "table", "r");

	(void)state;
	assert_non_null(f);
	while (fgets(row, sizeof(row), f) != NULL) {
		if (row[0] == '#')
			continue;
		check_sample(row);
		n++;
	}
	fclose(f);
	assert_in_range(n, 100, SIZE_MAX);
}

static size_t put16(uint8_t *out, size_t value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
	return 2;
}

/* A ClientHello message of `len` bytes: padded (RFC 7685) to that. Cut into records of `record_len`. */
static size_t put_hello(uint8_t *out, size_t len, size_t record_len)
{
	static const char name[] = "\0\0\0\x0e\0\x0c\0\0\x09"
				   "a.example";
	static uint8_t message[20000];
	size_t n = 4 + 2 + 32, put = 0;

	memset(message, 0, sizeof(message));
	message[0] = 1;
	put16(message + 2, len - 4);
	n += 1; /* no session */
	n += put16(message + n, 2) + 2;
	message[n] = 1;
	n += 2;
	n += put16(message + n, len - n - 2);
	memcpy(message + n, name, sizeof(name) - 1);
	n += sizeof(name) - 1;
	n += put16(message + n, 21);
	put16(message + n, len - n - 2);
	for (size_t at = 0; at < len; at += record_len) {
		size_t part = len - at < record_len ? len - at : record_len;

		memcpy(out + put, "\x16\x03\x01", 3);
		put += 3 + put16(out + put + 3, part);
		memcpy(out + put, message + at, part);
		put += part;
	}
	return put;
}

static void large_hellos(void **state)
{
	static const struct {
		size_t len, record_len;
		const char *name, *none;
	} cases[] = {
		{16384, 16384, "a.example", NULL},
		{16388, 8194, "a.example", NULL},
		{16388, 1000, "a.example", NULL},
		{16388, 6, "a.example", NULL},
		{16388, 5, NULL, "too many bytes"},
		{16388, 16388, NULL, NEITHER},
		{16389, 1000, NULL, "a ClientHello of more than 16 KiB"},
		{4000, 1, "a.example", NULL},
		{5461, 1, "a.example", NULL},
		{5462, 1, NULL, "too many bytes"},
	};
	static uint8_t bytes[6 * 20000];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t n = put_hello(bytes, cases[i].len, cases[i].record_len);
		struct outcome o;
		char what[64];

		snprintf(what, sizeof(what), "%zu in records of %zu", cases[i].len,
			 cases[i].record_len);
		run_long(&o, bytes, n, 97);
		check(what, &o, cases[i].name, cases[i].none);
		if (cases[i].name != NULL) {
			run_long(&o, bytes, n - 1, 997);
			check(what, &o, NULL, NULL);
		}
	}
}

static void bounds(void **state)
{
	static uint8_t bytes[SNIFF_BYTES_MAX + 100];
	static const char begin[] = "GET / HTTP/1.1\r\nHost: a.example\r\nPad: ";
	struct outcome o;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, begin, sizeof(begin) - 1);
	run_long(&o, bytes, SNIFF_BYTES_MAX - 1, 997);
	check("one less", &o, NULL, NULL);
	run_long(&o, bytes, SNIFF_BYTES_MAX, 997);
	check("as many", &o, NULL, "too many bytes");
	run_long(&o, bytes, sizeof(bytes), 997);
	check("more", &o, NULL, "too many bytes");
	assert_int_equal(o.read, SNIFF_BYTES_MAX);
	memcpy(bytes + SNIFF_BYTES_MAX - 3, "\r\n\r\n", 4);
	run_long(&o, bytes, sizeof(bytes), 997);
	check("the last byte is beyond", &o, NULL, "too many bytes");
	memcpy(bytes + SNIFF_BYTES_MAX - 4, "\r\n\r\n", 4);
	run_long(&o, bytes, sizeof(bytes), 997);
	check("just enough", &o, "a.example", NULL);
	memset(bytes, 'G', sizeof(bytes));
	run_long(&o, bytes, sizeof(bytes), 997);
	check("no line at all", &o, NULL, "too many bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http),    cmocka_unit_test(ports),        cmocka_unit_test(early),
		cmocka_unit_test(samples), cmocka_unit_test(large_hellos), cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
