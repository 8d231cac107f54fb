/* SPDX-License-Identifier: MIT */
/*
 * What a client may send to our SOCKS5 server. Input: whether it has to log in (bit 0) and is let in (bit 1), the
 * lengths of the pieces in turn (2 bytes), then the client's bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/pieces.h"

static bool let_in;

static enum proto_step step(void *machine, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
			    size_t *out_len)
{
	struct socks5_server *s = machine;
	enum proto_step r;

	if (socks5_server_asks(s)) {
		BUG_ON(s->user[s->user_len] != '\0' || s->password[s->password_len] != '\0');
		socks5_server_verdict(s, let_in ? NULL : "wrong");
	}
	r = socks5_server_step(s, in, n, used, out, out_len);
	if (socks5_server_asks(s)) {
		size_t more;

		r = step(machine, in + *used, n - *used, &more, out, out_len);
		*used += more;
		return r;
	}
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

	if (size < 3)
		return 0;
	let_in = (data[0] & 2) != 0;
	memset(&one, 0, sizeof(one));
	memset(&other, 0, sizeof(other));
	socks5_server_init(&one, (data[0] & 1) != 0);
	socks5_server_init(&other, (data[0] & 1) != 0);
	pieces_feed(&a, step, &one, data + 3, size - 3, pieces_whole);
	pieces_feed(&b, step, &other, data + 3, size - 3, data + 1);
	pieces_compare(&a, &b);
	BUG_ON(one.error != other.error);
	if (a.step != PROTO_DONE)
		return 0;
	BUG_ON(memcmp(dest, &other.dest, sizeof(*dest)) != 0);
	BUG_ON(dest->name[dest->name_len] != '\0');
	BUG_ON(dest->addr.family != AF_UNSPEC && dest->name_len != 0);
	return 0;
}
