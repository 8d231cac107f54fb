/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * usocksd's connections whose request has not come yet, and of nobody who has logged in. They cost their clients nothing, so
 * that there is a share for them, in two ways:
 *
 * limits.max_handshakes is for all of them together. Beyond it the oldest one of the worker is closed to make room for
 * the new one, as the kernel does with SYNs: a client that is there takes a round trip or two, whoever is
 * silent comes to be the oldest. To refuse new ones, at random or not, would refuse those who are in earnest
 * as often as their part of all is small.
 *
 * limits.max_handshakes_per_client is for those that are slow: without a request for a second. A burst of a client that is
 * in earnest, such as a gateway, is over by then. While a client has so many, its new connections are closed
 * before a byte of them is read; those that would become slow beyond that are closed then. So nothing is shared between
 * workers for clients that are quick, but for one counter.
 *
 * A connection that was answered because of what it sent instead of a request, and may read that, is one of
 * them as well. Those of trusted proxies are none: they may be kept ready. The worker's thread.
 */
#include <stdatomic.h>

#include "daemon/core/list.h"
#include "daemon/core/timer.h"

#define HALF_OPEN_SLOW_MS 1000

struct session;

/* Of one worker; the nodes are setup->half_open. */
struct half_open {
	struct list young, slow; /* the oldest first */
	struct timer timer;      /* set while there may be a young one */
	size_t n;                /* SHARED_GET() by other threads */
};

/* Of the daemon. */
struct half_open_budget {
	atomic_size_t live, slow;
	atomic_size_t max; /* the main thread changes it at a reload */
};

enum half_open_state { HALF_OPEN_NOT, HALF_OPEN_YOUNG, HALF_OPEN_SLOW };

void half_open_init(struct half_open *h);

/* A client has come; ends another one if that is one too many. False: its client has enough, and it has been ended. */
bool half_open_begin(struct session *s);
/* Its request is there, or its password, or it is gone. Fine where it has not begun. */
void half_open_end(struct session *s);
