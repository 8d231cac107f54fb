/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks4.h"

#include <string.h>

#define VERSION     4
#define CONNECT     1
#define REQUEST_LEN 8 /* VN CD DSTPORT DSTIP */
#define REPLY_LEN   8

enum client_state {
	CLIENT_START,
	CLIENT_REPLY, /* waits for the reply to the request */
	CLIENT_DONE,
	CLIENT_FAILED,
};

void socks4_client_init(struct socks4_client *c, const char *user)
{
	BUG_ON(strlen(user) > 255);
	*c = (struct socks4_client){.state = CLIENT_START, .user = user};
}

void socks4_client_dest(struct socks4_client *c, const struct proto_dest *dest)
{
	BUG_ON(c->state != CLIENT_START);
	c->dest = dest;
}

static enum proto_step client_fail(struct socks4_client *c, enum proto_blame blame,
				   const char *error)
{
	c->state = CLIENT_FAILED;
	c->blame = blame;
	c->error = error;
	return PROTO_FAIL;
}

/* The address that says: a name follows (4a). Any 0.0.0.x does but 0.0.0.0. */
static const uint8_t name_follows[4] = {0, 0, 0, 1};

/* What stands behind the user id instead of an address: its length without the NUL, 0: nothing; or -1: it
 * cannot be sent. */
static int client_name(const struct proto_dest *d, char out[256])
{
	struct addr a = d->addr;

	a.scope = 0; /* means nothing on another host */
	if (a.family == AF_UNSPEC) {
		memcpy(out, d->name, d->name_len);
		out[d->name_len] = '\0';
		return d->name_len > 0 && memchr(out, '\0', d->name_len) == NULL ? d->name_len : -1;
	}
	/* 0.0.0.x is no destination, but would be taken for the beginning of a name. */
	if (a.family == AF_INET && memcmp(a.ip, name_follows, 3) != 0)
		return 0;
	return (int)strlen(addr_format_ip(&a, out, 256));
}

static enum proto_step client_send_request(struct socks4_client *c, uint8_t *out, size_t *out_len)
{
	size_t user_len = strlen(c->user) + 1, n = REQUEST_LEN;
	char name[256];
	int name_len;

	if (c->dest == NULL)
		return PROTO_MORE;
	name_len = client_name(c->dest, name);
	if (name_len < 0)
		return client_fail(c, BLAME_DEST, "SOCKS4a has no way to write this name");
	out[0] = VERSION;
	out[1] = CONNECT;
	out[2] = (uint8_t)(c->dest->port >> 8);
	out[3] = (uint8_t)c->dest->port;
	memcpy(out + 4, name_len > 0 ? name_follows : c->dest->addr.ip, 4);
	memcpy(out + n, c->user, user_len);
	n += user_len;
	if (name_len > 0) {
		memcpy(out + n, name, (size_t)name_len + 1);
		n += (size_t)name_len + 1;
	}
	*out_len = n;
	c->state = CLIENT_REPLY;
	return PROTO_SEND;
}

static enum proto_step client_refused(struct socks4_client *c, uint8_t reply)
{
	switch (reply) {
	case SOCKS4_REJECTED: /* the one code for a rule of the proxy and for whatever the destination did */
		c->reply = reply;
		return client_fail(c, BLAME_DEST, "request rejected or failed");
	case SOCKS4_NO_IDENTD:
		c->reply = reply;
		return client_fail(c, BLAME_UPSTREAM,
				   "the upstream asks for identd, which does not run here");
	case SOCKS4_IDENTD_DIFFERS:
		c->reply = reply;
		return client_fail(c, BLAME_UPSTREAM, "identd here reports another user id");
	default:
		return client_fail(c, BLAME_UPSTREAM, "the upstream's reply has an unknown code");
	}
}

static enum proto_step client_read_reply(struct socks4_client *c, const uint8_t *in, size_t n,
					 size_t *used)
{
	/* VN of a reply is 0; some servers send that of the request. */
	if (n >= 1 && in[0] != 0 && in[0] != VERSION)
		return client_fail(c, BLAME_UPSTREAM, "the upstream does not speak SOCKS4");
	if (n < 2)
		return PROTO_MORE;
	/* The rest of a refusal is not waited for: not every server sends it. */
	if (in[1] != SOCKS4_GRANTED) {
		*used = 2;
		return client_refused(c, in[1]);
	}
	if (n < REPLY_LEN)
		return PROTO_MORE;
	*used = REPLY_LEN; /* of CONNECT the address in it means nothing */
	c->state = CLIENT_DONE;
	return PROTO_DONE;
}

enum proto_step socks4_client_step(struct socks4_client *c, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len)
{
	*used = 0;
	*out_len = 0;
	switch ((enum client_state)c->state) {
	case CLIENT_START:
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
