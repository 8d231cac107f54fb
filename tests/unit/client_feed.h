/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Cases of a client's handshake: what it says, and what it makes of an upstream's bytes in every split.
 * Include after <cmocka.h>.
 */
#include <string.h>

#include "daemon/proto/client.h"
#include "tests/unit/feed.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

struct client_case {
	const char *what;
	const char *user, *dest; /* dest: an endpoint, or a name (port 443) */
	const uint8_t *in;
	size_t in_len;
	const uint8_t *out;
	size_t out_len;
	enum proto_step step;
	size_t payload; /* bytes at the end that must be left alone */
	unsigned reply;
	const char *error;
	enum proto_blame blame;
	bool closed; /* then the upstream closes */
};

struct client_got {
	enum proto_step step;
	size_t consumed, out_len;
	uint8_t out[2 * PROTO_OUT_MAX];
	unsigned reply;
	const char *error;
	enum proto_blame blame;
};

struct client_run {
	enum proxy_scheme scheme;
	const char *user, *password;
	struct proto_dest dest;
	bool closed;
	const struct client_got *want; /* NULL: keep what comes */
	struct client_got got;
};

static inline struct proto_dest client_dest(const char *text)
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

/* One step over a copy of just what is there, so that sanitizers see each byte beyond. */
static inline void client_step(struct client_got *got, struct proto_client *c, const uint8_t *in,
			       size_t n)
{
	uint8_t *copy = test_malloc(n + 1), *out = test_malloc(PROTO_OUT_MAX);
	size_t used, out_len;

	memcpy(copy + 1, in, n);
	got->step = proto_client_step(c, copy + 1, n, &used, out, &out_len);
	assert_true(used <= n);
	assert_true(out_len <= PROTO_OUT_MAX);
	assert_true(got->out_len + out_len <= sizeof(got->out));
	got->consumed += used;
	memcpy(got->out + got->out_len, out, out_len);
	got->out_len += out_len;
	test_free(copy);
	test_free(out);
}

static inline void client_run(void *ctx, const uint8_t *bytes, const size_t *ends, size_t n_ends)
{
	struct client_run *r = ctx;
	struct client_got *got = &r->got;
	struct proto_client c;

	memset(got, 0, sizeof(*got));
	proto_client_init(&c, r->scheme, r->user, r->password);
	proto_client_dest(&c, &r->dest);
	client_step(got, &c, bytes, 0);
	for (size_t i = 0; i < n_ends && got->step != PROTO_FAIL; i++) {
		do {
			client_step(got, &c, bytes + got->consumed, ends[i] - got->consumed);
		} while (got->step == PROTO_SEND);
		if (got->step != PROTO_MORE)
			break;
	}
	if (r->closed && got->step == PROTO_MORE)
		proto_client_closed(&c);
	got->reply = c.reply;
	got->error = c.error;
	got->blame = c.blame;
	if (r->want == NULL)
		return;
	assert_int_equal(got->step, r->want->step);
	assert_int_equal(got->consumed, r->want->consumed);
	assert_int_equal(got->out_len, r->want->out_len);
	assert_memory_equal(got->out, r->want->out, got->out_len);
	assert_int_equal(got->reply, r->want->reply);
	assert_ptr_equal(got->error, r->want->error);
	assert_int_equal(got->blame, r->want->blame);
}

static inline void client_check(enum proxy_scheme scheme, const char *password,
				const struct client_case *k)
{
	struct client_run r = {.scheme = scheme,
			       .user = k->user,
			       .password = password,
			       .dest = client_dest(k->dest),
			       .closed = k->closed};
	struct client_got want;

	print_message("case: %s\n", k->what);
	client_run(&r, k->in, &k->in_len, 1);
	want = r.got;
	assert_int_equal(want.step, k->step);
	assert_int_equal(want.out_len, k->out_len);
	assert_memory_equal(want.out, k->out, k->out_len);
	assert_int_equal(k->in_len - want.consumed, k->payload);
	assert_int_equal(want.reply, k->reply);
	if (k->error == NULL)
		assert_null(want.error);
	else
		assert_string_equal(want.error, k->error);
	assert_int_equal(want.blame, k->blame);
	r.want = &want;
	feed_every_split(client_run, &r, k->in, k->in_len);
}
