/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The event loop of one thread: descriptors (epoll), timers, tasks for the next turn, and calls
 * posted by other threads. Everything but loop_post() and loop_stop() belongs to its thread.
 *
 * A turn: wait, deliver events, fire timers, run tasks, and only then release what died meanwhile.
 * So a pointer that a handler holds stays valid until the end of the turn, whatever it ends.
 *
 * Descriptors are edge-triggered: a handler works until EAGAIN, or queues a task to go on in the
 * next turn. One that stops early and does neither loses the wake-up.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "daemon/core/list.h"
#include "daemon/core/pool.h"
#include "daemon/core/timer.h"
#include "policy/diag.h"

struct loop;
struct source;

/* `events` are EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLPRI, EPOLLHUP, EPOLLERR as epoll_wait(2) gives them. */
typedef void source_fn(struct source *src, uint32_t events);

/* A watched descriptor. It comes from the loop and may change hands (a dial gives the connected one
 * to its session) without a system call: the new owner sets `on_event` and `owner`. */
struct source {
	int fd;    /* owned by `owner`, who closes it right after loop_unwatch() */
	bool dead; /* private to the loop, as `next` */
	source_fn *on_event;
	void *owner;
	struct source *next; /* of those that are dead */
};

/* Something to run once, after events and timers. Embedded; loop_task_init() once. */
struct task {
	struct list node;
	void (*fn)(struct task *t);
};

/* Something to run once on the loop's thread, from another one. Embedded, zero at first: who has to end must be
 * told so also where there is no memory left. */
struct post {
	struct post *next;
	void (*fn)(struct post *p);
	bool posted; /* guarded by loop.post_lock */
};

/* Something to release at the end of this turn. Embedded. */
struct dying {
	struct list node;
	void (*release)(struct dying *d);
};

struct loop {
	int epfd;
	int wake_fd;
	uint64_t now_ms; /* CLOCK_MONOTONIC at the start of the turn: the time, for everybody */
	atomic_bool stop;
	struct wheel wheel;
	struct pool sources;
	struct list tasks;
	struct list dying;
	struct source *dead_sources;
	struct source *wake;
	pthread_mutex_t post_lock; /* guards `posts` only */
	struct post *posts;
	struct post **posts_tail;
};

/* 0 or -errno with `d`. */
int loop_init(struct loop *l, struct diag *d);
/* Runs until loop_stop(). */
void loop_run(struct loop *l);
/* Every source must have been unwatched (BUG otherwise); posts that have not run are dropped. */
void loop_destroy(struct loop *l);

#define LOOP_STREAM (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET)

/* Watches `fd` with one registration for its whole life. NULL with errno: out of memory (ENOMEM) or
 * of watches (ENOSPC). */
struct source *loop_watch(struct loop *l, int fd, uint32_t events, source_fn *fn, void *owner);
/* For level-triggered sources only (listener, DNS): changes what is waited for. 0 or -errno. */
int loop_rewatch(struct loop *l, struct source *src, uint32_t events);
/* Forgets `src`: no event is delivered any more, also none of this turn. The owner closes the
 * descriptor before the turn ends, and that ends the registration without a further system call;
 * `src` may be read until then. NULL is fine. */
void loop_unwatch(struct loop *l, struct source *src);

void loop_task_init(struct task *t);
/* Runs `fn` in the task phase: of this turn if an event or a timer queues it, of the next turn,
 * which then comes at once, if a task does. Queued already: nothing happens. */
void loop_queue(struct loop *l, struct task *t, void (*fn)(struct task *t));
bool loop_is_queued(const struct task *t);
void loop_unqueue(struct task *t);

/* Calls `release` at the end of this turn. Once only for each `d`. */
void loop_bury(struct loop *l, struct dying *d, void (*release)(struct dying *d));

/* timer_set() with this loop's wheel and time. */
void loop_timer(struct loop *l, struct timer *t, uint64_t delay_ms, void (*fn)(struct timer *t));

/* From any thread: `fn` runs on the loop's thread, in the order of posting, and may free `p` or post it again.
 * Posted already: nothing happens. */
void loop_post(struct loop *l, struct post *p, void (*fn)(struct post *p));
/* From any thread; the turn is finished first. Called before loop_run(), that returns at once. */
void loop_stop(struct loop *l);
