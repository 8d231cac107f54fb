/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The access record: one line for one flow, written when it ends, complete in itself.
 */
#include "daemon/flow/session.h"

/* Called by session_end() before anything is closed. */
void record_write(const struct session *s, enum why why, int err, const char *detail);
