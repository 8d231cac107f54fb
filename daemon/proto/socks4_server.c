/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks4.h"

#include <string.h>

#define VERSION     4
#define CONNECT     1
#define BIND        2
#define REQUEST_LEN 8   /* VN CD DSTPORT DSTIP */
#define TEXT_MAX    255 /* of the user id and of the name, without the NUL */

enum server_state {
	SERVER_REQUEST,
	SERVER_DONE,
	SERVER_FAILED,
};

void socks4_server_init(struct socks4_server *s)
{
	s->state = SERVER_REQUEST;
	s->error = NULL;
}

static enum proto_step server_refuse(struct socks4_server *s, const char *error, uint8_t *out,
				     size_t *out_len)
{
	s->state = SERVER_FAILED;
	s->error = error;
	*out_len = socks4_server_reply(SOCKS4_REJECTED, NULL, out);
	return PROTO_FAIL;
}

/* Any 0.0.0.x but 0.0.0.0 says that a name follows. */
static bool name_follows(const uint8_t ip[4])
{
	return ip[0] == 0 && ip[1] == 0 && ip[2] == 0 && ip[3] != 0;
}

/* The text at `at` of `n` bytes, up to its NUL: the length of both. 0: its end has not come. -1: it is too
 * long. */
static int text_len(const uint8_t *in, size_t n, size_t at)
{
	size_t left = n > at ? n - at : 0;
	size_t most = left < TEXT_MAX + 1 ? left : TEXT_MAX + 1;
	const uint8_t *end = most > 0 ? memchr(in + at, '\0', most) : NULL;

	if (end == NULL)
		return most > TEXT_MAX ? -1 : 0;
	return (int)(end - (in + at)) + 1;
}

/* The request is there, with a user id of `user_len` bytes and a name of `name_len`, both with their NUL. */
static enum proto_step server_take(struct socks4_server *s, const uint8_t *in, size_t user_len,
				   size_t name_len)
{
	struct proto_dest *dest = &s->dest;

	memcpy(s->user, in + REQUEST_LEN, user_len);
	dest->port = (uint16_t)(in[2] << 8 | in[3]);
	dest->addr = (struct addr){.family = AF_UNSPEC};
	dest->name_len = 0;
	dest->name[0] = '\0';
	if (name_len > 0) {
		dest->name_len = (uint8_t)(name_len - 1);
		memcpy(dest->name, in + REQUEST_LEN + user_len, name_len);
	} else {
		dest->addr = addr_from_bytes(in + 4, 4, dest->port);
	}
	s->bind = in[1] == BIND;
	s->state = SERVER_DONE;
	return PROTO_DONE;
}

static enum proto_step server_read_request(struct socks4_server *s, const uint8_t *in, size_t n,
					   size_t *used, uint8_t *out, size_t *out_len)
{
	int user_len, name_len = 0;

	if (n < REQUEST_LEN)
		return PROTO_MORE;
	user_len = text_len(in, n, REQUEST_LEN);
	if (user_len < 0)
		return server_refuse(s, "the user id is longer than 255 bytes", out, out_len);
	if (user_len == 0)
		return PROTO_MORE;
	if (name_follows(in + 4)) {
		name_len = text_len(in, n, REQUEST_LEN + (size_t)user_len);
		if (name_len < 0)
			return server_refuse(s, "the name is longer than 255 bytes", out, out_len);
		if (name_len == 0)
			return PROTO_MORE;
	}
	*used = REQUEST_LEN + (size_t)user_len + (size_t)name_len;
	/* Not before all of it has been read: closing with bytes unread resets the connection, and the client
	 * would lose the reply. */
	if (in[1] != CONNECT && in[1] != BIND)
		return server_refuse(s, "the request has an unknown command", out, out_len);
	return server_take(s, in, (size_t)user_len, (size_t)name_len);
}

enum proto_step socks4_server_step(struct socks4_server *s, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len)
{
	*used = 0;
	*out_len = 0;
	switch ((enum server_state)s->state) {
	case SERVER_REQUEST:
		return server_read_request(s, in, n, used, out, out_len);
	case SERVER_DONE:
		return PROTO_DONE;
	case SERVER_FAILED:
		break;
	}
	return PROTO_FAIL;
}

size_t socks4_server_reply(enum socks4_reply reply, const struct addr *bound,
			   uint8_t out[SOCKS4_REPLY_LEN])
{
	memset(out, 0, SOCKS4_REPLY_LEN); /* VN of a reply is 0 */
	out[1] = reply;
	if (bound != NULL && bound->family == AF_INET) {
		out[2] = (uint8_t)(bound->port >> 8);
		out[3] = (uint8_t)bound->port;
		memcpy(out + 4, bound->ip, 4);
	}
	return SOCKS4_REPLY_LEN;
}
