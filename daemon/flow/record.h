/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The access record: one line for one flow, written when it ends, complete in itself.
 */
#include "daemon/flow/session.h"

/* Called by session_end() before anything is closed. */
void record_write(const struct session *s, enum why why, int err, const char *detail);
/* For a flow that did not become a session. `err` is an errno or 0. */
void record_write_refused(const struct addr *client, enum why why, int err);
