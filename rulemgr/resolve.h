/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the configuration means on this host: names of users, interfaces, control groups and upstreams
 * become the numbers that rules are made of. Asks the user database, the name service, the network
 * namespace and the file system; changes nothing.
 */
#include "rulemgr/command.h"
#include "rulemgr/want.h"

/* Fills *w from a->conf (args_load), which it borrows. The exit code: 0, or r->error says why. Warnings go
 * to `r`; a gateway interface that is missing is one, unless `for_install`. */
int resolve_want(const struct args *a, bool for_install, struct want *w, struct report *r);

/* The parts, each 0 or a negative errno with `d` filled. */

/* A user given by name or number, from the user database. -ENOENT, -EINVAL. */
int resolve_user(uid_t *uid, const char *user, struct diag *d);
/* The name of an interface of this host in the form that rules see. -ENODEV. */
int resolve_interface(char out[IFNAMSIZ], const char *name, struct diag *d);
/* A control group (`path` as in want.h) below the mount point `root` of cgroup v2; borrows `path`.
 * -EOPNOTSUPP: there is none; -ENOENT. */
#define CGROUP_ROOT "/sys/fs/cgroup"
int resolve_cgroup(struct want_cgroup *g, const char *root, const char *path, struct diag *d);
