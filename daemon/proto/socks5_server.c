/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5.h"

#include <string.h>

#include "daemon/proto/socks5_wire.h"

enum server_state {
	SERVER_GREETING,
	SERVER_PASSWORD,
	SERVER_VERDICT, /* waits for one */
	SERVER_KNOWN,   /* the client is to be told so */
	SERVER_UNKNOWN,
	SERVER_REQUEST,
	SERVER_DONE,
	SERVER_FAILED,
};

void socks5_server_init(struct socks5_server *s, bool passwords)
{
	s->state = SERVER_GREETING;
	s->passwords = passwords;
	s->error = NULL;
	s->unknown = false;
	s->by_password = s->agreed = false;
	s->address = SOCKS5_ADDRESS_UNREAD;
	s->reply = 0;
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
	out[1] = s->passwords ? SOCKS5_METHOD_PASSWORD : SOCKS5_METHOD_NONE;
	if (memchr(in + 2, out[1], in[1]) == NULL) {
		out[1] = SOCKS5_METHOD_REFUSED;
		s->unknown = s->passwords;
		return server_fail(s, s->passwords ? "the client offers no password"
						   : "the client offers no method that is served");
	}
	s->by_password = s->passwords;
	s->agreed = !s->passwords;
	s->state = s->passwords ? SERVER_PASSWORD : SERVER_REQUEST;
	return PROTO_SEND;
}

/* RFC 1929 section 2. */
static size_t server_tell(bool known, uint8_t *out)
{
	out[0] = SOCKS5_AUTH_VERSION;
	out[1] = known ? 0 : 1;
	return 2;
}

/* `01 ULEN user PLEN password`. Empty ones are in the wild; whether they are right is not known here. */
static enum proto_step server_read_password(struct socks5_server *s, const uint8_t *in, size_t n,
					    size_t *used, uint8_t *out, size_t *out_len)
{
	size_t user_len = n > 1 ? in[1] : 0, len = 2 + user_len + 1;

	if (n >= 1 && in[0] != SOCKS5_AUTH_VERSION) {
		*out_len = server_tell(false, out);
		s->unknown = true;
		return server_fail(s, "the client sends no user and password");
	}
	if (n < len || n < len + in[len - 1])
		return PROTO_MORE;
	s->user_len = (uint8_t)user_len;
	memcpy(s->user, in + 2, user_len);
	s->user[user_len] = '\0';
	s->password_len = in[len - 1];
	memcpy(s->password, in + len, s->password_len);
	s->password[s->password_len] = '\0';
	*used = len + s->password_len;
	s->state = SERVER_VERDICT;
	return PROTO_MORE;
}

bool socks5_server_asks(const struct socks5_server *s)
{
	return s->state == SERVER_VERDICT;
}

void socks5_server_verdict(struct socks5_server *s, const char *error)
{
	BUG_ON(s->state != SERVER_VERDICT);
	explicit_bzero(s->password, sizeof(s->password));
	if (error != NULL) /* it may be a password in the wrong place */
		explicit_bzero(s->user, sizeof(s->user));
	s->state = error == NULL ? SERVER_KNOWN : SERVER_UNKNOWN;
	s->error = error;
}

static enum proto_step server_tell_verdict(struct socks5_server *s, uint8_t *out, size_t *out_len)
{
	bool known = s->state == SERVER_KNOWN;

	*out_len = server_tell(known, out);
	s->unknown = !known;
	if (!known)
		return server_fail(s, s->error);
	s->agreed = true;
	s->state = SERVER_REQUEST;
	return PROTO_SEND;
}

static enum proto_step server_refuse(struct socks5_server *s, enum socks5_reply reply,
				     const char *error, uint8_t *out, size_t *out_len)
{
	*out_len = socks5_server_reply(reply, NULL, out);
	s->reply = reply;
	return server_fail(s, error);
}

static enum socks5_address address_kind(enum socks5_atyp atyp)
{
	switch (atyp) {
	case SOCKS5_ATYP_IPV4:
		return SOCKS5_ADDRESS_IPV4;
	case SOCKS5_ATYP_IPV6:
		return SOCKS5_ADDRESS_IPV6;
	case SOCKS5_ATYP_NAME:
		return SOCKS5_ADDRESS_NAME;
	}
	return SOCKS5_ADDRESS_UNREAD;
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
	s->address = address_kind(in[3]);
	/* Not before the address has been read: closing with bytes unread resets the connection, and
	 * the client would lose the reply (RFC 1122 section 4.2.2.13). */
	if (in[1] < SOCKS5_CONNECT || in[1] > SOCKS5_UDP_ASSOCIATE)
		return server_refuse(s, SOCKS5_BAD_COMMAND, "the request has an unknown command",
				     out, out_len);
	s->command = (enum socks5_command)in[1];
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
	case SERVER_PASSWORD:
		return server_read_password(s, in, n, used, out, out_len);
	case SERVER_VERDICT:
		return PROTO_MORE;
	case SERVER_KNOWN:
	case SERVER_UNKNOWN:
		return server_tell_verdict(s, out, out_len);
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
