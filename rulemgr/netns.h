/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Working in another network namespace than the one we were started in.
 */
#include "policy/diag.h"

/* Moves this thread into network namespace `name`: a name as ip-netns(8) gives it, a path of a file (with
 * a slash in it), or the number of a process. Every socket made from now on is there; the file system
 * stays, and with it /sys, which goes on showing the namespace that it was mounted in (/proc/net follows).
 * To be called before anything else is opened. 0, or a negative errno with `d` filled. */
int netns_enter(const char *name, struct diag *d);
