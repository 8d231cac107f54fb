/* SPDX-License-Identifier: MIT */
/*
 * What anybody may send to usocksd: a PROXY protocol header or none, then SOCKS of either version. Input: whether a header is
 * looked for (bit 0), whether clients have to log in (bit 1) and are let in (bit 2), the lengths of the pieces in
 * turn (2 bytes), then the client's bytes.
 */
#include <stddef.h>
#include <stdint.h>

#include "daemon/proto/proxy_v2.h"
#include "daemon/proto/socks_server.h"
#include "policy/name.h"
#include "tests/fuzz/pieces.h"

struct machine {
	bool header, let_in;
	struct proxy_v2 proxy;
	struct socks_server socks;
};

static enum proto_step header_step(struct machine *m, const uint8_t *in, size_t n, size_t *used)
{
	enum proxy_v2_result r;

	*used = 0;
	if (n == 0)
		return PROTO_MORE;
	r = in[0] == '\r' || in[0] == 'P' ? proxy_v2_parse(&m->proxy, in, n, used) : PROXY_V2_DONE;
	if (r == PROXY_V2_FAIL)
		BUG_ON(m->proxy.error == NULL);
	m->header = r != PROXY_V2_DONE;
	/* There is nothing to be sent; step again. */
	return r == PROXY_V2_DONE ? PROTO_SEND : r == PROXY_V2_MORE ? PROTO_MORE : PROTO_FAIL;
}

/* Where nothing can be done, more steps change nothing. */
static void check_rests(struct socks_server *s, enum proto_step r, const uint8_t *in, size_t n)
{
	uint8_t out[SOCKS5_OUT_MAX];
	size_t used, out_len;
	const char *error = s->error;

	BUG_ON(socks_server_step(s, in, n, &used, out, &out_len) != r);
	BUG_ON(used != 0 || out_len != 0 || s->error != error);
}

static enum proto_step step(void *machine, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
			    size_t *out_len)
{
	struct machine *m = machine;
	struct socks_server *s = &m->socks;
	enum proto_step r;

	*out_len = 0;
	if (m->header)
		return header_step(m, in, n, used);
	r = socks_server_step(s, in, n, used, out, out_len);
	BUG_ON((r == PROTO_MORE || r == PROTO_DONE) && *out_len != 0);
	BUG_ON(r == PROTO_SEND && *out_len != 2);
	BUG_ON(*out_len > 10);
	BUG_ON(r == PROTO_FAIL && s->error == NULL);
	BUG_ON(r == PROTO_MORE && n - *used >= SOCKS5_REQUEST_MAX);
	if (r == PROTO_DONE || r == PROTO_FAIL || socks_server_asks(s))
		check_rests(s, r, in + *used, n - *used);
	if (!socks_server_asks(s))
		return r;
	socks5_server_verdict(&s->v5, m->let_in ? NULL : "wrong");
	for (size_t i = 0; i < sizeof(s->v5.password); i++)
		BUG_ON(s->v5.password[i] != 0);
	return PROTO_SEND;
}

static void check_done(const struct machine *one, const struct machine *other)
{
	const struct proto_dest *dest = socks_server_dest(&one->socks);
	const struct addr any = {.family = AF_INET, .port = 1};
	uint8_t out[SOCKS5_OUT_MAX];
	char name[NAME_MAX_LEN + 1];
	struct addr literal;

	BUG_ON(memcmp(dest, socks_server_dest(&other->socks), sizeof(*dest)) != 0);
	BUG_ON(dest->name[dest->name_len] != '\0');
	BUG_ON(dest->addr.family != AF_UNSPEC && dest->name_len != 0);
	BUG_ON(strcmp(socks_server_user(&one->socks), socks_server_user(&other->socks)) != 0);
	BUG_ON(socks_server_login(&one->socks) != NULL && !one->let_in);
	BUG_ON(socks_server_protocol(&one->socks) == SOCKS_PROTOCOL_NONE);
	BUG_ON(socks_server_command(&one->socks) < SOCKS5_CONNECT);
	for (int reply = 0; reply <= SOCKS5_BAD_ADDRESS_TYPE; reply++)
		BUG_ON(socks_server_reply(&one->socks, (enum socks5_reply)reply, &any, out) > 10);
	if (dest->addr.family == AF_UNSPEC &&
	    name_normalise(dest->name, dest->name_len, name, &literal) == 0)
		BUG_ON(strlen(name) > NAME_MAX_LEN);
}

static void machine_init(struct machine *m, uint8_t flags)
{
	memset(m, 0, sizeof(*m));
	m->header = (flags & 1) != 0;
	m->let_in = (flags & 4) != 0;
	socks_server_init(&m->socks, (flags & 2) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pieces_result a, b;
	static struct machine one, other;

	if (size < 3)
		return 0;
	machine_init(&one, data[0]);
	machine_init(&other, data[0]);
	pieces_feed(&a, step, &one, data + 3, size - 3, pieces_whole);
	pieces_feed(&b, step, &other, data + 3, size - 3, data + 1);
	pieces_compare(&a, &b);
	BUG_ON(one.socks.version != other.socks.version);
	BUG_ON(one.socks.error != other.socks.error || one.proxy.error != other.proxy.error);
	BUG_ON(a.step != PROTO_MORE && !one.header && one.socks.version != 0 &&
	       socks_server_unknown(&one.socks) != socks_server_unknown(&other.socks));
	if (a.step == PROTO_DONE)
		check_done(&one, &other);
	return 0;
}
