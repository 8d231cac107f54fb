/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What stands on the command line of a sub-command, checked as far as it can be without asking this
 * host. The strings are those of argv.
 */
#include "policy/cmdline.h"
#include "rulemgr/want.h"

struct args {
	uint16_t port;
	const char *user; /* a name or a number; NULL: DEFAULT_USER */
	struct mark mark;
	const char *gateways[WANT_GATEWAYS_MAX];
	size_t n_gateways;
	bool dry_run;
	bool json;
	bool help;
};

/* The flags of the two sub-commands. */
extern const struct flag args_install_flags[];
extern const struct flag args_flush_flags[];

/* Parses argv[1..argc) into *a, which gets the defaults first. 0, or -EINVAL with `d` filled. */
int args_parse(struct args *a, const struct flag *flags, int argc, char **argv, struct diag *d);

/* The uid of a user given by name or number (NULL: DEFAULT_USER), from the user database.
 * 0, or -ENOENT or -EINVAL with a text that says how to name one. */
int args_find_uid(uid_t *uid, const char *user, struct diag *d);

/* Brings the name of an interface of this host into the form that rules see. 0, or -ENODEV with `d`
 * filled. */
int args_find_interface(char out[IFNAMSIZ], const char *name, struct diag *d);
