/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a daemon tells of itself: for a program as JSON, for a person as text. Both, and the table in
 * the manual, are made from the rows below: what is counted in each worker. Main thread; what workers
 * write is read without a lock (daemon/core/shared.h), so that the numbers of one answer may
 * be a moment apart.
 */
#include "daemon/flow/engine.h"
#include "policy/strbuf.h"

/* clang-format off */
/*          name           help                               in a struct engine *e */
#define STATUS_TABLE(ROW) \
	ROW(flows,         "live flows",                      e->n_live) \
	ROW(sessions_live, "sessions in use",                 e->sessions.live) \
	ROW(sessions_idle, "sessions kept for reuse",         e->sessions.idle) \
	ROW(setups_live,   "flows that are being set up",     e->setups.live) \
	ROW(setups_idle,   "set-up states kept for reuse",    e->setups.idle) \
	ROW(buffers_live,  "buffers in use, one of them the worker's own", e->bufs.live) \
	ROW(buffers_idle,  "buffers kept for reuse",          e->bufs.idle) \
	ROW(pipes_live,    "pipes in use, by bulky flows",    e->pipes.live) \
	ROW(pipes_idle,    "pipes kept for reuse",            e->pipes.idle) \
	ROW(half_open,     "usocksd: connections whose request has not come yet", e->half_open.n) \
	ROW(resolving,     "usocksd: requests that name servers are asked for", e->n_resolving)
/* clang-format on */

struct status_row {
	const char *name;
	const char *help;
	uint64_t (*get)(const struct engine *e);
};

extern const struct status_row status_rows[];
extern const size_t n_status_rows;

/* Where the numbers are. */
struct status {
	const struct conf *conf;
	const struct plan *plan;
	const char *file; /* that it was read from, with drop-ins and what they name: conf->files */
	const char *reload_error; /* why the files are not in force as they are now; or "" */
	const struct budget *budget;
	const struct engine *engines;
	unsigned n_engines;
	uint64_t now_ms; /* loop time */
	uint64_t uptime_ms;
	int64_t started_s; /* since 1970, as the clock was then */
	bool draining;     /* nobody listens any more */
};

/* One object, and a newline. */
void status_json(const struct status *st, struct strbuf *out);
void status_text(const struct status *st, struct strbuf *out);
