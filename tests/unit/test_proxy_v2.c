/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/proto/proxy_v2.h"
#include "tests/unit/feed.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

#define SIGNATURE "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
#define V4        "\xc0\x00\x02\x01\x0b\x00\x00\x01\x9c\x40\x01\xbb" /* 192.0.2.1:40000 to 11.0.0.1:443 */
#define CLIENT6   "\xfd\x91\0\0\0\0\0\0\0\0\0\0\0\0\0\x05"
#define DEST6     "\x2a\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x07"
#define MAPPED4   "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
#define PORTS     "\x9c\x40\x01\xbb"
#define NAME_TLV       \
	"\x02\x00\x09" \
	"a.example"
#define ZEROS_108                                                                                  \
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static struct addr endpoint(const char *text)
{
	struct addr a = {.family = AF_UNSPEC};

	if (text[0] != '\0')
		assert_int_equal(addr_parse_endpoint(&a, text), 0);
	return a;
}

static void write_cases(void **state)
{
	static const struct {
		const char *client, *dest, *authority;
		const uint8_t *want;
		size_t n;
	} cases[] = {
		{"192.0.2.1:40000", "11.0.0.1:443", NULL, BYTES(SIGNATURE "\x21\x11\x00\x0c" V4)},
		{"192.0.2.1:40000", "11.0.0.1:443", "", BYTES(SIGNATURE "\x21\x11\x00\x0c" V4)},
		{"192.0.2.1:40000", "11.0.0.1:443", "a.example",
		 BYTES(SIGNATURE "\x21\x11\x00\x18" V4 NAME_TLV)},
		{"[fd91::5]:40000", "[2a00:1::7]:443", "a.example",
		 BYTES(SIGNATURE "\x21\x21\x00\x30" CLIENT6 DEST6 PORTS NAME_TLV)},
		{"192.0.2.1:40000", "[2a00:1::7]:443", NULL,
		 BYTES(SIGNATURE "\x21\x21\x00\x24" MAPPED4 DEST6 PORTS)},
		{"[fd91::5]:40000", "192.0.2.1:443", NULL,
		 BYTES(SIGNATURE "\x21\x21\x00\x24" CLIENT6 MAPPED4 PORTS)},
	};
	uint8_t out[PROXY_V2_OUT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr client = endpoint(cases[i].client), dest = endpoint(cases[i].dest);

		memset(out, 0xee, sizeof(out));
		assert_int_equal(proxy_v2_write(out, &client, &dest, cases[i].authority),
				 cases[i].n);
		assert_memory_equal(out, cases[i].want, cases[i].n);
	}
	assert_int_equal(proxy_v2_write_local(out), 16);
	assert_memory_equal(out, SIGNATURE "\x20\x00\x00\x00", 16);
}

struct outcome {
	enum proxy_v2_result result;
	struct proxy_v2 p;
	size_t used;
};

struct run {
	const struct outcome *want; /* NULL: keep what comes */
	struct outcome got;
};

static void run_pieces(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct run *r = ctx;
	struct outcome *got = &r->got;

	memset(got, 0, sizeof(*got));
	for (size_t i = 0; i < n_ends; i++) {
		uint8_t *in = malloc(ends[i] + 1); /* not cmocka's, which has guards behind */

		memcpy(in + 1, bytes, ends[i]);
		memset(&got->p, 0xee, sizeof(got->p));
		got->used = 0;
		got->result = proxy_v2_parse(&got->p, in + 1, ends[i], &got->used);
		free(in);
		if (got->result != PROXY_V2_DONE)
			assert_int_equal(got->used, 0);
		if (got->result != PROXY_V2_MORE)
			break;
	}
	if (r->want == NULL)
		return;
	assert_int_equal(got->result, r->want->result);
	assert_int_equal(got->used, r->want->used);
	assert_ptr_equal(got->p.error, r->want->p.error);
	if (got->result == PROXY_V2_DONE) {
		assert_true(addr_equal(&got->p.client, &r->want->p.client));
		assert_true(addr_equal(&got->p.dest, &r->want->p.dest));
		assert_string_equal(got->p.authority, r->want->p.authority);
		assert_int_equal(got->p.local, r->want->p.local);
	}
}

static void run_case(struct outcome *o, const uint8_t *bytes, size_t n)
{
	struct run whole = {.want = NULL}, pieces = {.want = &whole.got};

	run_pieces(&whole, bytes, &n, 1);
	feed_every_split(run_pieces, &pieces, bytes, n);
	*o = whole.got;
}

struct parse_case {
	const uint8_t *in;
	size_t n;
	const char *error; /* or, where it is NULL, */
	const char *client, *dest, *authority;
	bool local, more;
	size_t payload; /* behind the header */
};

#define FAILS(s, e)                                            \
	{                                                      \
		BYTES(s), e, NULL, NULL, NULL, false, false, 0 \
	}
#define MORE(s)                                                  \
	{                                                        \
		BYTES(s), NULL, NULL, NULL, NULL, false, true, 0 \
	}
#define LOCAL(s, p)                                        \
	{                                                  \
		BYTES(s), NULL, "", "", "", true, false, p \
	}
#define SAYS_NOTHING(s, p)                                  \
	{                                                   \
		BYTES(s), NULL, "", "", "", false, false, p \
	}
#define SAYS4(s, name, p)                                                                \
	{                                                                                \
		BYTES(s), NULL, "192.0.2.1:40000", "11.0.0.1:443", name, false, false, p \
	}

#define NO_HEADER "no PROXY protocol header"
#define TEXT_V1   "version 1 of the PROXY protocol"
#define VERSION   "an unknown version of the PROXY protocol"
#define COMMAND   "an unknown command in the PROXY protocol header"
#define FAMILY    "an unknown address family in the PROXY protocol header"
#define TOO_LONG  "the PROXY protocol header is too long"
#define TOO_SHORT "the PROXY protocol header is too short for its addresses"
#define MALFORMED "the PROXY protocol header is malformed"
#define TWO_NAMES "two names in the PROXY protocol header"

static const struct parse_case parse_cases[] = {
	SAYS4(SIGNATURE "\x21\x11\x00\x0c" V4, "", 0),
	SAYS4(SIGNATURE "\x21\x11\x00\x0c" V4 "\x05\x01\x00", "", 3),
	SAYS4(SIGNATURE "\x21\x11\x00\x18" V4 NAME_TLV "x", "a.example", 1),
	/* Other TLVs around it: ALPN, a checksum, padding, one of a vendor's. */
	SAYS4(SIGNATURE "\x21\x11\x00\x31" V4 "\x01\x00\x02h2"
			"\x03\x00\x04\x01\x02\x03\x04" NAME_TLV "\x04\x00\x01\x00"
			"\xea\x00\x06"
			"\x01vpce-",
	      "a.example", 0),
	SAYS4(SIGNATURE "\x21\x11\x00\x18" V4 "\x02\x00\x09"
			"A.EXAMPLE",
	      "a.example", 0),
	SAYS4(SIGNATURE "\x21\x11\x00\x0f" V4 "\x02\x00\x00", "", 0),
	SAYS4(SIGNATURE "\x21\x11\x00\x18" V4 "\x02\x00\x09"
			"a\nexample",
	      "", 0),
	SAYS4(SIGNATURE "\x21\x11\x00\x18" V4 "\x02\x00\x09"
			"192.0.2.1",
	      "", 0),
	SAYS4(SIGNATURE "\x21\x11\x00\x18" V4 "\x02\x00\x09"
			"a\0example",
	      "", 0),
	{BYTES(SIGNATURE "\x21\x21\x00\x30" CLIENT6 DEST6 PORTS NAME_TLV), NULL, "[fd91::5]:40000",
	 "[2a00:1::7]:443", "a.example", false, false, 0},
	{BYTES(SIGNATURE "\x21\x21\x00\x24" MAPPED4 DEST6 PORTS), NULL, "192.0.2.1:40000",
	 "[2a00:1::7]:443", "", false, false, 0},

	LOCAL(SIGNATURE "\x20\x00\x00\x00", 0),
	LOCAL(SIGNATURE "\x20\x00\x00\x00"
			"GET",
	      3),
	LOCAL(SIGNATURE "\x20\x11\x00\x0c" V4, 0),
	LOCAL(SIGNATURE "\x20\x11\x00\x03"
			"\x02\x00\x05",
	      0),
	SAYS_NOTHING(SIGNATURE "\x21\x00\x00\x00"
			       "x",
		     1),
	SAYS_NOTHING(SIGNATURE "\x21\x00\x00\x05"
			       "\x02\x00\xff\x01\x02",
		     0),
	SAYS_NOTHING(SIGNATURE "\x21\x01\x00\x01"
			       "\xff",
		     0),
	SAYS_NOTHING(SIGNATURE "\x21\x10\x00\x0c" V4, 0),
	SAYS_NOTHING(SIGNATURE "\x21\x12\x00\x0c" V4, 0),
	SAYS_NOTHING(SIGNATURE "\x21\x31\x00\xd8" ZEROS_108 ZEROS_108 "x", 1),

	MORE(""),
	MORE("\r"),
	MORE("P"),
	MORE("PROX"),
	MORE(SIGNATURE),
	MORE(SIGNATURE "\x21"),
	MORE(SIGNATURE "\x21\x11\x00"),
	MORE(SIGNATURE "\x21\x11\x00\x0c"),
	MORE(SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\x0b\x00\x00\x01\x9c\x40\x01"),
	MORE(SIGNATURE "\x20\x00\x00\x01"),
	MORE(SIGNATURE "\x21\x11\x07\xf0" V4),

	FAILS("PROXY TCP4 192.0.2.1 11.0.0.1 40000 443\r\n", TEXT_V1),
	FAILS("PROXX", NO_HEADER),
	FAILS("\x05\x01\x00", NO_HEADER),
	FAILS("\r\n\r\n\0\r\nQUIt\n", NO_HEADER),
	FAILS(SIGNATURE "\x11\x11", VERSION),
	FAILS(SIGNATURE "\x31", VERSION),
	FAILS(SIGNATURE "\x22\x11", COMMAND),
	FAILS(SIGNATURE "\x2f", COMMAND),
	FAILS(SIGNATURE "\x21\x41", FAMILY),
	FAILS(SIGNATURE "\x21\x13", FAMILY),
	FAILS(SIGNATURE "\x21\x11\x07\xf1", TOO_LONG),
	FAILS(SIGNATURE "\x21\x11\xff\xff", TOO_LONG),
	FAILS(SIGNATURE "\x20\x00\xff\xff", TOO_LONG),
	FAILS(SIGNATURE "\x21\x11\x00\x0b" V4, TOO_SHORT),
	FAILS(SIGNATURE "\x21\x21\x00\x23" CLIENT6 DEST6 PORTS, TOO_SHORT),
	FAILS(SIGNATURE "\x21\x31\x00\xd7", TOO_SHORT),
	FAILS(SIGNATURE "\x21\x11\x00\x0d" V4 "\x04", MALFORMED),
	FAILS(SIGNATURE "\x21\x11\x00\x0e" V4 "\x04\x00", MALFORMED),
	FAILS(SIGNATURE "\x21\x11\x00\x0f" V4 "\x04\x00\x01", MALFORMED),
	FAILS(SIGNATURE "\x21\x11\x00\x17" V4 NAME_TLV, MALFORMED),
	FAILS(SIGNATURE "\x21\x11\x00\x24" V4 NAME_TLV NAME_TLV, TWO_NAMES),
	FAILS(SIGNATURE "\x21\x11\x00\x1b" V4 "\x02\x00\x00" NAME_TLV, TWO_NAMES),
};

static void parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(parse_cases); i++) {
		const struct parse_case *c = &parse_cases[i];
		struct addr client, dest;
		struct outcome o;

		run_case(&o, c->in, c->n);
		if (o.result != (c->error != NULL ? PROXY_V2_FAIL
				 : c->more        ? PROXY_V2_MORE
						  : PROXY_V2_DONE))
			fail_msg("row %zu: %d, %s", i, o.result, o.p.error);
		if (c->error != NULL) {
			assert_string_equal(o.p.error, c->error);
			continue;
		}
		if (c->more)
			continue;
		client = endpoint(c->client);
		dest = endpoint(c->dest);
		assert_true(addr_equal(&o.p.client, &client));
		assert_true(addr_equal(&o.p.dest, &dest));
		assert_string_equal(o.p.authority, c->authority);
		assert_int_equal(o.p.local, c->local);
		assert_int_equal(o.used, c->n - c->payload);
	}
}

/* What is written is what is read, with the longest name, too. */
static void both(void **state)
{
	static const char *const endpoints[] = {"192.0.2.1:0", "11.0.0.1:65535", "[fd91::5]:40000",
						"[2a00:1::7]:443"};
	char longest[NAME_MAX_LEN + 1];
	uint8_t out[PROXY_V2_OUT_MAX];

	(void)state;
	for (size_t i = 0; i < NAME_MAX_LEN; i++)
		longest[i] = i % 50 == 49 ? '.' : 'a';
	longest[NAME_MAX_LEN] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(endpoints) * ARRAY_LEN(endpoints); i++) {
		struct addr client = endpoint(endpoints[i % ARRAY_LEN(endpoints)]);
		struct addr dest = endpoint(endpoints[i / ARRAY_LEN(endpoints)]);
		const char *authority = i % 3 == 0 ? longest : i % 3 == 1 ? "a.example" : "";
		size_t n = proxy_v2_write(out, &client, &dest, authority), used;
		struct proxy_v2 p;

		assert_int_equal(proxy_v2_parse(&p, out, n, &used), PROXY_V2_DONE);
		assert_int_equal(used, n);
		assert_true(addr_equal(&p.client, &client));
		assert_true(addr_equal(&p.dest, &dest));
		assert_string_equal(p.authority, authority);
		assert_false(p.local);
	}
}

/* For tests/e2e/test_proxy_v2.py, which asks haproxy: "write CLIENT DEST [NAME]" and "write local" print a header,
 * "parse HEX" what a header says and how many bytes it has. */
static int by_hand(char **argv)
{
	uint8_t bytes[PROXY_V2_OUT_MAX + PROXY_V2_IN_MAX];
	size_t n = 0, used = 0;
	struct proxy_v2 p;
	char client[ADDR_TEXT_MAX], dest[ADDR_TEXT_MAX];
	struct addr from, to;

	if (strcmp(argv[1], "write") == 0 && strcmp(argv[2], "local") == 0) {
		n = proxy_v2_write_local(bytes);
	} else if (strcmp(argv[1], "write") == 0) {
		from = endpoint(argv[2]);
		to = endpoint(argv[3]);
		n = proxy_v2_write(bytes, &from, &to, argv[4]);
	} else {
		for (const char *at = argv[2];
		     sscanf(at, "%2hhx", bytes + n) == 1 && n < sizeof(bytes) - 1; at += 2)
			n++;
		if (proxy_v2_parse(&p, bytes, n, &used) != PROXY_V2_DONE)
			return 1;
		printf("%s %s %s %zu\n",
		       p.local ? "local" : addr_format(&p.client, client, sizeof(client)),
		       p.local ? "local" : addr_format(&p.dest, dest, sizeof(dest)),
		       p.authority[0] != '\0' ? p.authority : "-", used);
	}
	for (size_t i = 0; i < n && used == 0; i++)
		printf("%02x", bytes[i]);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(write_cases),
		cmocka_unit_test(parse),
		cmocka_unit_test(both),
	};

	if (argc > 2)
		return by_hand(argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
