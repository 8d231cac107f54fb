/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From which own address a flow goes to its destination: usocksd's clients have theirs (daemon/egress/egress.h), and the
 * session remembers which it is while it counts there. For transocksd, which has none, all of it does nothing. Same
 * thread as the session.
 */
#include "daemon/flow/session.h"

/* How the destination is dialled. What it points to lives in struct setup. */
struct sock_options outgoing_options(struct session *s);
/* Binds `fd`, of `family`, which is not dialled with, to the client's own address, the first of them that can be. 0, and
 * *source is its place in the options; -1 where none is configured, and nothing is bound. Or -errno: -EAFNOSUPPORT there is none
 * of that family, -EADDRNOTAVAIL none is of this host. */
int outgoing_bind_own(struct session *s, int fd, int family, int *source);
/* A UDP socket of that family, bound to the first address of the choice that it can be bound to. The descriptor, and *from
 * is that address, or NULL where none is configured; or -errno as above. */
int outgoing_datagram(const struct session *s, int family, const struct egress_choice *choice,
		      struct egress_addr **from);
/* The remote end is connected, from that place in the options (dial.source). */
void outgoing_take(struct session *s, int source);
/* It could not be connected to. */
void outgoing_failed(struct session *s, int source);
/* The remote end is closed; fine without one. */
void outgoing_leave(struct session *s);
/* What says more than the errno of such a failure; or NULL. */
const char *outgoing_trouble(const struct session *s, int status);
