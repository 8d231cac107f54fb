/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/handshake.h"

#include <errno.h>
#include <sys/socket.h>

void handshake_start(struct handshake *h, const struct proxy_url *upstream, bool one_flight)
{
	h->reply = 0;
	h->error = NULL;
	h->err = 0;
	h->out_off = h->out_len = 0;
	socks5_client_init(&h->client, upstream->user, upstream->password, &h->dest);
	if (one_flight)
		socks5_client_one_flight(&h->client);
}

bool handshake_greeting(const struct handshake *h)
{
	return socks5_client_greeting(&h->client);
}

static enum handshake_result handshake_errno(struct handshake *h)
{
	if (errno == EAGAIN)
		return HANDSHAKE_WAIT;
	h->err = errno;
	return HANDSHAKE_FAILED;
}

/* DONE: everything is out. */
static enum handshake_result handshake_send(struct handshake *h, int fd)
{
	while (h->out_off < h->out_len) {
		ssize_t n = send(fd, h->out + h->out_off, h->out_len - h->out_off, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return handshake_errno(h);
		h->out_off += (size_t)n;
	}
	h->out_off = h->out_len = 0;
	return HANDSHAKE_DONE;
}

/* DONE: something came. */
static enum handshake_result handshake_receive(struct handshake *h, int fd, struct buf *in,
					       bool *readable, bool behind)
{
	size_t room = buf_room(in);
	ssize_t n;

	if (!*readable)
		return HANDSHAKE_WAIT;
	do {
		n = recv(fd, buf_tail(in), room, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		*readable = false;
		return handshake_errno(h);
	}
	if (n == 0) {
		h->error = "the upstream closed the connection during the handshake";
		return HANDSHAKE_CLOSED;
	}
	/* A short read has emptied the socket, unless something is known to come after it. */
	*readable = (size_t)n == room || behind;
	in->len += (uint32_t)n;
	return HANDSHAKE_DONE;
}

enum handshake_result handshake_step(struct handshake *h, int fd, struct buf *in, bool *readable,
				     bool behind)
{
	enum handshake_result r;
	enum proto_step step;
	size_t used;

	for (;;) {
		r = handshake_send(h, fd);
		if (r != HANDSHAKE_DONE)
			return r;
		step = socks5_client_step(&h->client, buf_head(in), in->len, &used, h->out,
					  &h->out_len);
		buf_consume(in, used);
		switch (step) {
		case PROTO_SEND:
			continue;
		case PROTO_MORE:
			r = handshake_receive(h, fd, in, readable, behind);
			if (r != HANDSHAKE_DONE)
				return r;
			continue;
		case PROTO_DONE:
			return HANDSHAKE_DONE;
		case PROTO_FAIL:
			h->reply = h->client.reply;
			h->error = h->client.error;
			return h->reply != 0 ? HANDSHAKE_REFUSED : HANDSHAKE_BAD;
		}
	}
}
