/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The relay decides how the two directions of a flow go on and end: half-close, errors, idle limits.
 * Moving the bytes is copy.c's business.
 */
#include "daemon/flow/session.h"

/* Both legs are connected; what set-up received beyond its own messages is in their `pending`. */
void relay_start(struct session *s);
/* One of the legs has news. */
void relay_event(struct session *s);
