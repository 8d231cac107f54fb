/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "daemon/proto/socks_server.h"
#include "tests/unit/feed.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

#define ANSWER_MAX 14 /* method, verdict and a failure */

struct handshake {
	const char *what;
	bool passwords;
	const uint8_t *in;
	size_t in_len;
	const uint8_t *out;
	size_t out_len;
	enum proto_step step;
	size_t payload; /* bytes at the end that are not the handshake's */
};

#define HELLO    "\x05\x01\x00"
#define OFFER    "\x05\x01\x02"
#define NONE     "\x05\x00"
#define PASSWORD "\x05\x02"
#define KNOWN    "\x01\x00"
#define UNKNOWN  "\x01\x01"
#define LOGIN      \
	"\x01\x03" \
	"bob\x06"  \
	"secret"
#define IPV4 "\x01\x0b\x00\x00\x01\x00\x50"
#define IPV6 "\x04\x2a\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x07\x1f\x90"
#define NAME       \
	"\x03\x08" \
	"host.lan" \
	"\x01\xbb"
#define FAILED(c) "\x05" c "\x00\x01\0\0\0\0\0\0"
#define REJECTED  "\x00\x5b\0\0\0\0\0\0"

static const struct handshake handshakes[] = {
	{"IPv4", false, BYTES(HELLO "\x05\x01\x00" IPV4), BYTES(NONE), PROTO_DONE, 0},
	{"IPv6", false, BYTES(HELLO "\x05\x01\x00" IPV6), BYTES(NONE), PROTO_DONE, 0},
	{"name", false, BYTES(HELLO "\x05\x01\x00" NAME), BYTES(NONE), PROTO_DONE, 0},
	{"BIND", false, BYTES(HELLO "\x05\x02\x00" IPV4), BYTES(NONE), PROTO_DONE, 0},
	{"UDP ASSOCIATE", false, BYTES(HELLO "\x05\x03\x00" IPV6), BYTES(NONE), PROTO_DONE, 0},
	{"methods, payload", false, BYTES("\x05\x03\x02\x00\x01\x05\x01\x00" IPV4 "GET /"),
	 BYTES(NONE), PROTO_DONE, 5},
	{"name, payload", false, BYTES(HELLO "\x05\x01\x00" NAME "\x05\x01\x00"), BYTES(NONE),
	 PROTO_DONE, 3},
	{"login, IPv4", true, BYTES(OFFER LOGIN "\x05\x01\x00" IPV4), BYTES(PASSWORD KNOWN),
	 PROTO_DONE, 0},
	{"login, name, payload", true, BYTES("\x05\x02\x00\x02" LOGIN "\x05\x01\x00" NAME "x"),
	 BYTES(PASSWORD KNOWN), PROTO_DONE, 1},
	{"wrong login", true,
	 BYTES(OFFER "\x01\x03"
		     "bob\x06"
		     "Secret"),
	 BYTES(PASSWORD UNKNOWN), PROTO_FAIL, 0},
	{"empty login", true, BYTES(OFFER "\x01\x00\x00\x05\x01\x00" IPV4), BYTES(PASSWORD UNKNOWN),
	 PROTO_FAIL, 10},
	{"login, wrong command", true, BYTES(OFFER LOGIN "\x05\x09\x00" IPV4),
	 BYTES(PASSWORD KNOWN FAILED("\x07")), PROTO_FAIL, 0},
	{"no password offered", true, BYTES(HELLO), BYTES("\x05\xff"), PROTO_FAIL, 0},
	{"no method", false, BYTES("\x05\x00"), BYTES("\x05\xff"), PROTO_FAIL, 0},
	{"wrong command", false, BYTES(HELLO "\x05\x09\x00" NAME), BYTES(NONE FAILED("\x07")),
	 PROTO_FAIL, 0},
	{"SOCKS4", false,
	 BYTES("\x04\x01\x00\x50\x0b\0\0\x01"
	       "bob\0"),
	 BYTES(""), PROTO_DONE, 0},
	{"SOCKS4, payload", false,
	 BYTES("\x04\x01\x00\x50\x0b\0\0\x01\0"
	       "\x04\0\0"),
	 BYTES(""), PROTO_DONE, 3},
	{"SOCKS4a", false,
	 BYTES("\x04\x01\x00\x50\0\0\0\x01"
	       "bob\0"
	       "host.lan\0"),
	 BYTES(""), PROTO_DONE, 0},
	{"SOCKS4a, BIND, payload", false,
	 BYTES("\x04\x02\x00\x50\0\0\0\xff\0"
	       "host.lan\0"
	       "x"),
	 BYTES(""), PROTO_DONE, 1},
	{"SOCKS4, wrong command", false, BYTES("\x04\x09\x00\x50\x0b\0\0\x01\0"), BYTES(REJECTED),
	 PROTO_FAIL, 0},
};

struct result {
	enum proto_step step;
	size_t consumed, out_len;
	uint8_t out[64];
	const char *error;
};

struct run {
	const struct handshake *h;
	struct socks_server first; /* of the whole in one piece */
	bool is_first;
};

/* Whoever has the right password is let in, as a user of that name. */
static void decide(struct socks5_server *s)
{
	bool known = s->user_len == 3 && memcmp(s->user, "bob", 4) == 0 && s->password_len == 6 &&
		     memcmp(s->password, "secret", 7) == 0;

	socks5_server_verdict(s, known ? NULL : "unknown");
}

static bool contains(const struct socks_server *s, const char *word)
{
	const char *mem = (const char *)s;
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= sizeof(*s); i++) {
		if (memcmp(mem + i, word, len) == 0)
			return true;
	}
	return false;
}

/* One step on a copy of just what is there, so that sanitizers see each byte beyond. False: it stops here. */
static bool feed_step(struct socks_server *s, struct result *r, const uint8_t *bytes, size_t end)
{
	uint8_t out[SOCKS5_OUT_MAX], *in;
	size_t n = end - r->consumed, used, out_len;

	in = test_malloc(n + 1);
	memcpy(in + 1, bytes + r->consumed, n);
	r->step = socks_server_step(s, in + 1, n, &used, out, &out_len);
	test_free(in);
	assert_true(used <= n);
	assert_true(r->out_len + out_len <= ANSWER_MAX);
	if (r->step != PROTO_FAIL)
		assert_true(r->step == PROTO_SEND ? out_len > 0 : out_len == 0);
	memcpy(r->out + r->out_len, out, out_len);
	r->out_len += out_len;
	r->consumed += used;
	if (socks_server_asks(s)) {
		assert_int_equal(r->step, PROTO_MORE);
		decide(&s->v5);
		/* Nothing of it stays. */
		assert_false(contains(s, "secret"));
		assert_false(contains(s, "Secret"));
		return true;
	}
	return r->step == PROTO_SEND;
}

static void feed_pieces(struct socks_server *s, struct result *r, bool passwords,
			const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	memset(r, 0, sizeof(*r));
	memset(s, 0xee, sizeof(*s));
	socks_server_init(s, passwords);
	for (size_t i = 0; i < n_ends; i++) {
		while (feed_step(s, r, bytes, ends[i]))
			;
		if (r->step != PROTO_MORE)
			break;
	}
	r->error = s->error;
}

static void run_pieces(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct run *run = ctx;
	const struct handshake *h = run->h;
	struct socks_server s;
	struct result r;

	feed_pieces(&s, &r, h->passwords, bytes, ends, n_ends);
	if (r.step != h->step || r.consumed != h->in_len - h->payload || r.out_len != h->out_len ||
	    memcmp(r.out, h->out, r.out_len) != 0)
		fail_msg("%s: step %d after %zu bytes, %zu bytes out", h->what, r.step, r.consumed,
			 r.out_len);
	assert_true((r.step == PROTO_FAIL) == (r.error != NULL));
	if (run->is_first)
		run->first = s;
	run->is_first = false;
	assert_int_equal(s.version, run->first.version);
	assert_ptr_equal(s.error, run->first.error);
	assert_true(socks_server_unknown(&s) == socks_server_unknown(&run->first));
	if (r.step != PROTO_DONE)
		return;
	assert_int_equal(socks_server_command(&s), socks_server_command(&run->first));
	assert_true(
		addr_equal(&socks_server_dest(&s)->addr, &socks_server_dest(&run->first)->addr));
	assert_string_equal(socks_server_dest(&s)->name, socks_server_dest(&run->first)->name);
	assert_string_equal(socks_server_user(&s), socks_server_user(&run->first));
	if (h->passwords)
		assert_string_equal(socks_server_login(&s), "bob");
	else
		assert_null(socks_server_login(&s));
}

static void test_every_split(void **state)
{
	(void)state;
	assert_int_equal(ARRAY_LEN(handshakes), 20);
	for (size_t i = 0; i < ARRAY_LEN(handshakes); i++) {
		struct run run = {.h = &handshakes[i], .is_first = true};

		feed_every_split(run_pieces, &run, run.h->in, run.h->in_len);
	}
}

/* ---- what nobody should send ---- */

static const uint8_t boundaries[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
				     0x0a, 0x0d, 0x1f, 0x20, 0x2e, 0x7f, 0x80, 0xc0, 0xfe, 0xff};

/* Places in a table of what a client may be answered before the reply to a request that is complete. */
static bool is_answer(const uint8_t *out, size_t n)
{
	static const uint8_t tail[] = {0x00, 0x01, 0, 0, 0, 0, 0, 0};

	if (n == SOCKS4_REPLY_LEN && memcmp(out, REJECTED, n) == 0)
		return true;
	if (n >= 2 && out[0] == 5 && (out[1] == 0 || out[1] == 2))
		out += 2, n -= 2;
	else /* all, or nothing else */
		return n == 0 || (n == 2 && out[0] == 5 && out[1] == 0xff);
	if (n >= 2 && out[0] == 1 && out[1] <= 1)
		out += 2, n -= 2;
	return n == 0 || (n == 10 && out[0] == 5 && (out[1] == 1 || out[1] == 7 || out[1] == 8) &&
			  memcmp(out + 2, tail, sizeof(tail)) == 0);
}

/* Whatever is sent: an answer of the table, a request, or the wish for more, which has its end. */
static void try_input(const uint8_t *bytes, size_t n)
{
	for (unsigned passwords = 0; passwords < 2; passwords++) {
		struct socks_server s;
		struct result r;
		uint8_t out[SOCKS5_OUT_MAX];

		feed_pieces(&s, &r, passwords != 0, bytes, &n, 1);
		assert_true(is_answer(r.out, r.out_len));
		switch (r.step) {
		case PROTO_MORE:
			assert_true(n - r.consumed < SOCKS5_REQUEST_MAX);
			assert_null(r.error);
			break;
		case PROTO_DONE:
			assert_int_equal(socks_server_reply(&s, SOCKS5_REFUSED, NULL, out),
					 s.version == 4 ? SOCKS4_REPLY_LEN : 10);
			assert_true(socks_server_dest(&s)->name_len == 0 ||
				    socks_server_dest(&s)->addr.family == AF_UNSPEC);
			break;
		case PROTO_FAIL:
			assert_non_null(r.error);
			break;
		case PROTO_SEND:
			fail();
		}
	}
}

/* Changes one byte to each of the boundaries; cuts there; doubles it; leaves it out; puts NUL or CR LF before it. */
static size_t try_at(const uint8_t *bytes, size_t n, size_t at)
{
	static const char *const inserted[] = {"", "\r\n", "\xff\xff"};
	uint8_t changed[256];
	size_t tried = 0;

	assert_true(n + 2 < sizeof(changed));
	for (size_t i = 0; i < ARRAY_LEN(boundaries); i++) {
		memcpy(changed, bytes, n);
		if (changed[at] == boundaries[i])
			continue;
		changed[at] = boundaries[i];
		try_input(changed, n);
		tried++;
	}
	for (size_t i = 0; i < ARRAY_LEN(inserted); i++) {
		size_t len = i == 0 ? 1 : 2;

		memcpy(changed, bytes, at);
		memcpy(changed + at, inserted[i], len);
		memcpy(changed + at + len, bytes + at, n - at);
		try_input(changed, n + len);
	}
	memcpy(changed, bytes, at + 1);
	memcpy(changed + at + 1, bytes + at, n - at);
	try_input(changed, n + 1);
	memcpy(changed + at, bytes + at + 1, n - at - 1);
	try_input(changed, n - 1);
	try_input(bytes, at);
	return tried + ARRAY_LEN(inserted) + 3;
}

/* Changes two neighbours at once. */
static size_t try_two_at(const uint8_t *bytes, size_t n, size_t at)
{
	uint8_t changed[256];

	for (size_t i = 0; i < ARRAY_LEN(boundaries); i++) {
		memcpy(changed, bytes, n);
		changed[at] = boundaries[i];
		changed[at + 1] = boundaries[(i * 7 + at) % ARRAY_LEN(boundaries)];
		try_input(changed, n);
	}
	return ARRAY_LEN(boundaries);
}

static void test_malformed(void **state)
{
	size_t tried = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(handshakes); i++) {
		const struct handshake *h = &handshakes[i];

		for (size_t at = 0; at < h->in_len; at++)
			tried += try_at(h->in, h->in_len, at);
		for (size_t at = 0; at + 1 < h->in_len; at++)
			tried += try_two_at(h->in, h->in_len, at);
	}
	print_message("%zu inputs\n", tried);
	assert_true(tried >= 10000);
}

/* What has no end is not waited for. */
static void test_endless(void **state)
{
	static uint8_t bytes[4 * SOCKS5_REQUEST_MAX];
	static const char *const starts[] = {HELLO "\x05\x01\x00\x03\xff",
					     "\x05\xff",
					     OFFER "\x01\xff",
					     "\x04\x01\x00\x50\x0b\0\0\x01",
					     "\x04\x01\x00\x50\0\0\0\x01",
					     "\x04\x01\x00\x50\0\0\0\x01\0"};
	static const size_t lens[] = {8, 2, 5, 8, 8, 9};

	(void)state;
	for (unsigned fill = 1; fill < 256; fill++) {
		for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
			struct socks_server s;
			struct result r;
			size_t n = sizeof(bytes);

			memset(bytes, (int)fill, n);
			memcpy(bytes, starts[i], lens[i]);
			feed_pieces(&s, &r, i == 2, bytes, &n, 1);
			assert_true(r.step == PROTO_DONE || r.step == PROTO_FAIL);
			assert_true(is_answer(r.out, r.out_len));
		}
	}
}

/* No more of a password than the verdict needs: neither of a right one nor of a wrong one, and not as a login. */
static void test_password_is_wiped(void **state)
{
	static const struct {
		const uint8_t *in;
		size_t n;
		const char *user;
	} rows[] = {
		{BYTES(OFFER LOGIN), "bob"},
		{BYTES(OFFER "\x01\x03"
			     "bob\x06"
			     "Secret"),
		 NULL},
		{BYTES(OFFER "\x01\x04"
			     "bob\0\x06"
			     "secret"),
		 NULL},
		{BYTES(OFFER "\x01\x05"
			     "bob\0x\x06"
			     "secret"),
		 NULL},
		{BYTES(OFFER "\x01\x03"
			     "bob\x07"
			     "secret\0"),
		 NULL},
		{BYTES(OFFER "\x01\x03"
			     "bob\x08"
			     "secret\0y"),
		 NULL},
		{BYTES(OFFER "\x01\x03"
			     "bob\x05"
			     "secre"),
		 NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct socks_server s;
		struct result r;

		feed_pieces(&s, &r, true, rows[i].in, &rows[i].n, 1);
		assert_int_equal(r.consumed, rows[i].n);
		assert_int_equal(r.step, rows[i].user != NULL ? PROTO_MORE : PROTO_FAIL);
		for (size_t k = 0; k < sizeof(s.v5.password); k++)
			assert_int_equal(s.v5.password[k], 0);
		assert_true(socks_server_unknown(&s) == (rows[i].user == NULL));
		if (rows[i].user != NULL)
			assert_string_equal(socks_server_login(&s), rows[i].user);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_split),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_password_is_wiped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
