/* SPDX-License-Identifier: MIT */
/*
 * What a client may send to our SOCKS5 server. Input: the lengths of the pieces in turn (2 bytes), then
 * the client's bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/proto/socks5.h"

struct result {
	enum socks5_step step;
	size_t consumed, out_len;
	uint8_t out[4 * SOCKS5_OUT_MAX];
	struct socks5_server server;
};

static void feed(struct result *r, const uint8_t *bytes, size_t n, const uint8_t piece[2])
{
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len, end = 0;

	memset(r, 0, sizeof(*r));
	socks5_server_init(&r->server);
	for (unsigned turn = 0;; turn++) {
		r->step = socks5_server_step(&r->server, bytes + r->consumed, end - r->consumed,
					     &used, out, &out_len);
		BUG_ON(used > end - r->consumed);
		BUG_ON(out_len > SOCKS5_OUT_MAX);
		BUG_ON(r->step == SOCKS5_SEND && out_len != 2);
		BUG_ON(r->step == SOCKS5_FAIL && out_len != 0 && out_len != 2 && out_len != 10);
		BUG_ON(r->step == SOCKS5_FAIL && r->server.error == NULL);
		BUG_ON((r->step == SOCKS5_MORE || r->step == SOCKS5_DONE) && out_len != 0);
		BUG_ON(r->step == SOCKS5_MORE && end - r->consumed >= SOCKS5_REQUEST_MAX);
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
	static const uint8_t whole[2] = {255, 255};
	static struct result a, b;
	const struct socks5_dest *dest = &a.server.dest;

	if (size < 2)
		return 0;
	feed(&a, data + 2, size - 2, whole);
	feed(&b, data + 2, size - 2, data);
	BUG_ON(a.step != b.step || a.consumed != b.consumed || a.out_len != b.out_len);
	BUG_ON(memcmp(a.out, b.out, a.out_len) != 0);
	BUG_ON(a.server.error != b.server.error);
	if (a.step != SOCKS5_DONE)
		return 0;
	BUG_ON(memcmp(dest, &b.server.dest, sizeof(*dest)) != 0);
	BUG_ON(dest->name[dest->name_len] != '\0');
	BUG_ON(dest->addr.family != AF_UNSPEC && dest->name_len != 0);
	return 0;
}
