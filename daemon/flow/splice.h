/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Moves the bytes of one direction through a pipe of the worker with splice(2), without bringing them into
 * user space. The counterpart of copy.c; relay.c says when which is used.
 */
#include "daemon/flow/move.h"

/* `from->pipe` must be there. */
enum move splice_move(struct leg *from, struct leg *to, int *err);
