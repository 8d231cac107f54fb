/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5.h"

#include <string.h>

#include "daemon/proto/socks5_wire.h"

enum client_state {
	CLIENT_START,
	CLIENT_METHOD, /* waits for the choice of a method */
	CLIENT_AUTH,   /* waits for the answer to user name and password */
	CLIENT_READY,  /* waits for a destination */
	CLIENT_REPLY,  /* waits for the reply to the request */
	CLIENT_DONE,
	CLIENT_FAILED,
};

void socks5_client_init(struct socks5_client *c, const char *user, const char *password,
			const struct proto_dest *dest)
{
	BUG_ON(strlen(user) > 255 || strlen(password) > 255);
	*c = (struct socks5_client){
		.state = CLIENT_START,
		.user = user,
		.password = password,
		.dest = dest,
	};
}

void socks5_client_dest(struct socks5_client *c, const struct proto_dest *dest)
{
	BUG_ON(c->dest != NULL);
	c->dest = dest;
}

bool socks5_client_greeting(const struct socks5_client *c)
{
	return !c->greeted;
}

bool socks5_client_ready(const struct socks5_client *c)
{
	return c->state == CLIENT_READY && c->dest == NULL;
}

static enum proto_step client_fail(struct socks5_client *c, const char *error)
{
	c->state = CLIENT_FAILED;
	c->blame = BLAME_UPSTREAM;
	c->error = error;
	return PROTO_FAIL;
}

void socks5_client_one_flight(struct socks5_client *c)
{
	BUG_ON(c->state != CLIENT_START);
	c->one_flight = true;
}

/* RFC 1929 section 2. */
static size_t client_put_auth(const struct socks5_client *c, uint8_t *out)
{
	size_t user_len = strlen(c->user), password_len = strlen(c->password);

	out[0] = SOCKS5_AUTH_VERSION;
	out[1] = (uint8_t)user_len;
	memcpy(out + 2, c->user, user_len);
	out[2 + user_len] = (uint8_t)password_len;
	memcpy(out + 3 + user_len, c->password, password_len);
	return 3 + user_len + password_len;
}

static size_t client_put_request(const struct socks5_client *c, uint8_t *out)
{
	const struct proto_dest *d = c->dest;

	if (d->addr.family == AF_UNSPEC)
		return socks5_put_name(out, SOCKS5_CONNECT, d->name, d->name_len, d->port);
	return socks5_put_addr(out, SOCKS5_CONNECT, &d->addr, d->port);
}

static enum proto_step client_send_all(struct socks5_client *c, uint8_t *out, size_t *out_len)
{
	bool with_password = c->user[0] != '\0';
	size_t n = 3;

	BUG_ON(c->dest == NULL);
	out[0] = SOCKS5_VERSION;
	out[1] = 1;
	out[2] = with_password ? SOCKS5_METHOD_PASSWORD : SOCKS5_METHOD_NONE;
	if (with_password)
		n += client_put_auth(c, out + n);
	*out_len = n + client_put_request(c, out + n);
	c->state = CLIENT_METHOD;
	return PROTO_SEND;
}

static enum proto_step client_send_greeting(struct socks5_client *c, uint8_t *out, size_t *out_len)
{
	bool with_password = c->user[0] != '\0';

	out[0] = SOCKS5_VERSION;
	out[1] = with_password ? 2 : 1;
	out[2] = SOCKS5_METHOD_NONE;
	out[3] = SOCKS5_METHOD_PASSWORD;
	*out_len = 2u + out[1];
	c->state = CLIENT_METHOD;
	return PROTO_SEND;
}

static enum proto_step client_send_auth(struct socks5_client *c, uint8_t *out, size_t *out_len)
{
	*out_len = c->one_flight ? 0 : client_put_auth(c, out);
	c->state = CLIENT_AUTH;
	return PROTO_SEND;
}

static enum proto_step client_send_request(struct socks5_client *c, uint8_t *out, size_t *out_len)
{
	if (c->dest == NULL) {
		c->state = CLIENT_READY;
		return PROTO_MORE;
	}
	*out_len = c->one_flight ? 0 : client_put_request(c, out);
	c->state = CLIENT_REPLY;
	return PROTO_SEND;
}

static enum proto_step client_read_method(struct socks5_client *c, const uint8_t *in, size_t n,
					  size_t *used, uint8_t *out, size_t *out_len)
{
	if (n >= 1 && in[0] != SOCKS5_VERSION)
		return client_fail(c, "the upstream does not speak SOCKS5");
	if (n < 2)
		return PROTO_MORE;
	*used = 2;
	if (in[1] == SOCKS5_METHOD_NONE && !(c->one_flight && c->user[0] != '\0')) {
		c->greeted = true;
		return client_send_request(c, out, out_len);
	}
	if (in[1] == SOCKS5_METHOD_PASSWORD && c->user[0] != '\0') {
		c->greeted = true;
		return client_send_auth(c, out, out_len);
	}
	if (in[1] != SOCKS5_METHOD_REFUSED)
		return client_fail(c, "the upstream chose a method that was not offered");
	c->refused_user = true;
	return client_fail(
		c, c->user[0] != '\0'
			   ? "the upstream accepts neither no authentication nor a password"
			   : "the upstream wants authentication, and no user is configured");
}

static enum proto_step client_read_auth(struct socks5_client *c, const uint8_t *in, size_t n,
					size_t *used, uint8_t *out, size_t *out_len)
{
	/* Some servers answer with the version of SOCKS instead of that of RFC 1929. */
	if (n >= 1 && in[0] != SOCKS5_AUTH_VERSION && in[0] != SOCKS5_VERSION)
		return client_fail(c, "the upstream's answer to the password is malformed");
	if (n < 2)
		return PROTO_MORE;
	*used = 2;
	c->refused_user = in[1] != 0;
	if (c->refused_user)
		return client_fail(c, "the upstream refused the user name or password");
	return client_send_request(c, out, out_len);
}

static enum proto_step client_refused(struct socks5_client *c, uint8_t reply)
{
	client_fail(c, socks5_reply_text(reply));
	c->reply = reply;
	c->blame = socks5_reply_blame(reply);
	return PROTO_FAIL;
}

static enum proto_step client_read_reply(struct socks5_client *c, const uint8_t *in, size_t n,
					 size_t *used)
{
	struct proto_dest bound;
	int len;

	if (n >= 1 && in[0] != SOCKS5_VERSION)
		return client_fail(c, "the upstream's reply is not SOCKS5");
	/* The rest of a refusal is not waited for: some servers close after two to four bytes. */
	if (n >= 2 && in[1] != SOCKS5_SUCCEEDED) {
		*used = 2;
		return client_refused(c, in[1]);
	}
	len = socks5_message_len(in, n);
	if (len < 0)
		return client_fail(c, "the upstream's reply has an unknown address type");
	if (len == 0 || n < (size_t)len)
		return PROTO_MORE;
	*used = (size_t)len;
	socks5_message_dest(in, &bound);
	c->bound = bound.addr;
	c->state = CLIENT_DONE;
	return PROTO_DONE;
}

enum proto_step socks5_client_step(struct socks5_client *c, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len)
{
	*used = 0;
	*out_len = 0;
	switch ((enum client_state)c->state) {
	case CLIENT_START:
		return c->one_flight ? client_send_all(c, out, out_len)
				     : client_send_greeting(c, out, out_len);
	case CLIENT_METHOD:
		return client_read_method(c, in, n, used, out, out_len);
	case CLIENT_AUTH:
		return client_read_auth(c, in, n, used, out, out_len);
	case CLIENT_READY:
		return client_send_request(c, out, out_len);
	case CLIENT_REPLY:
		return client_read_reply(c, in, n, used);
	case CLIENT_DONE:
		return PROTO_DONE;
	case CLIENT_FAILED:
		break;
	}
	return PROTO_FAIL;
}
