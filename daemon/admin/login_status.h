/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * usocksd's logins in the status, for admin/status; the manual's table is held against the rows. Main thread, without the
 * lock of the logins: the numbers of one answer may be a moment apart.
 */
#include "daemon/flow/logins.h"
#include "policy/json.h"
#include "policy/strbuf.h"

/* clang-format off */
/*          name     help                                          in a struct logins *ls */
#define LOGIN_STATUS_TABLE(ROW) \
	ROW(waiting, "logins that wait to be checked",              ls->n_waiting) \
	ROW(running, "logins that are being checked",               ls->n_running) \
	ROW(checked, "logins that have been checked, or are",       ls->n_checked) \
	ROW(refused, "logins that failed because too many waited",  ls->n_refused)
/* clang-format on */

/* An object "logins". */
void login_status_json(const struct logins *ls, struct json *j);
void login_status_text(const struct logins *ls, struct strbuf *out);
