/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whose socket is at the other end of a connection, if that is on this host: asked of the kernel by
 * sock_diag(7). It tells our own connections, redirected back to us, from those of other programs.
 */
#include "policy/addr.h"

/* True if the TCP socket that is connected from `local` to `remote`, in this network namespace, is one of
 * this process. Cheap where it belongs to another user; else the descriptors of this process are walked
 * through. False also where the kernel does not say. Any thread. */
bool owner_is_self(const struct addr *local, const struct addr *remote);
