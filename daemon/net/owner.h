/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whose socket is at the other end of a connection, if that is on this host: asked of the kernel by
 * sock_diag(7). It tells our own connections, redirected back to us, from those of other programs.
 */
#include "policy/addr.h"

/* A socket to ask by. One thread at a time; `seq` and `fd` are private. */
struct owner {
	int fd; /* -1: not open */
	uint32_t seq;
};

/* The socket is opened by the first question. */
void owner_init(struct owner *o);
void owner_close(struct owner *o);

/* True if the TCP socket that is connected from `local` to `remote`, in this network namespace, is one of
 * this process. Cheap where it belongs to another user; else the descriptors of this process are walked
 * through. False also where the kernel does not say. */
bool owner_is_self(struct owner *o, const struct addr *local, const struct addr *remote);
