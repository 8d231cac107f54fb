/* SPDX-License-Identifier: MIT */
#include "daemon/flow/copy.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* At most this many buffers are moved in one turn, so that a bulk flow does not starve the others. */
#define COPY_ROUNDS 2

/* Sends what `b` holds. True: all is out. False: *result says why not. */
static bool copy_send(struct leg *from, struct leg *to, struct buf *b, enum move *result, int *err)
{
	while (b->len > 0) {
		ssize_t n = send(to->source->fd, buf_head(b), b->len, MSG_NOSIGNAL);

		if (n >= 0) {
			from->nbytes += (uint64_t)n;
			buf_consume(b, (size_t)n);
		} else if (errno == EAGAIN) {
			to->writable = false;
			*result = MOVE_BLOCKED;
			return false;
		} else if (errno != EINTR) {
			*err = errno;
			*result = MOVE_TO_FAILED;
			return false;
		}
	}
	return true;
}

/* What splice_move() has left in the pipe comes before what the socket has. As copy_receive(). */
static bool copy_from_pipe(struct engine *e, struct leg *from, enum move *result, int *err)
{
	struct pipe *p = from->pipe;
	ssize_t n;

	do {
		n = read(p->out, e->scratch->data, p->fill < BUF_CAP ? p->fill : BUF_CAP);
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		*err = n < 0 ? errno : EIO;
		*result = MOVE_FROM_FAILED;
		return false;
	}
	p->fill -= (uint32_t)n;
	e->scratch->len = (uint32_t)n;
	return true;
}

/* Reads into the scratch buffer. True: bytes came. False: *result says why not. */
static bool copy_receive(struct engine *e, struct leg *from, enum move *result, int *err)
{
	ssize_t n;

	if (move_piped(from) > 0)
		return copy_from_pipe(e, from, result, err);
	do {
		n = recv(from->source->fd, e->scratch->data, BUF_CAP, 0);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		e->scratch->len = (uint32_t)n;
		/* A short read has emptied the socket, unless something is known to come after it:
		 * what arrives later is a new event. */
		if (n < BUF_CAP && !from->behind && !from->broken)
			from->readable = false;
		return true;
	}
	*result = move_no_bytes(from, n, err);
	return false;
}

/* What was received last could not be sent completely: the flow keeps the buffer. */
static bool copy_keep(struct engine *e, struct leg *from)
{
	from->pending = engine_keep_scratch(e);
	return from->pending != NULL;
}

enum move copy_move(struct engine *e, struct leg *from, struct leg *to, int *err)
{
	enum move result = MOVE_BLOCKED;

	if (from->pending != NULL) {
		if (!to->writable || !copy_send(from, to, from->pending, &result, err))
			return result;
		pool_put(&e->bufs, from->pending);
		from->pending = NULL;
	}
	if (from->eof && move_piped(from) == 0)
		return MOVE_EOF;
	for (int round = 0; round < COPY_ROUNDS; round++) {
		if ((!from->readable && move_piped(from) == 0) || !to->writable)
			return MOVE_BLOCKED;
		if (!copy_receive(e, from, &result, err))
			return result;
		if (!copy_send(from, to, e->scratch, &result, err)) {
			if (result == MOVE_TO_FAILED)
				e->scratch->off = e->scratch->len = 0;
			else if (!copy_keep(e, from))
				result = MOVE_NO_MEMORY;
			return result;
		}
	}
	return MOVE_MORE;
}
