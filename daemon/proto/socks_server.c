/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks_server.h"

void socks_server_init(struct socks_server *s, bool passwords)
{
	s->version = 0;
	s->passwords = passwords;
	s->error = NULL;
}

static enum proto_step server_begin(struct socks_server *s, const uint8_t *in, size_t n)
{
	if (n == 0)
		return PROTO_MORE;
	if (in[0] == 4)
		socks4_server_init(&s->v4);
	else if (in[0] == 5)
		socks5_server_init(&s->v5, s->passwords);
	else /* whatever this is, it would not understand an answer of SOCKS */
		s->error = "the client does not speak SOCKS";
	if (s->error != NULL)
		return PROTO_FAIL;
	s->version = in[0];
	return PROTO_DONE;
}

enum proto_step socks_server_step(struct socks_server *s, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len)
{
	enum proto_step step = PROTO_DONE;

	*used = 0;
	*out_len = 0;
	if (s->error != NULL)
		return PROTO_FAIL;
	if (s->version == 0)
		step = server_begin(s, in, n);
	if (step != PROTO_DONE)
		return step;
	if (s->version == 4)
		step = socks4_server_step(&s->v4, in, n, used, out, out_len);
	else
		step = socks5_server_step(&s->v5, in, n, used, out, out_len);
	if (step == PROTO_FAIL)
		s->error = s->version == 4 ? s->v4.error : s->v5.error;
	return step;
}

bool socks_server_asks(const struct socks_server *s)
{
	return s->version == 5 && socks5_server_asks(&s->v5);
}

bool socks_server_unknown(const struct socks_server *s)
{
	if (s->version == 4)
		return s->passwords && s->error == NULL;
	return s->version == 5 && s->v5.unknown;
}

enum socks_protocol socks_server_protocol(const struct socks_server *s)
{
	if (s->version == 5)
		return SOCKS_PROTOCOL_5;
	return s->v4.dest.addr.family == AF_UNSPEC ? SOCKS_PROTOCOL_4A : SOCKS_PROTOCOL_4;
}

enum socks5_command socks_server_command(const struct socks_server *s)
{
	if (s->version == 5)
		return s->v5.command;
	return s->v4.bind ? SOCKS5_BIND : SOCKS5_CONNECT;
}

const struct proto_dest *socks_server_dest(const struct socks_server *s)
{
	return s->version == 4 ? &s->v4.dest : &s->v5.dest;
}

const char *socks_server_user(const struct socks_server *s)
{
	return s->version == 4 ? s->v4.user : "";
}

const char *socks_server_login(const struct socks_server *s)
{
	return s->version == 5 && s->passwords ? s->v5.user : NULL;
}

size_t socks_server_reply(const struct socks_server *s, enum socks5_reply reply,
			  const struct addr *bound, uint8_t out[SOCKS5_OUT_MAX])
{
	if (s->version == 4)
		return socks4_server_reply(
			reply == SOCKS5_SUCCEEDED ? SOCKS4_GRANTED : SOCKS4_REJECTED, bound, out);
	return socks5_server_reply(reply, bound, out);
}
