/* SPDX-License-Identifier: MIT */
/*
 * What a client may send to our SOCKS5 server. Input: the lengths of the pieces in turn (2 bytes), then
 * the client's bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/pieces.h"

static enum proto_step step(void *machine, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
			    size_t *out_len)
{
	struct socks5_server *s = machine;
	enum proto_step r = socks5_server_step(s, in, n, used, out, out_len);

	BUG_ON(r == PROTO_SEND && *out_len != 2);
	BUG_ON(r == PROTO_FAIL && *out_len != 0 && *out_len != 2 && *out_len != 10);
	BUG_ON(r == PROTO_FAIL && s->error == NULL);
	BUG_ON((r == PROTO_MORE || r == PROTO_DONE) && *out_len != 0);
	BUG_ON(r == PROTO_MORE && n - *used >= SOCKS5_REQUEST_MAX);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pieces_result a, b;
	static struct socks5_server one, other;
	const struct proto_dest *dest = &one.dest;

	if (size < 2)
		return 0;
	memset(&one, 0, sizeof(one));
	memset(&other, 0, sizeof(other));
	socks5_server_init(&one);
	socks5_server_init(&other);
	pieces_feed(&a, step, &one, data + 2, size - 2, pieces_whole);
	pieces_feed(&b, step, &other, data + 2, size - 2, data);
	pieces_compare(&a, &b);
	BUG_ON(one.error != other.error);
	if (a.step != PROTO_DONE)
		return 0;
	BUG_ON(memcmp(dest, &other.dest, sizeof(*dest)) != 0);
	BUG_ON(dest->name[dest->name_len] != '\0');
	BUG_ON(dest->addr.family != AF_UNSPEC && dest->name_len != 0);
	return 0;
}
