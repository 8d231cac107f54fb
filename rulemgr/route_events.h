/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Tells that somebody has changed the ip rules and routes of TPROXY: rtnetlink(7)'s groups of rules and routes, of which the
 * kernel passes on only what is about our table, so that a router's thousands of others wake
 * nobody. Who it was is not said. One owner, one thread.
 */
#include "policy/diag.h"

/* A descriptor to poll and to close; a negative errno with `d` filled. */
int route_events_open(struct diag *d);

/* Reads all that is there. 1: something has changed, or some of it is lost; 0: nothing; a negative errno. */
int route_events_read(int fd);
