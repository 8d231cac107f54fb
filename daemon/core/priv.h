/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is left of root after start-up. Main thread, before any other thread exists.
 */
#include "policy/diag.h"

/* Started as root: becomes `user` with its group and no other, keeps CAP_NET_RAW alone (SO_MARK needs
 * it, Linux >= 5.17), and gives up gaining privileges by exec. `user` "root": stays as it is. Not
 * started as root: nothing to give up. 0, -ENOENT (no such user; `d` says how to make one) or -EPERM. */
int priv_drop(const char *user, struct diag *d);
