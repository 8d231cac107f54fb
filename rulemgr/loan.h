/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The netlink socket that owns our table where redirection is to end with transocksd (when_daemon_down =
 * "open"): the daemon keeps it and lends it on its control socket. The kernel lets nobody change an owned table but
 * over this very socket, and removes the table when the last holder of it closes it. One owner, one thread,
 * blocking.
 */
#include "rulemgr/kernel.h"

/* While another borrows it. */
#define LOAN_BUSY_MS 5000
/* For a daemon that is just starting, maybe beside one that is ending. */
#define LOAN_START_MS 3000

struct loan {
	int connection; /* the loan lasts as long as this */
	struct kernel kernel;
};

/* Borrows it from the daemon that listens at `path` (NULL: the default); where that has none, makes one for it to
 * keep first if `create`, and then also waits for a daemon that is starting.
 * 0; -ENOTCONN: no daemon answers; -ENOENT: it keeps none; -EBUSY: another has it on loan; -EPERM: not for us;
 * -ESHUTDOWN: the daemon is ending, and there is no other yet (only if `create`); -EXDEV: it belongs to another network namespace than ours; another negative errno. All with `d`
 * filled. */
int loan_begin(struct loan *l, const char *path, bool create, struct diag *d);
void loan_end(struct loan *l);
