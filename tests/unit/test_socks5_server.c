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
	const char *error;
	struct proto_dest dest;
};

struct run {
	const struct result *want; /* NULL: keep what comes */
	struct result got;
};

static void run_pieces(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct run *r = ctx;
	struct result *got = &r->got;
	struct socks5_server s;
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	memset(got, 0, sizeof(*got));
	memset(&s, 0xee, sizeof(s));
	socks5_server_init(&s, false);
	for (size_t i = 0; i < n_ends; i++) {
		do {
			/* A copy of just what is there, so that sanitizers see each byte beyond. */
			size_t n = ends[i] - got->consumed;
			uint8_t *in = test_malloc(n + 1);

			memcpy(in + 1, bytes + got->consumed, n);
			got->step = socks5_server_step(&s, in + 1, n, &used, out, &out_len);
			test_free(in);
			assert_true(used <= n);
			assert_true(out_len <= SOCKS5_OUT_MAX);
			if (got->step != PROTO_FAIL)
				assert_true(got->step == PROTO_SEND ? out_len > 0 : out_len == 0);
			got->consumed += used;
			memcpy(got->out + got->out_len, out, out_len);
			got->out_len += out_len;
		} while (got->step == PROTO_SEND);
		if (got->step != PROTO_MORE)
			break;
	}
	if (got->step == PROTO_FAIL)
		got->error = s.error;
	if (got->step == PROTO_DONE) {
		got->dest.addr = s.dest.addr;
		got->dest.port = s.dest.port;
		got->dest.name_len = s.dest.name_len;
		memcpy(got->dest.name, s.dest.name, s.dest.name_len + 1u);
	}
	if (r->want == NULL)
		return;
	assert_int_equal(got->step, r->want->step);
	assert_int_equal(got->consumed, r->want->consumed);
	assert_int_equal(got->out_len, r->want->out_len);
	assert_memory_equal(got->out, r->want->out, got->out_len);
	assert_ptr_equal(got->error, r->want->error);
	assert_memory_equal(&got->dest.addr, &r->want->dest.addr, sizeof(got->dest.addr));
	assert_int_equal(got->dest.port, r->want->dest.port);
	assert_int_equal(got->dest.name_len, r->want->dest.name_len);
	assert_memory_equal(got->dest.name, r->want->dest.name, got->dest.name_len + 1u);
}

struct server_case {
	const char *what;
	const uint8_t *in;
	size_t in_len;
	const uint8_t *out;
	size_t out_len;
	enum proto_step step;
	size_t payload;    /* bytes at the end that must be left alone */
	const char *error; /* PROTO_FAIL */
	const char *addr;  /* PROTO_DONE: the address, or NULL for the name */
	const char *name;
	size_t name_len;
	uint16_t port;
};

#define CHOICE     "\x05\x00"
#define REFUSAL(r) r "\x00\x01\x00\x00\x00\x00\x00\x00"
#define REQUEST4   "\x05\x01\x00\x01\x0b\x00\x00\x01\x00\x50"
#define NAME(s)    (s), sizeof(s) - 1

static const struct server_case cases[] = {
	{"IPv4", BYTES("\x05\x01\x00" REQUEST4), BYTES(CHOICE), PROTO_DONE, 0, NULL, "11.0.0.1:80",
	 NAME(""), 80},
	{"IPv6",
	 BYTES("\x05\x01\x00\x05\x01\x00\x04\x2a\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x07\x1f\x90"),
	 BYTES(CHOICE), PROTO_DONE, 0, NULL, "[2a00:1::7]:8080", NAME(""), 8080},
	{"IPv4 in IPv6",
	 BYTES("\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\0\x50"),
	 BYTES(CHOICE), PROTO_DONE, 0, NULL, "127.0.0.1:80", NAME(""), 80},
	{"name",
	 BYTES("\x05\x01\x00\x05\x01\x00\x03\x08"
	       "host.lan"
	       "\x01\xbb"),
	 BYTES(CHOICE), PROTO_DONE, 0, NULL, NULL, NAME("host.lan"), 443},
	{"name with NUL and line break",
	 BYTES("\x05\x01\x00\x05\x01\x00\x03\x05"
	       "a\0b\r\n"
	       "\x01\xbb"),
	 BYTES(CHOICE), PROTO_DONE, 0, NULL, NULL, NAME("a\0b\r\n"), 443},
	{"empty name", BYTES("\x05\x01\x00\x05\x01\x00\x03\x00\x01\xbb"), BYTES(CHOICE), PROTO_DONE,
	 0, NULL, NULL, NAME(""), 443},
	{"payload sent ahead", BYTES("\x05\x01\x00" REQUEST4 "GET / HTTP/1.0\r\n"), BYTES(CHOICE),
	 PROTO_DONE, 16, NULL, "11.0.0.1:80", NAME(""), 80},
	{"reserved byte set", BYTES("\x05\x01\x00\x05\x01\xff\x01\x0b\x00\x00\x01\x00\x50"),
	 BYTES(CHOICE), PROTO_DONE, 0, NULL, "11.0.0.1:80", NAME(""), 80},
	{"none among others", BYTES("\x05\x04\x01\x02\x80\x00" REQUEST4), BYTES(CHOICE), PROTO_DONE,
	 0, NULL, "11.0.0.1:80", NAME(""), 80},
	{"the same method twice", BYTES("\x05\x02\x00\x00" REQUEST4), BYTES(CHOICE), PROTO_DONE, 0,
	 NULL, "11.0.0.1:80", NAME(""), 80},
	{"port 0", BYTES("\x05\x01\x00\x05\x01\x00\x01\x0b\x00\x00\x01\x00\x00"), BYTES(CHOICE),
	 PROTO_DONE, 0, NULL, "11.0.0.1:0", NAME(""), 0},

	{"nothing came", BYTES(""), BYTES(""), PROTO_MORE, 0, NULL, NULL, NULL, 0, 0},
	{"cut in the greeting", BYTES("\x05\x02\x00"), BYTES(""), PROTO_MORE, 3, NULL, NULL, NULL,
	 0, 0},
	{"cut in the request", BYTES("\x05\x01\x00\x05\x01\x00\x01\x0b\x00\x00\x01\x00"),
	 BYTES(CHOICE), PROTO_MORE, 9, NULL, NULL, NULL, 0, 0},
	{"cut in the name",
	 BYTES("\x05\x01\x00\x05\x01\x00\x03\x08"
	       "host"),
	 BYTES(CHOICE), PROTO_MORE, 9, NULL, NULL, NULL, 0, 0},

	{"HTTP", BYTES("GET / HTTP/1.1\r\n"), BYTES(""), PROTO_FAIL, 16,
	 "the client does not speak SOCKS5", NULL, NULL, 0, 0},
	{"TLS", BYTES("\x16\x03\x01\x02\x00"), BYTES(""), PROTO_FAIL, 5,
	 "the client does not speak SOCKS5", NULL, NULL, 0, 0},
	{"no methods", BYTES("\x05\x00"), BYTES("\x05\xff"), PROTO_FAIL, 0,
	 "the client offers no method that is served", NULL, NULL, 0, 0},
	{"GSSAPI only", BYTES("\x05\x01\x01"), BYTES("\x05\xff"), PROTO_FAIL, 0,
	 "the client offers no method that is served", NULL, NULL, 0, 0},
	{"password only", BYTES("\x05\x01\x02\x01\x01u\x01p"), BYTES("\x05\xff"), PROTO_FAIL, 5,
	 "the client offers no method that is served", NULL, NULL, 0, 0},
	{"SOCKS4 request after the greeting", BYTES("\x05\x01\x00\x04\x01\x00\x50"),
	 BYTES(CHOICE REFUSAL("\x05\x01")), PROTO_FAIL, 4, "the request is not SOCKS5", NULL, NULL,
	 0, 0},
	{"command 0", BYTES("\x05\x01\x00\x05\x00\x00\x01\x0b\x00\x00\x01\x00\x50"),
	 BYTES(CHOICE REFUSAL("\x05\x07")), PROTO_FAIL, 0, "the request has an unknown command",
	 NULL, NULL, 0, 0},
	{"command 4 and a name",
	 BYTES("\x05\x01\x00\x05\x04\x00\x03\x01"
	       "a"
	       "\x00\x50"),
	 BYTES(CHOICE REFUSAL("\x05\x07")), PROTO_FAIL, 0, "the request has an unknown command",
	 NULL, NULL, 0, 0},
	{"command 9", BYTES("\x05\x01\x00\x05\x09\x00\x01\x0b\x00\x00\x01\x00\x50"),
	 BYTES(CHOICE REFUSAL("\x05\x07")), PROTO_FAIL, 0, "the request has an unknown command",
	 NULL, NULL, 0, 0},
	{"address type 2", BYTES("\x05\x01\x00\x05\x01\x00\x02\x0b\x00\x00\x01\x00\x50"),
	 BYTES(CHOICE REFUSAL("\x05\x08")), PROTO_FAIL, 10,
	 "the request has an unknown address type", NULL, NULL, 0, 0},
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct server_case *k = &cases[i];
		struct run r = {.want = NULL};
		struct result want;
		char addr[ADDR_TEXT_MAX];

		print_message("case: %s\n", k->what);
		run_pieces(&r, k->in, &k->in_len, 1);
		want = r.got;
		assert_int_equal(want.step, k->step);
		assert_int_equal(want.out_len, k->out_len);
		assert_memory_equal(want.out, k->out, k->out_len);
		assert_int_equal(k->in_len - want.consumed, k->payload);
		if (k->error != NULL)
			assert_string_equal(want.error, k->error);
		if (k->step == PROTO_DONE) {
			assert_int_equal(want.dest.name_len, k->name_len);
			assert_memory_equal(want.dest.name, k->name, k->name_len + 1);
			assert_int_equal(want.dest.port, k->port);
			if (k->addr == NULL)
				assert_int_equal(want.dest.addr.family, AF_UNSPEC);
			else
				assert_string_equal(
					addr_format(&want.dest.addr, addr, sizeof(addr)), k->addr);
		}
		r.want = &want;
		feed_every_split(run_pieces, &r, k->in, k->in_len);
	}
}

/* Every length at its maximum. */
static void test_longest_messages(void **state)
{
	uint8_t in[257 + 262 + 1];
	struct run r = {.want = NULL};
	struct result want;
	size_t n = sizeof(in);

	(void)state;
	memset(in, 0, sizeof(in));
	in[0] = 5;
	in[1] = 255;
	memcpy(in + 257, "\x05\x01\x00\x03\xff", 5);
	memset(in + 262, 'n', 255);
	run_pieces(&r, in, &n, 1);
	assert_int_equal(r.got.step, PROTO_DONE);
	assert_int_equal(r.got.consumed, sizeof(in) - 1);
	assert_int_equal(r.got.dest.name_len, 255);
	assert_int_equal(strlen(r.got.dest.name), 255);
	want = r.got;
	r.want = &want;
	for (size_t i = 0; i <= n; i++)
		run_pieces(&r, in, (size_t[]){i, n}, 2);
}

/* --- with passwords --- */

struct auth_case {
	const char *what;
	const uint8_t *in;
	size_t in_len;
	const uint8_t *out;
	size_t out_len;
	enum proto_step step;
	size_t payload;
	const char *error; /* PROTO_FAIL */
	bool unknown;
	bool asks; /* for this user and password */
	const char *user;
	size_t user_len;
	const char *password;
	size_t password_len;
	const char *verdict;
};

#define OFFER   "\x05\x01\x02"
#define CHOICE2 "\x05\x02"
#define LOGIN      \
	"\x01\x03" \
	"bob\x06"  \
	"secret"
#define KNOWN    "\x01\x00"
#define UNKNOWN  "\x01\x01"
#define NOBODY   false, NAME(""), NAME(""), NULL
#define BOB      true, NAME("bob"), NAME("secret")
#define NO_OFFER "the client offers no password"
#define WRONG    "wrong password"

static const struct auth_case auth_cases[] = {
	{"right", BYTES(OFFER LOGIN REQUEST4), BYTES(CHOICE2 KNOWN), PROTO_DONE, 0, NULL, false,
	 BOB, NULL},
	{"right, among other methods, with payload",
	 BYTES("\x05\x04\x00\x01\x02\x80" LOGIN REQUEST4 "GET /"), BYTES(CHOICE2 KNOWN), PROTO_DONE,
	 5, NULL, false, BOB, NULL},
	{"wrong", BYTES(OFFER LOGIN REQUEST4), BYTES(CHOICE2 UNKNOWN), PROTO_FAIL, 10, WRONG, true,
	 BOB, WRONG},
	{"empty ones", BYTES(OFFER "\x01\x00\x00"), BYTES(CHOICE2 UNKNOWN), PROTO_FAIL, 0, WRONG,
	 true, true, NAME(""), NAME(""), WRONG},
	{"bytes of any value", BYTES(OFFER "\x01\x02\0\xff\x02\n\0"), BYTES(CHOICE2 UNKNOWN),
	 PROTO_FAIL, 0, WRONG, true, true, NAME("\0\xff"), NAME("\n\0"), WRONG},
	{"right, then another command",
	 BYTES(OFFER LOGIN "\x05\x09\x00\x01\x0b\x00\x00\x01\x00\x50"),
	 BYTES(CHOICE2 KNOWN REFUSAL("\x05\x07")), PROTO_FAIL, 0,
	 "the request has an unknown command", false, BOB, NULL},
	{"no method", BYTES("\x05\x00"), BYTES("\x05\xff"), PROTO_FAIL, 0, NO_OFFER, true, NOBODY},
	{"only without password", BYTES("\x05\x01\x00" REQUEST4), BYTES("\x05\xff"), PROTO_FAIL, 10,
	 NO_OFFER, true, NOBODY},
	{"GSSAPI", BYTES("\x05\x01\x01"), BYTES("\x05\xff"), PROTO_FAIL, 0, NO_OFFER, true, NOBODY},
	{"a request instead", BYTES(OFFER REQUEST4), BYTES(CHOICE2 UNKNOWN), PROTO_FAIL, 10,
	 "the client sends no user and password", true, NOBODY},
	{"cut in the user",
	 BYTES(OFFER "\x01\x03"
		     "bo"),
	 BYTES(CHOICE2), PROTO_MORE, 4, NULL, false, NOBODY},
	{"cut before the password",
	 BYTES(OFFER "\x01\x03"
		     "bob"),
	 BYTES(CHOICE2), PROTO_MORE, 5, NULL, false, NOBODY},
	{"cut in the password",
	 BYTES(OFFER "\x01\x03"
		     "bob\x06"
		     "secre"),
	 BYTES(CHOICE2), PROTO_MORE, 11, NULL, false, NOBODY},
};

static void check_asked(struct socks5_server *s, const struct auth_case *k)
{
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	assert_true(k->asks);
	assert_int_equal(s->user_len, k->user_len);
	assert_memory_equal(s->user, k->user, k->user_len + 1);
	assert_int_equal(s->password_len, k->password_len);
	assert_memory_equal(s->password, k->password, k->password_len + 1);
	/* Nothing goes on before the verdict. */
	assert_int_equal(socks5_server_step(s, BYTES(REQUEST4), &used, out, &out_len), PROTO_MORE);
	assert_int_equal(used + out_len, 0);
	socks5_server_verdict(s, k->verdict);
	for (size_t i = 0; i < sizeof(s->password); i++)
		assert_int_equal(s->password[i], 0);
}

static void run_auth(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	const struct auth_case *k = ctx;
	enum proto_step step = PROTO_MORE;
	uint8_t out[SOCKS5_OUT_MAX], all[64];
	size_t used, n, at = 0, all_len = 0;
	struct socks5_server s;
	bool asked = false, again;

	memset(&s, 0xee, sizeof(s));
	socks5_server_init(&s, true);
	for (size_t i = 0; i < n_ends && step == PROTO_MORE; i++) {
		do {
			step = socks5_server_step(&s, bytes + at, ends[i] - at, &used, out, &n);
			at += used;
			memcpy(all + all_len, out, n);
			all_len += n;
			again = step == PROTO_SEND || socks5_server_asks(&s);
			if (socks5_server_asks(&s)) {
				check_asked(&s, k);
				asked = true;
			}
		} while (again);
	}
	assert_int_equal(asked, k->asks);
	assert_int_equal(step, k->step);
	assert_int_equal(k->in_len - at, k->payload);
	assert_int_equal(all_len, k->out_len);
	assert_memory_equal(all, k->out, all_len);
	assert_int_equal(s.unknown, k->unknown);
	if (k->error != NULL)
		assert_string_equal(s.error, k->error);
}

static void test_passwords(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(auth_cases); i++) {
		struct auth_case k = auth_cases[i];

		print_message("case: %s\n", k.what);
		feed_every_split(run_auth, &k, k.in, k.in_len);
	}
}

/* How far the handshake came, whatever became of it. */
static void test_progress(void **state)
{
	static const struct {
		const uint8_t *in;
		size_t in_len;
		bool passwords, by_password, agreed;
		enum socks5_address address;
		enum socks5_reply reply;
	} progress[] = {
		{BYTES(""), false, false, false, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x02"), false, false, false, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x00"), false, false, true, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x00"), true, false, false, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x02"), true, true, false, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x02\x01\x01u\x01p"), true, true, true, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x02\x01\x01u\x01q"), true, true, false, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x00\x05\x01\x00\x01\x0b\0\0\x01\0\x50"), false, false, true,
		 SOCKS5_ADDRESS_IPV4, 0},
		{BYTES("\x05\x01\x00\x05\x01\x00\x03\x01"
		       "a\0\x50"),
		 false, false, true, SOCKS5_ADDRESS_NAME, 0},
		{BYTES("\x05\x01\x00\x05\x01\x00\x04"
		       "0123456789abcdef\0\x50"),
		 false, false, true, SOCKS5_ADDRESS_IPV6, 0},
		{BYTES("\x05\x01\x00\x05\x01\x00\x04"
		       "0123456789abcdef\0"),
		 false, false, true, SOCKS5_ADDRESS_UNREAD, 0},
		{BYTES("\x05\x01\x00\x05\x01\x00\x05\x0b\0\0\x01\0\x50"), false, false, true,
		 SOCKS5_ADDRESS_UNREAD, SOCKS5_BAD_ADDRESS_TYPE},
		{BYTES("\x05\x01\x00\x05\x09\x00\x01\x0b\0\0\x01\0\x50"), false, false, true,
		 SOCKS5_ADDRESS_IPV4, SOCKS5_BAD_COMMAND},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(progress); i++) {
		const uint8_t *in = progress[i].in;
		uint8_t out[SOCKS5_OUT_MAX];
		size_t at = 0, used, n;
		struct socks5_server s;
		enum proto_step step;

		memset(&s, 0xee, sizeof(s));
		socks5_server_init(&s, progress[i].passwords);
		do {
			step = socks5_server_step(&s, in + at, progress[i].in_len - at, &used, out,
						  &n);
			at += used;
			if (socks5_server_asks(&s)) {
				socks5_server_verdict(&s, s.password[0] == 'p' ? NULL : "no");
				step = PROTO_SEND;
			}
		} while (step == PROTO_SEND);
		if (s.by_password != progress[i].by_password || s.agreed != progress[i].agreed ||
		    s.address != progress[i].address || s.reply != progress[i].reply)
			fail_msg("case %zu: %d %d %d %d", i, s.by_password, s.agreed, s.address,
				 s.reply);
	}
}

/* Everything at its longest: SOCKS5_REQUEST_MAX is enough for a buffer. */
static void test_longest_password(void **state)
{
	uint8_t in[SOCKS5_REQUEST_MAX] = {5, 255, 2}, out[SOCKS5_OUT_MAX];
	struct socks5_server s;
	size_t used, n, at;

	(void)state;
	memset(in + 257, 'x', 513);
	in[257] = 1;
	in[258] = in[258 + 256] = 255;
	memcpy(in + 770, "\x05\x01\x00\x03\xff", 5);
	memset(in + 775, 'n', 255);
	socks5_server_init(&s, true);
	assert_int_equal(socks5_server_step(&s, in, sizeof(in), &at, out, &n), PROTO_SEND);
	assert_int_equal(socks5_server_step(&s, in + at, sizeof(in) - at, &used, out, &n),
			 PROTO_MORE);
	at += used;
	assert_true(socks5_server_asks(&s));
	assert_int_equal(strlen(s.user), 255);
	assert_int_equal(strlen(s.password), 255);
	socks5_server_verdict(&s, NULL);
	assert_int_equal(socks5_server_step(&s, in + at, sizeof(in) - at, &used, out, &n),
			 PROTO_SEND);
	assert_int_equal(socks5_server_step(&s, in + at, sizeof(in) - at, &used, out, &n),
			 PROTO_DONE);
	assert_int_equal(at + used, sizeof(in));
}

static void test_reply(void **state)
{
	struct addr a;
	uint8_t out[SOCKS5_OUT_MAX];

	(void)state;
	assert_int_equal(socks5_server_reply(SOCKS5_NOT_ALLOWED, NULL, out), 10);
	assert_memory_equal(out, "\x05\x02\x00\x01\0\0\0\0\0\0", 10);
	assert_int_equal(addr_parse_endpoint(&a, "11.0.0.9:40000"), 0);
	assert_int_equal(socks5_server_reply(SOCKS5_SUCCEEDED, &a, out), 10);
	assert_memory_equal(out, "\x05\x00\x00\x01\x0b\x00\x00\x09\x9c\x40", 10);
	assert_int_equal(addr_parse_endpoint(&a, "[2a00:1::9]:40000"), 0);
	assert_int_equal(socks5_server_reply(SOCKS5_SUCCEEDED, &a, out), 22);
	assert_memory_equal(out, "\x05\x00\x00\x04\x2a\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x09\x9c\x40",
			    22);
}

static void test_end_is_final(void **state)
{
	struct socks5_server s;
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	(void)state;
	socks5_server_init(&s, false);
	assert_int_equal(socks5_server_step(&s, BYTES("\x04"), &used, out, &out_len), PROTO_FAIL);
	assert_int_equal(socks5_server_step(&s, BYTES("\x05\x01\x00"), &used, out, &out_len),
			 PROTO_FAIL);
	assert_int_equal(used + out_len, 0);

	socks5_server_init(&s, false);
	assert_int_equal(socks5_server_step(&s, BYTES("\x05\x01\x00"), &used, out, &out_len),
			 PROTO_SEND);
	assert_int_equal(socks5_server_step(&s, BYTES(REQUEST4), &used, out, &out_len), PROTO_DONE);
	assert_int_equal(socks5_server_step(&s, BYTES(REQUEST4), &used, out, &out_len), PROTO_DONE);
	assert_int_equal(used + out_len, 0);
}

/* Our client against our server, `chunk` bytes at a time each way. */
static void converse(const char *user, const struct proto_dest *dest, enum socks5_reply reply,
		     const struct addr *bound, size_t chunk)
{
	struct socks5_client c;
	struct socks5_server s;
	uint8_t up[1024], down[1024], out[SOCKS5_OUT_MAX];
	size_t up_len = 0, down_len = 0, up_at = 0, down_at = 0, up_end = 0, down_end = 0;
	enum proto_step cs = PROTO_MORE, ss = PROTO_MORE;
	size_t used, n;

	socks5_client_init(&c, user, "secret", dest);
	socks5_server_init(&s, false);
	for (int turn = 0; turn < 2000 && (cs == PROTO_MORE || cs == PROTO_SEND); turn++) {
		cs = socks5_client_step(&c, down + down_at, down_end - down_at, &used, out, &n);
		memcpy(up + up_len, out, n);
		up_len += n;
		down_at += used;
		up_end = up_end + chunk < up_len ? up_end + chunk : up_len;
		if (ss != PROTO_DONE) {
			ss = socks5_server_step(&s, up + up_at, up_end - up_at, &used, out, &n);
			assert_int_not_equal(ss, PROTO_FAIL);
			up_at += used;
			if (ss == PROTO_DONE)
				n = socks5_server_reply(reply, bound, out);
			memcpy(down + down_len, out, n);
			down_len += n;
		}
		down_end = down_end + chunk < down_len ? down_end + chunk : down_len;
	}
	assert_int_equal(ss, PROTO_DONE);
	assert_memory_equal(&s.dest.addr, &dest->addr, sizeof(dest->addr));
	assert_int_equal(s.dest.port, dest->port);
	assert_int_equal(s.dest.name_len, dest->name_len);
	assert_memory_equal(s.dest.name, dest->name, dest->name_len + 1u);
	if (reply != SOCKS5_SUCCEEDED) {
		assert_int_equal(cs, PROTO_FAIL);
		assert_int_equal(c.reply, reply);
		return;
	}
	assert_int_equal(cs, PROTO_DONE);
	assert_int_equal(up_at, up_len);
	assert_int_equal(down_at, down_len);
	assert_memory_equal(&c.bound, bound, sizeof(*bound));
}

static void test_client_meets_server(void **state)
{
	static const char *const dests[] = {"11.0.0.1:80", "[2a00:1::7]:8080"};
	static const char *const bounds[] = {"11.0.0.9:40000", "[2a00:1::9]:40000"};
	static const char *const users[] = {"", "bob"};

	(void)state;
	for (size_t i = 0; i < 2 * 2 * 3 * 16 * 9; i++) {
		const char *user = users[i % 2];
		size_t b = i / 2 % 2, d = i / 4 % 3, chunk = 1 + i / 12 % 16;
		enum socks5_reply reply = (enum socks5_reply)(i / 192);
		struct proto_dest dest = {.port = 443, .name_len = 8, .name = "host.lan"};
		struct addr bound;

		if (d < ARRAY_LEN(dests)) {
			dest = (struct proto_dest){.name_len = 0};
			assert_int_equal(addr_parse_endpoint(&dest.addr, dests[d]), 0);
			dest.port = dest.addr.port;
		}
		assert_int_equal(addr_parse_endpoint(&bound, bounds[b]), 0);
		converse(user, &dest, reply, &bound, chunk);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),        cmocka_unit_test(test_longest_messages),
		cmocka_unit_test(test_passwords),    cmocka_unit_test(test_longest_password),
		cmocka_unit_test(test_progress),     cmocka_unit_test(test_reply),
		cmocka_unit_test(test_end_is_final), cmocka_unit_test(test_client_meets_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
