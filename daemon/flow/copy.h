/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Moves the bytes of one direction by copying through the worker's scratch buffer: one of the ways to
 * move them (move.h). What the other one has left in the pipe goes first.
 */
#include "daemon/flow/move.h"

enum move copy_move(struct engine *e, struct leg *from, struct leg *to, int *err);
