/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The flows that TPROXY has brought to this host, from its sockets: connection tracking knows only those of the
 * host itself. One thread, blocking.
 */
#include "rulemgr/flows.h"

/* Adds the TCP connections of this host whose own address is none of it: the destination that the client
 * wanted. Those of a program that makes such sockets by itself count as well. 0, or a negative errno with
 * `d` filled. Source: sock_diag(7). */
int transparent_read(struct flows *f, struct diag *d);
