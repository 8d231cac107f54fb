/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "daemon/proto/socks5.h"
#include "tests/unit/feed.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

struct result {
	enum proto_step step;
	size_t consumed;
	uint8_t out[2 * SOCKS5_OUT_MAX];
	size_t out_len;
	uint8_t reply;
	const char *error;
	bool greeting;
	struct addr bound;
};

struct run {
	const char *user, *password;
	bool one_flight;
	struct proto_dest dest;
	const struct result *want; /* NULL: keep what comes */
	struct result got;
};

static void run_pieces(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct run *r = ctx;
	struct result *got = &r->got;
	struct socks5_client c;
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	memset(got, 0, sizeof(*got));
	socks5_client_init(&c, r->user, r->password, &r->dest);
	if (r->one_flight)
		socks5_client_one_flight(&c);
	got->step = socks5_client_step(&c, bytes, 0, &used, out, &out_len);
	assert_int_equal(got->step, PROTO_SEND);
	memcpy(got->out, out, out_len);
	got->out_len = out_len;
	for (size_t i = 0; i < n_ends; i++) {
		do {
			/* A copy of just what is there, so that sanitizers see each byte beyond. */
			size_t n = ends[i] - got->consumed;
			uint8_t *in = test_malloc(n + 1);

			memcpy(in + 1, bytes + got->consumed, n);
			got->step = socks5_client_step(&c, in + 1, n, &used, out, &out_len);
			test_free(in);
			assert_true(used <= n);
			assert_true(out_len <= SOCKS5_OUT_MAX);
			assert_true((got->step == PROTO_SEND && !r->one_flight) == (out_len > 0));
			got->consumed += used;
			memcpy(got->out + got->out_len, out, out_len);
			got->out_len += out_len;
		} while (got->step == PROTO_SEND);
		if (got->step != PROTO_MORE)
			break;
	}
	got->reply = c.reply;
	got->error = c.error;
	got->greeting = socks5_client_greeting(&c);
	got->bound = c.bound;
	if (r->want == NULL)
		return;
	assert_int_equal(got->step, r->want->step);
	assert_int_equal(got->consumed, r->want->consumed);
	assert_int_equal(got->out_len, r->want->out_len);
	assert_memory_equal(got->out, r->want->out, got->out_len);
	assert_int_equal(got->reply, r->want->reply);
	assert_ptr_equal(got->error, r->want->error);
	assert_int_equal(got->greeting, r->want->greeting);
	assert_memory_equal(&got->bound, &r->want->bound, sizeof(got->bound));
}

static struct proto_dest dest_of(const char *text)
{
	struct proto_dest d = {.port = 443};

	if (addr_parse_endpoint(&d.addr, text) == 0) {
		d.port = d.addr.port;
		return d;
	}
	d.addr = (struct addr){.family = AF_UNSPEC};
	d.name_len = (uint8_t)strlen(text);
	memcpy(d.name, text, d.name_len);
	return d;
}

struct client_case {
	const char *what;
	const char *user, *dest;
	const uint8_t *in;
	size_t in_len;
	const uint8_t *out;
	size_t out_len;
	enum proto_step step;
	size_t payload; /* bytes at the end that must be left alone */
	uint8_t reply;
	const char *error;
	const char *bound;
};

#define GREETING      "\x05\x01\x00"
#define GREETING_AUTH "\x05\x02\x00\x02"
#define AUTH       \
	"\x01\x03" \
	"bob"      \
	"\x06"     \
	"secret"
#define REQUEST4 "\x05\x01\x00\x01\x0b\x00\x00\x01\x00\x50"
#define REQUEST6 "\x05\x01\x00\x04\x2a\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x07\x1f\x90"
#define REQUEST_NAME           \
	"\x05\x01\x00\x03\x08" \
	"host.lan"             \
	"\x01\xbb"
#define OK4 "\x05\x00\x00\x01\x0b\x00\x00\x09\x9c\x40"
#define OK6 "\x05\x00\x00\x04\x2a\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x09\x9c\x40"

static const struct client_case cases[] = {
	{"no user, IPv4", "", "11.0.0.1:80", BYTES("\x05\x00" OK4), BYTES(GREETING REQUEST4),
	 PROTO_DONE, 0, 0, NULL, "11.0.0.9:40000"},
	{"IPv6", "", "[2a00:1::7]:8080", BYTES("\x05\x00" OK6), BYTES(GREETING REQUEST6),
	 PROTO_DONE, 0, 0, NULL, "[2a00:1::9]:40000"},
	{"name", "", "host.lan", BYTES("\x05\x00" OK4), BYTES(GREETING REQUEST_NAME), PROTO_DONE, 0,
	 0, NULL, "11.0.0.9:40000"},
	{"user, but the upstream asks for none", "bob", "11.0.0.1:80", BYTES("\x05\x00" OK4),
	 BYTES(GREETING_AUTH REQUEST4), PROTO_DONE, 0, 0, NULL, "11.0.0.9:40000"},
	{"user and password", "bob", "11.0.0.1:80", BYTES("\x05\x02\x01\x00" OK4),
	 BYTES(GREETING_AUTH AUTH REQUEST4), PROTO_DONE, 0, 0, NULL, "11.0.0.9:40000"},
	{"answer to the password with version 5", "bob", "11.0.0.1:80",
	 BYTES("\x05\x02\x05\x00" OK4), BYTES(GREETING_AUTH AUTH REQUEST4), PROTO_DONE, 0, 0, NULL,
	 "11.0.0.9:40000"},
	{"payload behind the reply", "", "11.0.0.1:80", BYTES("\x05\x00" OK4 "\x05\x01SSH-2.0"),
	 BYTES(GREETING REQUEST4), PROTO_DONE, 9, 0, NULL, "11.0.0.9:40000"},
	{"reserved byte set", "", "11.0.0.1:80",
	 BYTES("\x05\x00\x05\x00\xff\x01\x0b\x00\x00\x09\x9c\x40"), BYTES(GREETING REQUEST4),
	 PROTO_DONE, 0, 0, NULL, "11.0.0.9:40000"},
	{"bound is a name", "", "11.0.0.1:80",
	 BYTES("\x05\x00\x05\x00\x00\x03\x03"
	       "abc"
	       "\0\x50!"),
	 BYTES(GREETING REQUEST4), PROTO_DONE, 1, 0, NULL, NULL},
	{"bound is an empty name", "", "11.0.0.1:80", BYTES("\x05\x00\x05\x00\x00\x03\x00\0\x50"),
	 BYTES(GREETING REQUEST4), PROTO_DONE, 0, 0, NULL, NULL},
	{"bound is IPv4 in IPv6", "", "11.0.0.1:80",
	 BYTES("\x05\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x0b\0\0\x09\x9c\x40"),
	 BYTES(GREETING REQUEST4), PROTO_DONE, 0, 0, NULL, "11.0.0.9:40000"},

	{"nothing came", "", "11.0.0.1:80", BYTES(""), BYTES(GREETING), PROTO_MORE, 0, 0, NULL,
	 NULL},
	{"cut in the method", "", "11.0.0.1:80", BYTES("\x05"), BYTES(GREETING), PROTO_MORE, 1, 0,
	 NULL, NULL},
	{"cut in the answer to the password", "bob", "11.0.0.1:80", BYTES("\x05\x02\x01"),
	 BYTES(GREETING_AUTH AUTH), PROTO_MORE, 1, 0, NULL, NULL},
	{"cut in the reply", "", "11.0.0.1:80",
	 BYTES("\x05\x00\x05\x00\x00\x01\x0b\x00\x00\x09\x9c"), BYTES(GREETING REQUEST4),
	 PROTO_MORE, 9, 0, NULL, NULL},
	{"cut before the length of a name", "", "11.0.0.1:80", BYTES("\x05\x00\x05\x00\x00\x03"),
	 BYTES(GREETING REQUEST4), PROTO_MORE, 4, 0, NULL, NULL},

	{"HTTP", "", "11.0.0.1:80", BYTES("HTTP/1.1 400 Bad Request\r\n"), BYTES(GREETING),
	 PROTO_FAIL, 26, 0, "the upstream does not speak SOCKS5", NULL},
	{"SOCKS4 answer", "", "11.0.0.1:80", BYTES("\x00\x5b"), BYTES(GREETING), PROTO_FAIL, 2, 0,
	 "the upstream does not speak SOCKS5", NULL},
	{"no method, no user", "", "11.0.0.1:80", BYTES("\x05\xff"), BYTES(GREETING), PROTO_FAIL, 0,
	 0, "the upstream wants authentication, and no user is configured", NULL},
	{"no method, user", "bob", "11.0.0.1:80", BYTES("\x05\xff"), BYTES(GREETING_AUTH),
	 PROTO_FAIL, 0, 0, "the upstream accepts neither no authentication nor a password", NULL},
	{"password, though not offered", "", "11.0.0.1:80", BYTES("\x05\x02"), BYTES(GREETING),
	 PROTO_FAIL, 0, 0, "the upstream chose a method that was not offered", NULL},
	{"GSSAPI, though not offered", "bob", "11.0.0.1:80", BYTES("\x05\x01"),
	 BYTES(GREETING_AUTH), PROTO_FAIL, 0, 0, "the upstream chose a method that was not offered",
	 NULL},
	{"password refused", "bob", "11.0.0.1:80", BYTES("\x05\x02\x01\x01"),
	 BYTES(GREETING_AUTH AUTH), PROTO_FAIL, 0, 0,
	 "the upstream refused the user name or password", NULL},
	{"answer to the password malformed", "bob", "11.0.0.1:80", BYTES("\x05\x02\x00\x00"),
	 BYTES(GREETING_AUTH AUTH), PROTO_FAIL, 2, 0,
	 "the upstream's answer to the password is malformed", NULL},
	{"reply of another version", "", "11.0.0.1:80", BYTES("\x05\x00\x04\x5a"),
	 BYTES(GREETING REQUEST4), PROTO_FAIL, 2, 0, "the upstream's reply is not SOCKS5", NULL},
	{"unknown address type", "", "11.0.0.1:80", BYTES("\x05\x00\x05\x00\x00\x02"),
	 BYTES(GREETING REQUEST4), PROTO_FAIL, 4, 0,
	 "the upstream's reply has an unknown address type", NULL},
	{"refused, whole reply", "", "11.0.0.1:80",
	 BYTES("\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"), BYTES(GREETING REQUEST4),
	 PROTO_FAIL, 8, SOCKS5_REFUSED, "connection refused", NULL},
	{"refused in two bytes", "", "11.0.0.1:80", BYTES("\x05\x00\x05\x04"),
	 BYTES(GREETING REQUEST4), PROTO_FAIL, 0, SOCKS5_HOST_UNREACHABLE, "host unreachable",
	 NULL},
	{"refused with an unassigned code", "", "11.0.0.1:80", BYTES("\x05\x00\x05\xff"),
	 BYTES(GREETING REQUEST4), PROTO_FAIL, 0, 255, "unassigned reply code", NULL},
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct client_case *k = &cases[i];
		struct run r = {.user = k->user, .password = "secret", .dest = dest_of(k->dest)};
		struct result want;
		char bound[ADDR_TEXT_MAX];

		print_message("case: %s\n", k->what);
		run_pieces(&r, k->in, &k->in_len, 1);
		want = r.got;
		assert_int_equal(want.step, k->step);
		assert_int_equal(want.out_len, k->out_len);
		assert_memory_equal(want.out, k->out, k->out_len);
		assert_int_equal(k->in_len - want.consumed, k->payload);
		assert_int_equal(want.reply, k->reply);
		/* As long as nothing was sent but the greeting, no method was agreed on. */
		assert_int_equal(want.greeting, k->out_len == 2u + k->out[1]);
		if (k->error == NULL)
			assert_null(want.error);
		else
			assert_string_equal(want.error, k->error);
		if (k->bound == NULL)
			assert_int_equal(want.bound.family, AF_UNSPEC);
		else
			assert_string_equal(addr_format(&want.bound, bound, sizeof(bound)),
					    k->bound);
		r.want = &want;
		feed_every_split(run_pieces, &r, k->in, k->in_len);
	}
}

/* All is sent at the start; the answers are read as otherwise, but only the method offered is accepted. */
static void test_one_flight(void **state)
{
	static const struct client_case flights[] = {
		{"no user", "", "11.0.0.1:80", BYTES("\x05\x00" OK4 "!"), BYTES(GREETING REQUEST4),
		 PROTO_DONE, 1, 0, NULL, NULL},
		{"user", "bob", "host.lan", BYTES("\x05\x02\x01\x00" OK4),
		 BYTES("\x05\x01\x02" AUTH REQUEST_NAME), PROTO_DONE, 0, 0, NULL, NULL},
		{"user, none chosen", "bob", "11.0.0.1:80", BYTES("\x05\x00" OK4),
		 BYTES("\x05\x01\x02" AUTH REQUEST4), PROTO_FAIL, 10, 0,
		 "the upstream chose a method that was not offered", NULL},
		{"no method", "", "11.0.0.1:80", BYTES("\x05\xff"), BYTES(GREETING REQUEST4),
		 PROTO_FAIL, 0, 0, "the upstream wants authentication, and no user is configured",
		 NULL},
		{"refused", "", "11.0.0.1:80", BYTES("\x05\x00\x05\x05"), BYTES(GREETING REQUEST4),
		 PROTO_FAIL, 0, SOCKS5_REFUSED, "connection refused", NULL},
		{"request lost", "", "11.0.0.1:80", BYTES("\x05\x00"), BYTES(GREETING REQUEST4),
		 PROTO_MORE, 0, 0, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(flights); i++) {
		const struct client_case *k = &flights[i];
		struct run r = {.user = k->user, .password = "secret", .one_flight = true};
		struct result want;

		r.dest = dest_of(k->dest);
		run_pieces(&r, k->in, &k->in_len, 1);
		want = r.got;
		assert_int_equal(want.step, k->step);
		assert_int_equal(want.out_len, k->out_len);
		assert_memory_equal(want.out, k->out, k->out_len);
		assert_int_equal(k->in_len - want.consumed, k->payload);
		assert_int_equal(want.reply, k->reply);
		if (k->error != NULL)
			assert_string_equal(want.error, k->error);
		r.want = &want;
		feed_every_split(run_pieces, &r, k->in, k->in_len);
	}
}

static void test_every_reply_code(void **state)
{
	(void)state;
	for (unsigned code = 1; code <= 255; code++) {
		uint8_t in[] = {5, 0, 5, (uint8_t)code, 0, 1, 0, 0, 0, 0, 0, 0};
		struct run r = {.user = "", .password = "", .dest = dest_of("11.0.0.1:80")};
		size_t n = sizeof(in);

		run_pieces(&r, in, &n, 1);
		assert_int_equal(r.got.step, PROTO_FAIL);
		assert_int_equal(r.got.reply, code);
	}
}

static void test_longest_messages(void **state)
{
	struct socks5_client c;
	struct proto_dest dest = {.name_len = 255, .port = 0x1234};
	char text[256];
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	(void)state;
	memset(text, 'x', 255);
	text[255] = '\0';
	memset(dest.name, 'n', 255);
	socks5_client_init(&c, text, text, &dest);
	assert_true(socks5_client_greeting(&c));
	assert_int_equal(socks5_client_step(&c, out, 0, &used, out, &out_len), PROTO_SEND);
	assert_true(socks5_client_greeting(&c));
	assert_int_equal(socks5_client_step(&c, BYTES("\x05\x02"), &used, out, &out_len),
			 PROTO_SEND);
	assert_false(socks5_client_greeting(&c));
	assert_int_equal(out_len, 513);
	assert_int_equal(out[1], 255);
	assert_int_equal(out[257], 255);
	assert_int_equal(out[512], 'x');
	assert_int_equal(socks5_client_step(&c, BYTES("\x01\x00"), &used, out, &out_len),
			 PROTO_SEND);
	assert_int_equal(out_len, 262);
	assert_int_equal(out[4], 255);
	assert_int_equal(out[259], 'n');
	assert_memory_equal(out + 260, "\x12\x34", 2);
}

static void test_empty_password(void **state)
{
	static const uint8_t in[] = {5, 2, 1, 0};
	struct run r = {.user = "u", .password = "", .dest = dest_of("11.0.0.1:80")};
	size_t n = sizeof(in);

	(void)state;
	run_pieces(&r, in, &n, 1);
	assert_int_equal(r.got.out_len, 4 + 4 + 10);
	assert_memory_equal(r.got.out, "\x05\x02\x00\x02\x01\x01u\x00\x05", 9);
}

static void test_end_is_final(void **state)
{
	struct socks5_client c;
	struct proto_dest dest = dest_of("11.0.0.1:80");
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	(void)state;
	socks5_client_init(&c, "", "", &dest);
	socks5_client_step(&c, out, 0, &used, out, &out_len);
	assert_int_equal(socks5_client_step(&c, BYTES("\x05\xff"), &used, out, &out_len),
			 PROTO_FAIL);
	assert_int_equal(socks5_client_step(&c, BYTES("\x05\x00"), &used, out, &out_len),
			 PROTO_FAIL);
	assert_int_equal(used + out_len, 0);

	socks5_client_init(&c, "", "", &dest);
	socks5_client_step(&c, out, 0, &used, out, &out_len);
	socks5_client_step(&c, BYTES("\x05\x00"), &used, out, &out_len);
	assert_int_equal(socks5_client_step(&c, BYTES(OK4), &used, out, &out_len), PROTO_DONE);
	assert_int_equal(socks5_client_step(&c, BYTES(OK4), &used, out, &out_len), PROTO_DONE);
	assert_int_equal(used + out_len, 0);
}

/* Whose fault an answer is, by the words of RFC 1928 section 6 and what servers make of them. */
static void test_blame(void **state)
{
	(void)state;
	for (unsigned code = 1; code <= 255; code++) {
		enum proto_blame want = code == SOCKS5_NOT_ALLOWED   ? BLAME_POLICY
					: code == SOCKS5_BAD_COMMAND ? BLAME_UPSTREAM
								     : BLAME_DEST;

		assert_int_equal(socks5_reply_blame((uint8_t)code), want);
	}
}

/* A connection that is kept ready: all that needs no destination is done first, whatever the pieces. */
static void test_destination_later(void **state)
{
	static const uint8_t in[] = {5, 2, 1, 0};
	struct proto_dest dest = dest_of("11.0.0.1:80");

	(void)state;
	for (unsigned split = 0; split <= sizeof(in); split++) {
		enum proto_step step = PROTO_SEND;
		size_t used, out_len, at = 0, end = split;
		struct socks5_client c;
		uint8_t out[SOCKS5_OUT_MAX];

		socks5_client_init(&c, "bob", "secret", NULL);
		assert_false(socks5_client_ready(&c));
		socks5_client_step(&c, in, 0, &used, out, &out_len);
		while (step == PROTO_SEND || end < sizeof(in)) {
			if (step == PROTO_MORE)
				end = sizeof(in);
			assert_false(socks5_client_ready(&c));
			step = socks5_client_step(&c, in + at, end - at, &used, out, &out_len);
			at += used;
		}
		assert_int_equal(at, sizeof(in));
		assert_true(socks5_client_ready(&c));
		assert_false(socks5_client_greeting(&c));
		assert_int_equal(socks5_client_step(&c, BYTES("x"), &used, out, &out_len),
				 PROTO_MORE);
		assert_int_equal(used + out_len, 0);
		socks5_client_dest(&c, &dest);
		assert_false(socks5_client_ready(&c));
		assert_int_equal(socks5_client_step(&c, in, 0, &used, out, &out_len), PROTO_SEND);
		assert_int_equal(out_len, 10);
		assert_memory_equal(out, REQUEST4, 10);
		assert_int_equal(socks5_client_step(&c, BYTES(OK4 "!"), &used, out, &out_len),
				 PROTO_DONE);
		assert_int_equal(used, 10);
	}
}

static void test_reply_text(void **state)
{
	(void)state;
	assert_string_equal(socks5_reply_text(SOCKS5_SUCCEEDED), "succeeded");
	assert_string_equal(socks5_reply_text(SOCKS5_REFUSED), "connection refused");
	assert_string_equal(socks5_reply_text(SOCKS5_BAD_ADDRESS_TYPE),
			    "address type not supported");
	assert_string_equal(socks5_reply_text(9), "unassigned reply code");
	assert_string_equal(socks5_reply_text(255), "unassigned reply code");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_one_flight),
		cmocka_unit_test(test_every_reply_code),
		cmocka_unit_test(test_longest_messages),
		cmocka_unit_test(test_empty_password),
		cmocka_unit_test(test_end_is_final),
		cmocka_unit_test(test_blame),
		cmocka_unit_test(test_destination_later),
		cmocka_unit_test(test_reply_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
