/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The part of a status that is about usocksd's own addresses. Main thread.
 */
#include "daemon/egress/egress.h"
#include "policy/json.h"
#include "policy/strbuf.h"

/* clang-format off */
/*          name          help                                                in a struct egress_addr *a */
#define EGRESS_STATUS_TABLE(ROW) \
	ROW(flows,        "live flows from it",                               a->flows) \
	ROW(connects,     "connections that were made from it",               a->connects) \
	ROW(failed,       "destinations that could not be connected to",      a->failed) \
	ROW(failed_binds, "attempts to use it while it was not of this host", a->failed_binds) \
	ROW(bytes_up,     "bytes passed on for clients, by flows that have ended", a->bytes_up) \
	ROW(bytes_down,   "bytes passed on to clients, by the same",          a->bytes_down)
/* clang-format on */

/* The member "egress": an array. */
void egress_status_json(const struct egress *e, struct json *j);
/* A table; nothing where no address is configured. */
void egress_status_text(const struct egress *e, struct strbuf *out);
