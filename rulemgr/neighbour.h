/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * An address that a client behind an interface of this host could have.
 */
#include "policy/addr.h"

/* One of the network that the interface has an address in, not its own. The port is 0. 0; -ENETDOWN: the
 * interface is down; -EADDRNOTAVAIL: it has no such network; another negative errno. */
int neighbour_choose(const char *interface, uint8_t family, struct addr *out);

/* The address next to `own` in its network of `mask` (both of one family), neither the network's own
 * nor for all; false: there is no other. Pure. */
bool neighbour_of(const struct addr *own, const struct addr *mask, struct addr *out);
