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

struct result {
	enum proto_step step;
	size_t consumed;
	uint8_t out[2 * SOCKS5_OUT_MAX];
	size_t out_len;
	const char *error;
	struct proto_dest dest;
	char user[256];
};

struct run {
	const struct result *want; /* NULL: keep what comes */
	struct result got;
};

static void check_same(const struct result *got, const struct result *want)
{
	assert_int_equal(got->step, want->step);
	assert_int_equal(got->consumed, want->consumed);
	assert_int_equal(got->out_len, want->out_len);
	assert_memory_equal(got->out, want->out, got->out_len);
	assert_ptr_equal(got->error, want->error);
	assert_memory_equal(&got->dest.addr, &want->dest.addr, sizeof(got->dest.addr));
	assert_int_equal(got->dest.port, want->dest.port);
	assert_int_equal(got->dest.name_len, want->dest.name_len);
	assert_string_equal(got->dest.name, want->dest.name);
	assert_string_equal(got->user, want->user);
}

static void run_pieces(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct run *r = ctx;
	struct result *got = &r->got;
	struct socks_server s;
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	memset(got, 0, sizeof(*got));
	memset(&s, 0xee, sizeof(s));
	socks_server_init(&s, false);
	for (size_t i = 0; i < n_ends; i++) {
		do {
			/* A copy of just what is there, so that sanitizers see each byte beyond. */
			size_t n = ends[i] - got->consumed;
			uint8_t *in = test_malloc(n + 1);

			memcpy(in + 1, bytes + got->consumed, n);
			got->step = socks_server_step(&s, in + 1, n, &used, out, &out_len);
			test_free(in);
			assert_true(used <= n);
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
		const struct proto_dest *dest = socks_server_dest(&s);

		got->dest.addr = dest->addr;
		got->dest.port = dest->port;
		got->dest.name_len = dest->name_len;
		memcpy(got->dest.name, dest->name, dest->name_len + 1u);
		strcpy(got->user, socks_server_user(&s));
	}
	if (r->want != NULL)
		check_same(got, r->want);
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
	const char *user;
	uint16_t port;
};

#define REQUEST  "\x04\x01\x00\x50\x0b\x00\x00\x01"
#define NAMED    "\x04\x01\x01\xbb\x00\x00\x00\x01"
#define REJECTED "\x00\x5b\x00\x00\x00\x00\x00\x00"
#define N16      "0123456789abcdef"
#define N255     N16 N16 N16 N16 N16 N16 N16 N16 N16 N16 N16 N16 N16 N16 N16 "0123456789abcde"
#define V5(cmd)  "\x05" cmd "\x00\x01\x0b\x00\x00\x01\x00\x50"
#define COMMAND  "the request has an unknown command"

static const struct server_case cases[] = {
	{"address", BYTES(REQUEST "\0"), BYTES(""), PROTO_DONE, 0, NULL, "11.0.0.1:80", "", "", 80},
	{"user id", BYTES(REQUEST "bob\0"), BYTES(""), PROTO_DONE, 0, NULL, "11.0.0.1:80", "",
	 "bob", 80},
	{"longest user id", BYTES(REQUEST N255 "\0"), BYTES(""), PROTO_DONE, 0, NULL, "11.0.0.1:80",
	 "", N255, 80},
	{"payload sent ahead", BYTES(REQUEST "bob\0GET /"), BYTES(""), PROTO_DONE, 5, NULL,
	 "11.0.0.1:80", "", "bob", 80},
	{"name", BYTES(NAMED "\0host.lan\0"), BYTES(""), PROTO_DONE, 0, NULL, NULL, "host.lan", "",
	 443},
	{"name, user id and payload", BYTES(NAMED "bob\0host.lan\0\0\0"), BYTES(""), PROTO_DONE, 2,
	 NULL, NULL, "host.lan", "bob", 443},
	{"longest name", BYTES(NAMED "\0" N255 "\0"), BYTES(""), PROTO_DONE, 0, NULL, NULL, N255,
	 "", 443},
	{"both at their longest", BYTES(NAMED N255 "\0" N255 "\0"), BYTES(""), PROTO_DONE, 0, NULL,
	 NULL, N255, N255, 443},
	{"a literal as a name",
	 BYTES(NAMED "\0"
		     "11.0.0.1\0"),
	 BYTES(""), PROTO_DONE, 0, NULL, NULL, "11.0.0.1", "", 443},
	{"empty name", BYTES(NAMED "\0\0"), BYTES(""), PROTO_DONE, 0, NULL, NULL, "", "", 443},
	{"0.0.0.0 announces no name", BYTES("\x04\x01\x00\x50\0\0\0\0\0host.lan\0"), BYTES(""),
	 PROTO_DONE, 9, NULL, "0.0.0.0:80", "", "", 80},
	{"0.0.0.255 does",
	 BYTES("\x04\x01\x00\x50\0\0\0\xff\0"
	       "a\0"),
	 BYTES(""), PROTO_DONE, 0, NULL, NULL, "a", "", 80},
	{"0.0.1.0 does not", BYTES("\x04\x01\x00\x50\0\0\1\0\0"), BYTES(""), PROTO_DONE, 0, NULL,
	 "0.0.1.0:80", "", "", 80},
	{"port 0", BYTES("\x04\x01\x00\x00\x0b\x00\x00\x01\0"), BYTES(""), PROTO_DONE, 0, NULL,
	 "11.0.0.1:0", "", "", 0},

	{"nothing came", BYTES(""), BYTES(""), PROTO_MORE, 0, NULL, NULL, NULL, NULL, 0},
	{"cut in the address", BYTES("\x04\x01\x00\x50\x0b\x00\x00"), BYTES(""), PROTO_MORE, 7,
	 NULL, NULL, NULL, NULL, 0},
	{"cut in the user id", BYTES(REQUEST "bob"), BYTES(""), PROTO_MORE, 11, NULL, NULL, NULL,
	 NULL, 0},
	{"cut in the name", BYTES(NAMED "bob\0host"), BYTES(""), PROTO_MORE, 16, NULL, NULL, NULL,
	 NULL, 0},

	{"command 3", BYTES("\x04\x03\x00\x50\x0b\x00\x00\x01\0"), BYTES(REJECTED), PROTO_FAIL, 0,
	 COMMAND, NULL, NULL, NULL, 0},
	{"command 3 and a name", BYTES("\x04\x03\x00\x50\0\0\0\x01\0a\0"), BYTES(REJECTED),
	 PROTO_FAIL, 0, COMMAND, NULL, NULL, NULL, 0},
	{"command 0", BYTES("\x04\x00\x00\x50\x0b\x00\x00\x01\0"), BYTES(REJECTED), PROTO_FAIL, 0,
	 COMMAND, NULL, NULL, NULL, 0},
	{"user id too long", BYTES(REQUEST N255 "x"), BYTES(REJECTED), PROTO_FAIL, 264,
	 "the user id is longer than 255 bytes", NULL, NULL, NULL, 0},
	{"name too long", BYTES(NAMED "bob\0" N255 "x"), BYTES(REJECTED), PROTO_FAIL, 268,
	 "the name is longer than 255 bytes", NULL, NULL, NULL, 0},
	{"HTTP", BYTES("GET / HTTP/1.1\r\n"), BYTES(""), PROTO_FAIL, 16,
	 "the client does not speak SOCKS", NULL, NULL, NULL, 0},
	{"version 0", BYTES("\0\x5a"), BYTES(""), PROTO_FAIL, 2, "the client does not speak SOCKS",
	 NULL, NULL, NULL, 0},

	{"version 5", BYTES("\x05\x01\x00\x05\x01\x00\x01\x0b\x00\x00\x01\x00\x50"),
	 BYTES("\x05\x00"), PROTO_DONE, 0, NULL, "11.0.0.1:80", "", "", 80},
	{"version 5, GSSAPI only", BYTES("\x05\x01\x01"), BYTES("\x05\xff"), PROTO_FAIL, 0,
	 "the client offers no method that is served", NULL, NULL, NULL, 0},
};

static void check_case(const struct server_case *k, const struct result *got)
{
	char addr[ADDR_TEXT_MAX];

	assert_int_equal(got->step, k->step);
	assert_int_equal(got->out_len, k->out_len);
	assert_memory_equal(got->out, k->out, k->out_len);
	assert_int_equal(k->in_len - got->consumed, k->payload);
	if (k->error != NULL)
		assert_string_equal(got->error, k->error);
	if (k->step != PROTO_DONE)
		return;
	assert_string_equal(got->dest.name, k->name);
	assert_int_equal(got->dest.name_len, strlen(k->name));
	assert_string_equal(got->user, k->user);
	assert_int_equal(got->dest.port, k->port);
	if (k->addr == NULL)
		assert_int_equal(got->dest.addr.family, AF_UNSPEC);
	else
		assert_string_equal(addr_format(&got->dest.addr, addr, sizeof(addr)), k->addr);
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct server_case *k = &cases[i];
		struct run r = {.want = NULL};
		struct result want;

		print_message("case: %s\n", k->what);
		run_pieces(&r, k->in, &k->in_len, 1);
		want = r.got;
		check_case(k, &want);
		r.want = &want;
		feed_every_split(run_pieces, &r, k->in, k->in_len);
	}
}

static void test_reply(void **state)
{
	struct socks_server s = {.version = 4};
	uint8_t out[SOCKS5_OUT_MAX];
	struct addr a;

	(void)state;
	assert_int_equal(addr_parse_endpoint(&a, "11.0.0.9:40000"), 0);
	assert_int_equal(socks_server_reply(&s, SOCKS5_SUCCEEDED, &a, out), 8);
	assert_memory_equal(out, "\x00\x5a\x9c\x40\x0b\x00\x00\x09", 8);
	assert_int_equal(addr_parse_endpoint(&a, "[2a00:1::9]:40000"), 0);
	assert_int_equal(socks_server_reply(&s, SOCKS5_SUCCEEDED, &a, out), 8);
	assert_memory_equal(out, "\x00\x5a\0\0\0\0\0\0", 8);
	for (enum socks5_reply r = SOCKS5_GENERAL_FAILURE; r <= SOCKS5_BAD_ADDRESS_TYPE; r++) {
		assert_int_equal(socks_server_reply(&s, r, NULL, out), 8);
		assert_memory_equal(out, REJECTED, 8);
	}
	s.version = 5;
	assert_int_equal(socks_server_reply(&s, SOCKS5_REFUSED, NULL, out), 10);
	assert_memory_equal(out, "\x05\x05\x00\x01\0\0\0\0\0\0", 10);
}

static void test_end_is_final(void **state)
{
	struct socks_server s;
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;

	(void)state;
	socks_server_init(&s, false);
	assert_int_equal(socks_server_step(&s, BYTES("G"), &used, out, &out_len), PROTO_FAIL);
	assert_int_equal(socks_server_step(&s, BYTES(REQUEST "\0"), &used, out, &out_len),
			 PROTO_FAIL);
	assert_int_equal(used + out_len, 0);
	socks_server_init(&s, false);
	assert_int_equal(
		socks_server_step(&s, BYTES("\x04\x03\0\0\0\0\0\0\0"), &used, out, &out_len),
		PROTO_FAIL);
	assert_int_equal(socks_server_step(&s, BYTES(REQUEST "\0"), &used, out, &out_len),
			 PROTO_FAIL);
	assert_int_equal(used + out_len, 0);
	socks_server_init(&s, false);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(socks_server_step(&s, BYTES(REQUEST "\0"), &used, out, &out_len),
				 PROTO_DONE);
		assert_int_equal(used, i == 0 ? 9 : 0);
	}
}

/* Our own client asks, in every piece length. */
static void test_client_meets_server(void **state)
{
	static const char *const dests[] = {"11.0.0.1:80", "[2a00:1::7]:8080", "host.lan",
					    "0.0.0.9:80"};

	(void)state;
	for (size_t i = 0; i < 4 * 2 * 30; i++) {
		const char *user = i % 2 > 0 ? "bob" : "", *text = dests[i / 2 % 4];
		struct proto_dest dest = {.port = 443, .name_len = 8, .name = "host.lan"};
		struct socks4_client c;
		struct socks_server s;
		uint8_t up[SOCKS4_OUT_MAX], out[SOCKS5_OUT_MAX];
		size_t up_len, used, n, at = 0, chunk = 1 + i / 8;
		enum proto_step step = PROTO_MORE;
		char name[ADDR_TEXT_MAX];

		if (strcmp(text, dest.name) != 0) {
			dest = (struct proto_dest){.name_len = 0};
			assert_int_equal(addr_parse_endpoint(&dest.addr, text), 0);
			dest.port = dest.addr.port;
			addr_format_ip(&dest.addr, name, sizeof(name));
		} else {
			strcpy(name, dest.name);
		}
		socks4_client_init(&c, user);
		socks4_client_dest(&c, &dest);
		assert_int_equal(socks4_client_step(&c, NULL, 0, &used, up, &up_len), PROTO_SEND);
		socks_server_init(&s, false);
		for (size_t end = 0; end < up_len && step == PROTO_MORE; at += used) {
			end = end + chunk < up_len ? end + chunk : up_len;
			step = socks_server_step(&s, up + at, end - at, &used, out, &n);
		}
		assert_int_equal(step, PROTO_DONE);
		assert_int_equal(at, up_len);
		assert_string_equal(socks_server_user(&s), user);
		assert_int_equal(socks_server_dest(&s)->port, dest.port);
		if (strcmp(text, dests[0]) == 0)
			assert_memory_equal(&socks_server_dest(&s)->addr, &dest.addr,
					    sizeof(dest.addr));
		else
			assert_string_equal(socks_server_dest(&s)->name, name);
		n = socks_server_reply(&s, SOCKS5_SUCCEEDED, NULL, out);
		assert_int_equal(socks4_client_step(&c, out, n, &used, up, &up_len), PROTO_DONE);
	}
}

/* Which protocol and command a request is, as the record has it. */
static void test_commands(void **state)
{
	static const struct {
		const uint8_t *in;
		size_t len;
		enum socks_protocol protocol;
		enum socks5_command command;
	} requests[] = {
		{BYTES("\x04\x01\x00\x50\x0b\x00\x00\x01\0"), SOCKS_PROTOCOL_4, SOCKS5_CONNECT},
		{BYTES("\x04\x02\x00\x50\x0b\x00\x00\x01\0"), SOCKS_PROTOCOL_4, SOCKS5_BIND},
		{BYTES("\x04\x02\x00\x50\0\0\0\x01\0a\0"), SOCKS_PROTOCOL_4A, SOCKS5_BIND},
		{BYTES("\x05\x01\x00" V5("\x01")), SOCKS_PROTOCOL_5, SOCKS5_CONNECT},
		{BYTES("\x05\x01\x00" V5("\x02")), SOCKS_PROTOCOL_5, SOCKS5_BIND},
		{BYTES("\x05\x01\x00" V5("\x03")), SOCKS_PROTOCOL_5, SOCKS5_UDP_ASSOCIATE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct socks_server s;
		uint8_t out[SOCKS5_OUT_MAX];
		size_t at = 0, used, n;
		enum proto_step step;

		memset(&s, 0xee, sizeof(s));
		socks_server_init(&s, false);
		do {
			step = socks_server_step(&s, requests[i].in + at, requests[i].len - at,
						 &used, out, &n);
			at += used;
		} while (step == PROTO_SEND);
		assert_int_equal(step, PROTO_DONE);
		assert_int_equal(socks_server_protocol(&s), requests[i].protocol);
		assert_int_equal(socks_server_command(&s), requests[i].command);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_reply),
		cmocka_unit_test(test_end_is_final),
		cmocka_unit_test(test_client_meets_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
