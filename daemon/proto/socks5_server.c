/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5.h"

#include <string.h>

#include "daemon/proto/socks5_wire.h"

enum server_state {
	SERVER_GREETING,
	SERVER_REQUEST,
	SERVER_DONE,
	SERVER_FAILED,
};

void socks5_server_init(struct socks5_server *s)
{
	s->state = SERVER_GREETING;
	s->error = NULL;
}

static enum proto_step server_fail(struct socks5_server *s, const char *error)
{
	s->state = SERVER_FAILED;
	s->error = error;
	return PROTO_FAIL;
}

static enum proto_step server_read_greeting(struct socks5_server *s, const uint8_t *in, size_t n,
					    size_t *used, uint8_t *out, size_t *out_len)
{
	/* Whatever this is, it would not understand an answer of SOCKS. */
	if (n >= 1 && in[0] != SOCKS5_VERSION)
		return server_fail(s, "the client does not speak SOCKS5");
	if (n < 2 || n < 2u + in[1])
		return PROTO_MORE;
	*used = 2u + in[1];
	*out_len = 2;
	out[0] = SOCKS5_VERSION;
	if (memchr(in + 2, SOCKS5_METHOD_NONE, in[1]) == NULL) {
		out[1] = SOCKS5_METHOD_REFUSED;
		return server_fail(s, "the client offers no method that is served");
	}
	out[1] = SOCKS5_METHOD_NONE;
	s->state = SERVER_REQUEST;
	return PROTO_SEND;
}

static enum proto_step server_refuse(struct socks5_server *s, enum socks5_reply reply,
				     const char *error, uint8_t *out, size_t *out_len)
{
	*out_len = socks5_server_reply(reply, NULL, out);
	return server_fail(s, error);
}

static enum proto_step server_read_request(struct socks5_server *s, const uint8_t *in, size_t n,
					   size_t *used, uint8_t *out, size_t *out_len)
{
	int len = socks5_message_len(in, n);

	if (n >= 1 && in[0] != SOCKS5_VERSION)
		return server_refuse(s, SOCKS5_GENERAL_FAILURE, "the request is not SOCKS5", out,
				     out_len);
	if (len < 0)
		return server_refuse(s, SOCKS5_BAD_ADDRESS_TYPE,
				     "the request has an unknown address type", out, out_len);
	if (len == 0 || n < (size_t)len)
		return PROTO_MORE;
	*used = (size_t)len;
	/* Not before the address has been read: closing with bytes unread resets the connection, and
	 * the client would lose the reply (RFC 1122 section 4.2.2.13). */
	if (in[1] != SOCKS5_CONNECT)
		return server_refuse(s, SOCKS5_BAD_COMMAND,
				     "the client asks for a command other than CONNECT", out,
				     out_len);
	socks5_message_dest(in, &s->dest);
	s->state = SERVER_DONE;
	return PROTO_DONE;
}

enum proto_step socks5_server_step(struct socks5_server *s, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len)
{
	*used = 0;
	*out_len = 0;
	switch ((enum server_state)s->state) {
	case SERVER_GREETING:
		return server_read_greeting(s, in, n, used, out, out_len);
	case SERVER_REQUEST:
		return server_read_request(s, in, n, used, out, out_len);
	case SERVER_DONE:
		return PROTO_DONE;
	case SERVER_FAILED:
		break;
	}
	return PROTO_FAIL;
}

size_t socks5_server_reply(enum socks5_reply reply, const struct addr *bound,
			   uint8_t out[SOCKS5_OUT_MAX])
{
	static const struct addr zeros = {.family = AF_INET};

	if (bound == NULL)
		bound = &zeros;
	return socks5_put_addr(out, reply, bound, bound->port);
}
