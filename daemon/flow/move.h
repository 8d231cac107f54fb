/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What relay.c, which decides when a direction moves and what its end means, and the engines that move its
 * bytes (copy.c, splice.c) say to each other. An engine moves what came from one leg to the other, in order,
 * until one of them has nothing more to give or takes nothing more, or its share of the turn is used up. It
 * counts in from->nbytes what the other side's kernel has taken.
 */
#include "daemon/flow/session.h"

enum move {
	MOVE_BLOCKED,     /* nothing more can be moved until one of the legs has news */
	MOVE_MORE,        /* this turn's share is used up: go on in the next turn */
	MOVE_EOF,         /* everything that came before the FIN has been passed on */
	MOVE_FROM_FAILED, /* reading failed; what came before that has been passed on. *err */
	MOVE_TO_FAILED,   /* writing failed. *err */
	MOVE_NO_MEMORY,
	MOVE_UNABLE, /* splice(2) does not work here, or not now: copy, first what is in the pipe */
};

/* How many bytes that came from `leg` are in its pipe. */
uint32_t move_piped(const struct leg *leg);

/* For the engines: what it means that reading has given no bytes (`n` <= 0, errno). */
enum move move_no_bytes(struct leg *from, ssize_t n, int *err);
