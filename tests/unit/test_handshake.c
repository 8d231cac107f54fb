/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "daemon/upstream/handshake.h"
#include "tests/unit/client_feed.h"

#define GREETING "\x05\x01\x00"
#define REQUEST  "\x05\x01\x00\x03\x08host.lan\x01\xbb"
#define REPLY    "\x05\x00\x00\x01\x0b\x00\x00\x09\x9c\x40"
#define HTTP     "CONNECT host.lan:443 HTTP/1.1\r\nHost: host.lan:443\r\n\r\n"

static const uint8_t header[] = "PROXY, or what stands for it";
#define HEADER_LEN (sizeof(header) - 1)

/* Both ends of a connection to an upstream; the test is the upstream. */
struct wire {
	int ours, theirs;
	bool readable;
	struct buf in;
	struct proxy_url url;
	struct handshake h;
	struct proto_dest dest;
};

static void wire_open_as(struct wire *w, enum proxy_scheme scheme, int type)
{
	int fds[2];

	memset(w, 0, sizeof(*w));
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	w->ours = fds[0];
	w->theirs = fds[1];
	w->url.scheme = scheme;
	w->dest = client_dest("host.lan");
}

static void wire_open(struct wire *w, enum proxy_scheme scheme)
{
	wire_open_as(w, scheme, SOCK_STREAM);
}

static void wire_close(struct wire *w)
{
	close(w->ours);
	if (w->theirs >= 0)
		close(w->theirs);
}

static void wire_say(struct wire *w, const uint8_t *bytes, size_t n)
{
	assert_int_equal(send(w->theirs, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
	w->readable = true;
}

/* What the upstream got is just that. */
static void wire_heard(struct wire *w, const uint8_t *bytes, size_t n)
{
	uint8_t got[2048];
	ssize_t r = recv(w->theirs, got, sizeof(got), 0);

	assert_int_equal(r < 0 ? 0 : r, n);
	if (n > 0)
		assert_memory_equal(got, bytes, n);
}

static enum handshake_result wire_step(struct wire *w)
{
	return handshake_step(&w->h, w->ours, &w->in, &w->readable, false);
}

static void test_header_goes_with_the_greeting(void **state)
{
	struct wire w;

	(void)state;
	wire_open_as(&w, PROXY_SOCKS5, SOCK_SEQPACKET); /* each send(2) is one message */
	handshake_start(&w.h, &w.url, header, HEADER_LEN, false);
	handshake_dest(&w.h, &w.dest);
	assert_true(w.h.begun);
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	wire_heard(&w, BYTES("PROXY, or what stands for it" GREETING));
	assert_true(handshake_greeting(&w.h));
	wire_say(&w, BYTES("\x05\x00"));
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	assert_false(handshake_greeting(&w.h));
	wire_heard(&w, BYTES(REQUEST));
	wire_say(&w, BYTES(REPLY "hello"));
	assert_int_equal(wire_step(&w), HANDSHAKE_DONE);
	assert_int_equal(w.in.len, 5);
	assert_memory_equal(buf_head(&w.in), "hello", 5);
	wire_close(&w);
}

static void test_one_flight(void **state)
{
	struct wire w;

	(void)state;
	wire_open(&w, PROXY_SOCKS5);
	handshake_start(&w.h, &w.url, header, HEADER_LEN, true);
	handshake_dest(&w.h, &w.dest);
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	wire_heard(&w, BYTES("PROXY, or what stands for it" GREETING REQUEST));
	wire_close(&w);
}

/* A warm connection: greeted without a destination, moved, and taken later. */
static void test_ready(void **state)
{
	struct handshake moved;
	struct wire w;

	(void)state;
	wire_open(&w, PROXY_SOCKS5);
	strcpy(w.url.user, "bob");
	strcpy(w.url.password, "secret");
	handshake_start(&w.h, &w.url, NULL, 0, false);
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	wire_heard(&w, BYTES("\x05\x02\x00\x02"));
	wire_say(&w, BYTES("\x05\x02"));
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	wire_heard(&w, BYTES("\x01\x03"
			     "bob\x06secret"));
	wire_say(&w, BYTES("\x01\x00"));
	assert_int_equal(wire_step(&w), HANDSHAKE_READY);
	assert_int_equal(wire_step(&w), HANDSHAKE_READY);
	wire_heard(&w, NULL, 0);
	moved = w.h;
	memset(&w.h, 0xff, sizeof(w.h));
	w.h = moved;
	memset(&moved, 0xff, sizeof(moved));
	handshake_dest(&w.h, &w.dest);
	memset(&w.dest, 0xff, sizeof(w.dest));
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	wire_heard(&w, BYTES(REQUEST));
	wire_say(&w, BYTES(REPLY));
	assert_int_equal(wire_step(&w), HANDSHAKE_DONE);
	wire_close(&w);
}

/* What has no greeting is ready at once, its header sent. */
static void test_ready_without_greeting(void **state)
{
	static const enum proxy_scheme schemes[] = {PROXY_SOCKS4A, PROXY_HTTP};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		struct wire w;

		wire_open(&w, schemes[i]);
		handshake_start(&w.h, &w.url, header, HEADER_LEN, false);
		assert_false(handshake_greeting(&w.h));
		assert_int_equal(wire_step(&w), HANDSHAKE_READY);
		wire_heard(&w, header, HEADER_LEN);
		handshake_dest(&w.h, &w.dest);
		assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
		if (schemes[i] == PROXY_HTTP) {
			wire_heard(&w, BYTES(HTTP));
			wire_say(&w, BYTES("HTTP/1.1 200 OK\r\n\r\n"));
		} else {
			wire_heard(&w, BYTES("\x04\x01\x01\xbb\0\0\0\x01\0host.lan\0"));
			wire_say(&w, BYTES("\0\x5a\0\0\0\0\0\0"));
		}
		assert_int_equal(wire_step(&w), HANDSHAKE_DONE);
		assert_int_equal(w.in.len, 0);
		wire_close(&w);
	}
}

static void test_socket_takes_little(void **state)
{
	static uint8_t fill[1 << 20];
	static uint8_t got[1 << 20];
	struct wire w;
	ssize_t before = 0, n;

	(void)state;
	wire_open(&w, PROXY_HTTP);
	while ((n = send(w.ours, fill, sizeof(fill), MSG_NOSIGNAL)) > 0)
		before += n;
	handshake_start(&w.h, &w.url, header, HEADER_LEN, false);
	handshake_dest(&w.h, &w.dest);
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	while (before > 0 &&
	       (n = recv(w.theirs, got, (size_t)before < sizeof(got) ? (size_t)before : sizeof(got),
			 0)) > 0)
		before -= n;
	assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
	wire_heard(&w, BYTES("PROXY, or what stands for it" HTTP));
	wire_close(&w);
}

struct failure {
	enum proxy_scheme scheme;
	const uint8_t *in;
	size_t in_len;
	enum handshake_result result;
	unsigned reply;
	enum proto_blame blame;
	bool refused_user;
};

/* All that comes, then FIN. */
static const struct failure failures[] = {
	{PROXY_SOCKS5, BYTES(""), HANDSHAKE_CLOSED, 0, BLAME_UPSTREAM, false},
	{PROXY_SOCKS5, BYTES("\x05"), HANDSHAKE_CLOSED, 0, BLAME_UPSTREAM, false},
	{PROXY_SOCKS5, BYTES("\x05\xff"), HANDSHAKE_BAD, 0, BLAME_UPSTREAM, true},
	{PROXY_SOCKS5, BYTES("\x05\x00"), HANDSHAKE_CLOSED, 0, BLAME_DEST, false},
	{PROXY_SOCKS5, BYTES("\x05\x00\x05\x05"), HANDSHAKE_REFUSED, 5, BLAME_DEST, false},
	{PROXY_SOCKS5, BYTES("\x05\x00\x05\x02"), HANDSHAKE_REFUSED, 2, BLAME_POLICY, false},
	{PROXY_SOCKS5, BYTES("\x05\x00\x05\x07"), HANDSHAKE_REFUSED, 7, BLAME_UPSTREAM, false},
	{PROXY_SOCKS5, BYTES("\x05\x00\x04\x00"), HANDSHAKE_BAD, 0, BLAME_UPSTREAM, false},
	{PROXY_SOCKS4A, BYTES(""), HANDSHAKE_CLOSED, 0, BLAME_DEST, false},
	{PROXY_SOCKS4A, BYTES("\0\x5b"), HANDSHAKE_REFUSED, 91, BLAME_DEST, false},
	{PROXY_SOCKS4A, BYTES("\0\x5d"), HANDSHAKE_REFUSED, 93, BLAME_UPSTREAM, false},
	{PROXY_SOCKS4A, BYTES("\x05\xff"), HANDSHAKE_BAD, 0, BLAME_UPSTREAM, false},
	{PROXY_HTTP, BYTES("HTTP/1.1 200 OK\r\n"), HANDSHAKE_CLOSED, 0, BLAME_DEST, false},
	{PROXY_HTTP, BYTES("HTTP/1.1 503 x\r\n"), HANDSHAKE_REFUSED, 503, BLAME_DEST, false},
	/* The status is known, although its fields never end. */
	{PROXY_HTTP, BYTES("HTTP/1.1 407 x\r\n"), HANDSHAKE_REFUSED, 407, BLAME_UPSTREAM, true},
	{PROXY_HTTP, BYTES("SSH-2.0-x\r\n"), HANDSHAKE_BAD, 0, BLAME_UPSTREAM, false},
};

static void test_failures(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		const struct failure *f = &failures[i];
		enum handshake_result r;
		struct wire w;

		print_message("case: %zu\n", i);
		wire_open(&w, f->scheme);
		handshake_start(&w.h, &w.url, NULL, 0, false);
		handshake_dest(&w.h, &w.dest);
		assert_int_equal(wire_step(&w), HANDSHAKE_WAIT);
		wire_say(&w, f->in, f->in_len);
		shutdown(w.theirs, SHUT_WR);
		do {
			w.readable = true;
			r = wire_step(&w);
		} while (r == HANDSHAKE_WAIT);
		assert_int_equal(r, f->result);
		assert_int_equal(w.h.reply, f->reply);
		assert_int_equal(w.h.blame, f->blame);
		assert_int_equal(w.h.refused_user, f->refused_user);
		assert_non_null(w.h.error);
		wire_close(&w);
	}
}

static void test_broken_socket(void **state)
{
	struct wire w;

	(void)state;
	wire_open(&w, PROXY_SOCKS5);
	handshake_start(&w.h, &w.url, NULL, 0, false);
	handshake_dest(&w.h, &w.dest);
	close(w.theirs);
	w.theirs = -1;
	assert_int_equal(wire_step(&w), HANDSHAKE_FAILED);
	assert_int_equal(w.h.err, EPIPE);
	assert_int_equal(w.h.blame, BLAME_UPSTREAM);
	wire_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_goes_with_the_greeting),
		cmocka_unit_test(test_one_flight),
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_ready_without_greeting),
		cmocka_unit_test(test_socket_takes_little),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_broken_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
