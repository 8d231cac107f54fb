/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is said of a trial, by either backend.
 */
#include "rulemgr/command.h"
#include "rulemgr/watcher.h"

/* For `install`, on trial or not: says so, and leaves somebody to tidy up by `end`. `previous`: there are rules to go
 * back to; `what` they are, "the table". */
void trial_tell_begun(const struct args *a, bool previous, const char *what, watcher_end_fn *end,
		      struct report *r);

/* For `status`: one is on for `left_ms`. */
void trial_tell_left(int64_t left_ms, bool previous, struct report *r);
