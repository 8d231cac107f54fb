/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What becomes of a connection that goes to this host itself: it is accepted, or not, and lives on. Blocking.
 */
#include "rulemgr/peer.h"

/* How long a connection within this host, and its accept, may take. */
#define ARRIVAL_WAIT_MS 1000
/* What a flow must live for after its accept: an upstream that refuses has said so by then. */
#define ARRIVAL_LIVE_MS 300

/* Waits for a connection of ours: 0, or what became of it. */
int arrival_connected(int fd);
/* Waits until the program at the other end has accepted. 0; -ENOENT: it has closed already. */
int arrival_accepted(const struct addr *local, const struct addr *remote, struct peer *out);
/* Whether who accepted it has ended it within ARRIVAL_LIVE_MS after it has waited so long for the client to speak. */
bool arrival_ends(int fd, int64_t held_up_ms);
