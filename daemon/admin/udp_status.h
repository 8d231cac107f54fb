/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What status.h tells of UDP associations: how many there are, and why datagrams were dropped. Main thread; read without a
 * lock.
 */
#include "daemon/admin/status.h"
#include "policy/json.h"

/* A member `udp`. */
void udp_status_json(const struct status *st, struct json *j);
/* The same as a few lines. */
void udp_status_text(const struct status *st, struct strbuf *out);

/* Datagrams dropped for that reason (enum udp_drop), by all workers. */
uint64_t udp_status_dropped(const struct status *st, unsigned why);
