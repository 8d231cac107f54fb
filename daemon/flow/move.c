/* SPDX-License-Identifier: MIT */
#include "daemon/flow/move.h"

#include <errno.h>

uint32_t move_piped(const struct leg *leg)
{
	return leg->pipe != NULL ? leg->pipe->fill : 0;
}

enum move move_no_bytes(struct leg *from, ssize_t n, int *err)
{
	if (n < 0 && errno == EAGAIN) {
		from->readable = false;
		return MOVE_BLOCKED;
	}
	/* Once an error has been reported, the kernel shows it as an end of file. */
	if (n < 0 || from->broken) {
		*err = n < 0 ? errno : ECONNRESET;
		return MOVE_FROM_FAILED;
	}
	from->eof = true;
	return MOVE_EOF;
}
