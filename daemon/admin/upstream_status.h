/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the status says of upstreams: the part of status.h that transocksd has alone. The rows below are counted for
 * each upstream since the daemon was started, or since a configuration named it first. Main thread; what
 * others write meanwhile is read without a lock.
 */
#include "daemon/upstream/upstreams.h"
#include "policy/json.h"

/* clang-format off */
/*          name             help                                in a struct upstream_run *run */
#define UPSTREAM_STATUS_TABLE(ROW) \
	ROW(flows,           "live flows",                       run->flows) \
	ROW(warm,            "connections kept ready",           run->warm) \
	ROW(connects,        "connections that were made",       run->connects) \
	ROW(failed_resolve,  "attempts that found no address for its name", run->failures[UPSTREAM_FAILED_RESOLVE]) \
	ROW(failed_connect,  "attempts that were not connected", run->failures[UPSTREAM_FAILED_CONNECT]) \
	ROW(failed_greeting, "attempts that were not greeted in time, or refused", run->failures[UPSTREAM_FAILED_GREETING]) \
	ROW(failed_probe,    "probes that did not reach probe_dest", run->failures[UPSTREAM_FAILED_PROBE]) \
	ROW(reply_done,      "requests that reached their destination", run->replies[UPSTREAM_REPLY_DONE]) \
	ROW(reply_dest,      "requests whose destination could not be reached", run->replies[UPSTREAM_REPLY_DEST]) \
	ROW(reply_policy,    "requests that it does not allow",  run->replies[UPSTREAM_REPLY_POLICY]) \
	ROW(reply_upstream,  "requests that failed by its own fault", run->replies[UPSTREAM_REPLY_UPSTREAM]) \
	ROW(reply_none,      "requests without a reply",         run->replies[UPSTREAM_REPLY_NONE])
/* clang-format on */

struct upstream_status_row {
	const char *name;
	const char *help;
	uint64_t (*get)(const struct upstream_run *run);
};

extern const struct upstream_status_row upstream_status_rows[];
extern const size_t n_upstream_status_rows;

/* A member "upstreams" of the object that is being written. */
void upstream_status_json(const struct upstreams *u, uint64_t now_ms, struct json *j);
/* A few lines, the first one empty; nothing where there are no upstreams. */
void upstream_status_text(const struct upstreams *u, uint64_t now_ms, struct strbuf *out);
