/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What an upstream may answer to one of our clients. Input: whether we have a user (bit 0), what kind of
 * destination (bits 1 and 2), whether it is told only when it must be (bit 6) and whether all is sent in one
 * flight (bit 7), the lengths of the pieces in turn (2 bytes), then the upstream's bytes, after which it closes.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/pieces.h"

#define CLIENT_FUZZ_HEAD 3

struct client_fuzz {
	struct proto_client client;
	const struct proto_dest *dest;
	bool one_flight, begun, told;
};

static inline enum proto_step client_fuzz_step(void *machine, const uint8_t *in, size_t n,
					       size_t *used, uint8_t *out, size_t *out_len)
{
	struct client_fuzz *m = machine;
	struct proto_client *c = &m->client;
	enum proto_step r = proto_client_step(c, in, n, used, out, out_len);

	/* One flight is sent before the first answer, and nothing after it. */
	BUG_ON((r == PROTO_SEND && !(m->one_flight && m->begun)) != (*out_len > 0));
	m->begun = true;
	BUG_ON(r == PROTO_FAIL && c->error == NULL);
	BUG_ON(r != PROTO_FAIL && (c->reply != 0 || c->error != NULL));
	BUG_ON(proto_client_ready(c) && (m->told || r == PROTO_DONE));
	BUG_ON(r == PROTO_DONE && proto_client_greeting(c));
	if (r != PROTO_MORE || !proto_client_ready(c))
		return r;
	proto_client_dest(c, m->dest);
	m->told = true;
	return PROTO_SEND;
}

static inline void client_fuzz_init(struct client_fuzz *m, enum proxy_scheme scheme, uint8_t how)
{
	static const struct proto_dest dests[] = {
		{.addr = {.family = AF_INET, .ip = {11, 0, 0, 1}}, .port = 80},
		{.addr = {.family = AF_INET6, .ip = {0x2a, 0, 0, 1}}, .port = 443},
		{.name = "host.lan", .name_len = 8, .port = 8080},
		{.name = "a b\r\n\0c", .name_len = 7, .port = 1},
	};

	memset(m, 0, sizeof(*m));
	m->dest = &dests[how >> 1 & 3];
	m->one_flight = scheme == PROXY_SOCKS5 && (how & 0x80) != 0;
	m->told = m->one_flight || (how & 0x40) == 0;
	proto_client_init(&m->client, scheme, (how & 1) != 0 ? "bob" : "", "secret");
	if ((how & 0x80) != 0)
		proto_client_one_flight(&m->client);
	if (m->told)
		proto_client_dest(&m->client, m->dest);
}

/* What became of it must not depend on the pieces. */
static inline void client_fuzz(enum proxy_scheme scheme, const uint8_t *data, size_t size,
			       struct client_fuzz *one)
{
	static struct pieces_result a, b;
	static struct client_fuzz other;
	const uint8_t *in = data + CLIENT_FUZZ_HEAD;

	client_fuzz_init(one, scheme, data[0]);
	client_fuzz_init(&other, scheme, data[0]);
	pieces_feed(&a, client_fuzz_step, one, in, size - CLIENT_FUZZ_HEAD, pieces_whole);
	pieces_feed(&b, client_fuzz_step, &other, in, size - CLIENT_FUZZ_HEAD, data + 1);
	pieces_compare(&a, &b);
	if (a.step == PROTO_MORE) {
		proto_client_closed(&one->client);
		proto_client_closed(&other.client);
		BUG_ON(one->client.error == NULL);
	}
	BUG_ON(one->client.reply != other.client.reply || one->client.error != other.client.error ||
	       one->client.blame != other.client.blame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
