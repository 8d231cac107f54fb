/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A listening socket in a worker's loop. Accepts a few at a time, so that established flows get their
 * turn; never ends by itself: where accept(2) fails for want of something it waits and tries again.
 * Same thread as its loop.
 */
#include "daemon/core/loop.h"
#include "policy/addr.h"

struct listener;
/* The callee owns `fd` from here on. */
typedef void listener_fn(struct listener *l, int fd, const struct addr *peer);

struct listener {
	struct addr addr;
	void *owner;
	listener_fn *on_accept;
	struct loop *loop;
	struct source *source;
	struct timer retry;
	bool paused; /* SHARED_GET() by other threads */
};

/* Takes over `fd`, a listening socket bound to `addr`. 0 or -ENOMEM, -ENOSPC (`fd` stays the caller's). */
int listener_start(struct listener *l, struct loop *loop, int fd, const struct addr *addr,
		   listener_fn *on_accept, void *owner);
/* Leaves new connections in the kernel's queue until listener_resume(). */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
/* For what is accepted from now on; 0: none. */
void listener_keepalive(struct listener *l, int64_t keepalive_ms);
/* Accepts what has connected already, also if paused, as long as accept(2) works; then closes. */
void listener_drain(struct listener *l);
/* Closes; fine twice. */
void listener_stop(struct listener *l);
