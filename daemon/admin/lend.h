/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The netlink socket that owns the rules which vanish with the daemon (when_daemon_down = "open"). The kernel
 * removes an owned table when its socket closes, whatever way the daemon ends. transocks-rules makes it, hands
 * it over on the control socket, and borrows it for every change, because only this socket may make one. The
 * daemon never reads or writes it. Main thread.
 */
#include <stdbool.h>

struct lend {
	int fd;               /* -1: none */
	const void *borrower; /* who has it now; NULL: nobody */
};

void lend_init(struct lend *l);
/* Keeps `fd`, which it takes over in any case, in place of what it has. 0; -EINVAL: not a socket to netfilter;
 * -EBUSY: somebody else has the present one on loan. */
int lend_keep(struct lend *l, int fd, const void *who);
/* The socket, which stays ours, until lend_end(): -ENOENT if there is none, -EBUSY if it is on loan. */
int lend_begin(struct lend *l, const void *borrower);
/* Fine for one who has nothing on loan. */
void lend_end(struct lend *l, const void *borrower);
/* Closes it: its table is gone. -EBUSY if it is on loan to somebody else. */
int lend_drop(struct lend *l, const void *who);
