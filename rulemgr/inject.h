/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The way of a probe into an interface, as if its network had sent it: a TUN device of our own, whose
 * ingress a traffic control filter redirects to the ingress of that interface. The device, its filter
 * and all go with the descriptor, however this process ends.
 */
#include "rulemgr/probe.h"

/* Makes p->fd and chooses p->from.port. 0, or a negative errno with `d` filled; -EOPNOTSUPP: this
 * kernel or container has no TUN, or no act_mirred. */
int inject_open(struct probe *p, struct diag *d);

/* Puts the first packet of the connection in. 0 or a negative errno. */
int inject_send(struct probe *p);
