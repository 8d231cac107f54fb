/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Timers on a hierarchical wheel: set, cancel and fire cost the same however many there are. A
 * timer is embedded in what it belongs to. It fires once, never early, and at most one tick late
 * when the loop is not busy. Same thread as its loop.
 */
#include <stdint.h>

#include "daemon/core/list.h"

#define TIMER_TICK_MS 4
#define WHEEL_BITS    6
#define WHEEL_SLOTS   (1 << WHEEL_BITS)
#define WHEEL_LEVELS  5 /* 64^5 ticks of 4 ms: 49 days; what is longer is filed again then */

struct timer {
	struct list node;
	uint64_t tick; /* when it fires */
	void (*fn)(struct timer *t);
};

struct wheel {
	uint64_t tick;               /* everything up to this one has fired */
	uint64_t used[WHEEL_LEVELS]; /* a bit for each slot that may hold something */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_ms);

/* Fires in `delay_ms` or a little later; a timer that is set already is moved. */
void timer_set(struct wheel *w, struct timer *t, uint64_t now_ms, uint64_t delay_ms,
	       void (*fn)(struct timer *t));
/* Fine for a timer that is not set, as long as timer_init() was called once. */
void timer_init(struct timer *t);
void timer_cancel(struct timer *t);
bool timer_is_set(const struct timer *t);

/* Calls what is due. A callback may set and cancel any timer. */
void wheel_advance(struct wheel *w, uint64_t now_ms);
/* Milliseconds until wheel_advance() may have something to do, for epoll_wait(2); -1: never. */
int wheel_timeout(struct wheel *w, uint64_t now_ms);
