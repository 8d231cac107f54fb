/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is left of root after start-up. Main thread, before any other thread exists.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "policy/diag.h"

struct priv_user {
	bool change; /* false: this process stays what it is */
	uid_t uid;
	gid_t gid;
};

/* Whom to become: nobody else if not started as root, or if `user` is "root". 0, or -ENOENT: no such
 * user, and `d` says how to make one. */
int priv_find(const char *user, struct priv_user *u, struct diag *d);

/* Becomes that user with its group and no other, keeps CAP_NET_RAW alone (SO_MARK needs it,
 * Linux >= 5.17), and gives up gaining privileges by exec. 0 or -EPERM. */
int priv_drop(const struct priv_user *u, struct diag *d);

/* Once this process is `user`: whether it can read the file again. 0, or -EACCES, and `d` says what to do. */
int priv_may_read(const char *user, const char *file, struct diag *d);
