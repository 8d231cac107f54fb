/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The life of a daemon, the same for both: command line, configuration, listeners, privileges, workers,
 * signals, drain. main() says only which configuration it reads and how flows come in.
 */
#include "daemon/flow/inbound.h"
#include "daemon/options.h"
#include "policy/conf.h"

struct daemon_program {
	const struct conf_program *conf;
	const struct inbound *inbound;
	const struct flag *flags;
	const char *summary; /* first lines of --help */
};

/* Returns the exit code. */
int daemon_main(const struct daemon_program *p, int argc, char **argv);
