/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The process that `install --confirm` leaves behind, to tidy up after a trial that nobody has confirmed. The
 * way back does not depend on it (trial.h).
 */
#include <stdint.h>

#include "policy/diag.h"

/* Starts it, in a session of its own and without the descriptors of this process, for a trial that ends in `ms`.
 * `control` as in struct kernel.
 * 0, or a negative errno with `d` filled. */
int watcher_start(int64_t ms, const char *control, struct diag *d);
