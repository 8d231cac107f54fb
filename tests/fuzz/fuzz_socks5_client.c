/* SPDX-License-Identifier: MIT */
/*
 * What an upstream may answer to our SOCKS5 client. Input: whether we have a user (bit 0), what kind of
 * destination (bits 1 to 6) and whether we send all in one flight (bit 7), the lengths of the pieces in
 * turn (2 bytes), then the upstream's bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/pieces.h"

struct machine {
	struct socks5_client client;
	bool one_flight, begun;
};

static enum proto_step step(void *machine, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
			    size_t *out_len)
{
	struct machine *m = machine;
	const struct socks5_client *c = &m->client;
	enum proto_step r = socks5_client_step(&m->client, in, n, used, out, out_len);

	/* One flight is sent before the first answer, and nothing after it. */
	BUG_ON((r == PROTO_SEND && !(m->one_flight && m->begun)) != (*out_len > 0));
	m->begun = true;
	BUG_ON(r == PROTO_FAIL && c->error == NULL);
	BUG_ON(r != PROTO_FAIL && c->reply != 0);
	return r;
}

static void init(struct machine *m, uint8_t how)
{
	static const struct proto_dest dests[] = {
		{.addr = {.family = AF_INET, .ip = {11, 0, 0, 1}}, .port = 80},
		{.addr = {.family = AF_INET6, .ip = {0x2a, 0, 0, 1}}, .port = 443},
		{.name = "host.lan", .name_len = 8, .port = 8080},
	};

	memset(m, 0, sizeof(*m));
	m->one_flight = (how & 0x80) != 0;
	socks5_client_init(&m->client, (how & 1) != 0 ? "bob" : "", "secret",
			   &dests[((how & 0x7f) >> 1) % ARRAY_LEN(dests)]);
	if (m->one_flight)
		socks5_client_one_flight(&m->client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pieces_result a, b;
	static struct machine one, other;

	if (size < 3)
		return 0;
	init(&one, data[0]);
	init(&other, data[0]);
	pieces_feed(&a, step, &one, data + 3, size - 3, pieces_whole);
	pieces_feed(&b, step, &other, data + 3, size - 3, data + 1);
	pieces_compare(&a, &b);
	BUG_ON(one.client.reply != other.client.reply || one.client.error != other.client.error);
	BUG_ON(memcmp(&one.client.bound, &other.client.bound, sizeof(one.client.bound)) != 0);
	return 0;
}
