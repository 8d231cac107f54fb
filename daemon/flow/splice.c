/* SPDX-License-Identifier: MIT */
#include "daemon/flow/splice.h"

#include <errno.h>
#include <fcntl.h>

/* About so many bytes are moved in one turn, so that a bulk flow does not starve the others. */
#define SPLICE_SHARE (512 * 1024)

/* Errors of splice(2) itself, not of a socket: memory, a socket or a filter of system calls that does not let it.
 * Nothing has been moved, and the sockets can still be read and written. */
static bool splice_is_unable(int err)
{
	return err == ENOMEM || err == ENOBUFS || err == EINVAL || err == ENOSYS || err == EPERM;
}

/* Empties the pipe into the socket. True: it is empty. False: *result says why not. */
static bool splice_out(struct leg *from, struct leg *to, enum move *result, int *err)
{
	struct pipe *p = from->pipe;

	while (p->fill > 0) {
		ssize_t n = splice(p->out, NULL, to->source->fd, NULL, p->fill,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n > 0) {
			p->fill -= (uint32_t)n;
			from->nbytes += (uint64_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			to->writable = false;
			*result = MOVE_BLOCKED;
			return false;
		} else if (n < 0 && splice_is_unable(errno)) {
			*result = MOVE_UNABLE;
			return false;
		} else if (n == 0 || errno != EINTR) {
			*err = n == 0 ? EPIPE : errno;
			*result = MOVE_TO_FAILED;
			return false;
		}
	}
	return true;
}

/* Fills the pipe from the socket. True: bytes came. False: *result says why not. The pipe is empty when
 * this is called, so EAGAIN means that the socket is: with bytes inside it could as well mean that the
 * pipe's slots are used up, long before its bytes are. */
static bool splice_in(struct leg *from, enum move *result, int *err)
{
	struct pipe *p = from->pipe;
	ssize_t n;

	BUG_ON(p->fill > 0);
	do {
		n = splice(from->source->fd, NULL, p->in, NULL, SPLICE_SHARE,
			   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		p->fill = (uint32_t)n;
		return true;
	}
	if (n < 0 && splice_is_unable(errno))
		*result = MOVE_UNABLE;
	else
		*result = move_no_bytes(from, n, err);
	return false;
}

enum move splice_move(struct leg *from, struct leg *to, int *err)
{
	uint64_t until = from->nbytes + SPLICE_SHARE;
	enum move result = MOVE_BLOCKED;

	while (from->nbytes < until) {
		if (!to->writable || !splice_out(from, to, &result, err))
			return result;
		if (from->eof)
			return MOVE_EOF;
		if (!from->readable)
			return MOVE_BLOCKED;
		if (!splice_in(from, &result, err))
			return result;
	}
	return MOVE_MORE;
}
