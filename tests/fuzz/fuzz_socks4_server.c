/* SPDX-License-Identifier: MIT */
/*
 * What a client may send to our SOCKS server, of SOCKS4 and 4a. Input: the lengths of the pieces in turn (2 bytes),
 * then the client's bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "daemon/proto/socks_server.h"
#include "tests/fuzz/pieces.h"

static enum proto_step step(void *machine, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
			    size_t *out_len)
{
	struct socks_server *s = machine;
	enum proto_step r = socks_server_step(s, in, n, used, out, out_len);

	if (s->version == 5)
		return r;
	BUG_ON(r == PROTO_SEND);
	BUG_ON(r == PROTO_FAIL && *out_len != (s->version == 4 ? SOCKS4_REPLY_LEN : 0));
	BUG_ON(r == PROTO_FAIL && s->error == NULL);
	BUG_ON(r != PROTO_FAIL && *out_len != 0);
	BUG_ON(r == PROTO_MORE && n - *used >= SOCKS4_REQUEST_MAX);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pieces_result a, b;
	static struct socks_server one, other;
	const struct proto_dest *dest;

	if (size < 2)
		return 0;
	memset(&one, 0, sizeof(one));
	memset(&other, 0, sizeof(other));
	socks_server_init(&one, false);
	socks_server_init(&other, false);
	pieces_feed(&a, step, &one, data + 2, size - 2, pieces_whole);
	pieces_feed(&b, step, &other, data + 2, size - 2, data);
	BUG_ON(one.version != other.version || one.error != other.error);
	pieces_compare(&a, &b);
	if (a.step != PROTO_DONE || one.version != 4)
		return 0;
	dest = socks_server_dest(&one);
	BUG_ON(memcmp(dest, socks_server_dest(&other), sizeof(*dest)) != 0);
	BUG_ON(strcmp(one.v4.user, other.v4.user) != 0);
	BUG_ON(strlen(dest->name) != dest->name_len);
	BUG_ON(dest->addr.family != AF_UNSPEC && dest->name_len != 0);
	return 0;
}
