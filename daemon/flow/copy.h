/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Moves the bytes of one direction by copying through the worker's scratch buffer: one of the ways to
 * move them. When to move, and what an end or an error means, is relay.c's business.
 */
#include "daemon/flow/session.h"

enum move {
	MOVE_BLOCKED,     /* nothing more can be moved until one of the legs has news */
	MOVE_MORE,        /* this turn's share is used up: go on in the next turn */
	MOVE_EOF,         /* everything that came before the FIN has been passed on */
	MOVE_FROM_FAILED, /* reading failed; what came before that has been passed on. *err */
	MOVE_TO_FAILED,   /* writing failed. *err */
	MOVE_NO_MEMORY,
};

enum move copy_move(struct engine *e, struct leg *from, struct leg *to, int *err);
