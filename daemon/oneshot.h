/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a daemon's command line asks for instead of serving: something is printed, and the program ends.
 */
#include "daemon/daemon.h"
#include "daemon/options.h"

#define ONESHOT_NONE (-1)

/* Does what the flags ask for and returns the exit code; ONESHOT_NONE: they ask for nothing of the kind. */
int oneshot_run(const struct daemon_program *p, const struct daemon_options *o);

/* Says on standard error why the program ends; returns `code`. */
int oneshot_fail(const struct conf_program *p, int code, const struct diag *d);
