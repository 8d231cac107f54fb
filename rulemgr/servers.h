/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who serves at an address of this host, as an upstream may: from the kernel's list of sockets, and the
 * processes that hold them.
 */
#include "policy/addr.h"
#include "policy/diag.h"
#include "rulemgr/holder.h"

#define SERVERS_MAX 16

struct servers {
	uint32_t mark;     /* of one of the listeners; 0: none, or no privilege to see it */
	size_t n_sockets;  /* that listen there */
	uid_t socket_user; /* of the last of them; its server may have become another user since */
	struct holder holders[SERVERS_MAX];
	size_t n; /* 0: no process is seen that holds them */
};

/* Whether it is an address of this network namespace. */
bool servers_is_here(const struct addr *at);

/* Reads them for that address and TCP port. 0, or a negative errno with `d` filled. */
int servers_read(const struct addr *at, struct servers *s, struct diag *d);
