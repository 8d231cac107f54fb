/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/handshake.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void handshake_start(struct handshake *h, const struct proxy_url *upstream, const uint8_t *header,
		     size_t header_len, bool one_flight)
{
	BUG_ON(header_len > HANDSHAKE_HEADER_MAX);
	h->begun = true;
	h->spoken = false;
	h->reply = 0;
	h->error = NULL;
	h->refused_user = false;
	h->blame = BLAME_UPSTREAM;
	h->err = 0;
	h->out_off = 0;
	h->out_len = header_len;
	if (header_len > 0)
		memcpy(h->out, header, header_len);
	proto_client_init(&h->client, upstream->scheme, upstream->user, upstream->password);
	if (one_flight)
		proto_client_one_flight(&h->client);
}

void handshake_dest(struct handshake *h, const struct proto_dest *dest)
{
	h->dest = *dest;
	proto_client_dest(&h->client, &h->dest);
}

bool handshake_may_be_name(const struct handshake *h, enum handshake_result result)
{
	/* Codes of SOCKS5 and SOCKS4, and statuses of HTTP. Not those of a destination that was found: there the address would
	 * be another try at what the client did not name. */
	static const unsigned replies[] = {
		SOCKS5_GENERAL_FAILURE,
		SOCKS5_HOST_UNREACHABLE,
		SOCKS5_BAD_ADDRESS_TYPE,
		91,
		400,
		404,
		500,
		502,
		503,
		504,
	};

	if (h->blame != BLAME_DEST || result != HANDSHAKE_REFUSED)
		return h->blame == BLAME_DEST && result == HANDSHAKE_BAD;
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		if (h->reply == replies[i])
			return true;
	}
	return false;
}

bool handshake_greeting(const struct handshake *h)
{
	return proto_client_greeting(&h->client);
}

static enum handshake_result handshake_errno(struct handshake *h)
{
	if (errno == EAGAIN)
		return HANDSHAKE_WAIT;
	h->err = errno;
	h->blame = proto_client_silence(&h->client);
	return HANDSHAKE_FAILED;
}

/* The client has ended with an error: `r`, unless it was answered. */
static enum handshake_result handshake_told(struct handshake *h, enum handshake_result r)
{
	h->reply = h->client.reply;
	h->error = h->client.error;
	h->blame = h->client.blame;
	h->refused_user = h->client.refused_user;
	return h->reply != 0 ? HANDSHAKE_REFUSED : r;
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
		proto_client_closed(&h->client);
		return handshake_told(h, HANDSHAKE_CLOSED);
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
	size_t used, n;

	for (;;) {
		/* A header waits for the first words behind it, and goes with them in one packet. */
		r = h->spoken ? handshake_send(h, fd) : HANDSHAKE_DONE;
		if (r != HANDSHAKE_DONE)
			return r;
		step = proto_client_step(&h->client, buf_head(in), in->len, &used,
					 h->out + h->out_len, &n);
		buf_consume(in, used);
		h->out_len += n;
		h->spoken = true;
		switch (step) {
		case PROTO_SEND:
			continue;
		case PROTO_MORE:
			if (h->out_len > 0) /* a header with nothing behind it */
				continue;
			if (proto_client_ready(&h->client))
				return HANDSHAKE_READY;
			r = handshake_receive(h, fd, in, readable, behind);
			if (r != HANDSHAKE_DONE)
				return r;
			continue;
		case PROTO_DONE:
			return HANDSHAKE_DONE;
		case PROTO_FAIL:
			return handshake_told(h, HANDSHAKE_BAD);
		}
	}
}
