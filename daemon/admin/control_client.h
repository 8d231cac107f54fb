/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Asks a running daemon on its control socket (control.h). Blocking, for a program that does nothing else.
 */
#include "policy/diag.h"
#include "policy/strbuf.h"

/* Sends `line` (without newline) and appends the answer to `out`. 0, or -errno with `d`: whatever the reason,
 * no daemon has answered; -EACCES and -EPERM: we may not ask. */
int control_ask(const char *path, const char *line, struct strbuf *out, struct diag *d);
