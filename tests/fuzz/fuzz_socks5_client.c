/* SPDX-License-Identifier: MIT */
/*
 * What an upstream may answer to our SOCKS5 client. Input: whether we have a user and what kind of
 * destination (1 byte), the lengths of the pieces in turn (2 bytes), then the upstream's bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/proto/socks5.h"

struct result {
	enum socks5_step step;
	size_t consumed, out_len;
	uint8_t out[4 * SOCKS5_OUT_MAX];
	struct socks5_client client;
};

static void feed(struct result *r, const char *user, const struct socks5_dest *dest,
		 const uint8_t *bytes, size_t n, const uint8_t piece[2])
{
	struct socks5_client *c = &r->client;
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len, end = 0;

	memset(r, 0, sizeof(*r));
	socks5_client_init(c, user, "secret", dest);
	for (unsigned turn = 0;; turn++) {
		r->step = socks5_client_step(c, bytes + r->consumed, end - r->consumed, &used, out,
					     &out_len);
		BUG_ON(used > end - r->consumed);
		BUG_ON(out_len > SOCKS5_OUT_MAX);
		BUG_ON((r->step == SOCKS5_SEND) != (out_len > 0));
		BUG_ON(r->step == SOCKS5_FAIL && c->error == NULL);
		BUG_ON(r->step != SOCKS5_FAIL && c->reply != 0);
		BUG_ON(r->out_len + out_len > sizeof(r->out));
		memcpy(r->out + r->out_len, out, out_len);
		r->out_len += out_len;
		r->consumed += used;
		if (r->step == SOCKS5_SEND)
			continue;
		if (r->step != SOCKS5_MORE || end == n)
			return;
		end = n - end > piece[turn % 2] ? end + 1 + piece[turn % 2] : n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct socks5_dest dests[] = {
		{.addr = {.family = AF_INET, .ip = {11, 0, 0, 1}}, .port = 80},
		{.addr = {.family = AF_INET6, .ip = {0x2a, 0, 0, 1}}, .port = 443},
		{.name = "host.lan", .name_len = 8, .port = 8080},
	};
	static const uint8_t whole[2] = {255, 255};
	static struct result a, b;
	const char *user;
	const struct socks5_dest *dest;

	if (size < 3)
		return 0;
	user = (data[0] & 1) != 0 ? "bob" : "";
	dest = &dests[(data[0] >> 1) % ARRAY_LEN(dests)];
	feed(&a, user, dest, data + 3, size - 3, whole);
	feed(&b, user, dest, data + 3, size - 3, data + 1);
	BUG_ON(a.step != b.step || a.consumed != b.consumed || a.out_len != b.out_len);
	BUG_ON(memcmp(a.out, b.out, a.out_len) != 0);
	BUG_ON(a.client.reply != b.client.reply || a.client.error != b.client.error);
	BUG_ON(memcmp(&a.client.bound, &b.client.bound, sizeof(a.client.bound)) != 0);
	return 0;
}
