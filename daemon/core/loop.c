/* SPDX-License-Identifier: MIT */
#include "daemon/core/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256
/* Tasks are the heavy work: events get their turn at least so often, and those who wait for one are light. */
#define TASKS_SLICE_NS 250000

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

static struct post *post_take(struct loop *l)
{
	struct post *p;

	pthread_mutex_lock(&l->post_lock);
	p = l->posts;
	if (p != NULL) {
		l->posts = p->next;
		p->posted = false;
	}
	if (l->posts == NULL)
		l->posts_tail = &l->posts;
	pthread_mutex_unlock(&l->post_lock);
	return p;
}

static void on_wake(struct source *src, uint32_t events)
{
	struct loop *l = src->owner;
	struct post *post;
	uint64_t count;

	(void)events;
	/* Emptied before the posts are taken: one that comes in between wakes the next turn. */
	if (read(src->fd, &count, sizeof(count)) < 0)
		BUG_ON(errno != EAGAIN && errno != EINTR);
	while ((post = post_take(l)) != NULL)
		post->fn(post);
}

int loop_init(struct loop *l, struct diag *d)
{
	int err;

	memset(l, 0, sizeof(*l));
	l->now_ms = clock_ms();
	wheel_init(&l->wheel, l->now_ms);
	pool_init(&l->sources, sizeof(struct source));
	list_init(&l->tasks);
	list_init(&l->dying);
	l->posts_tail = &l->posts;
	l->wake_fd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd >= 0)
		l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd >= 0)
		l->wake = loop_watch(l, l->wake_fd, EPOLLIN, on_wake, l);
	if (l->wake != NULL) {
		pthread_mutex_init(&l->post_lock, NULL);
		return 0;
	}
	err = errno;
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	if (l->epfd >= 0)
		close(l->epfd);
	pool_destroy(&l->sources);
	return diag_set(d, err, NULL, 0, "cannot set up an event loop: %s", strerror(err));
}

static void loop_release(struct loop *l)
{
	struct source *src;
	struct list *node;

	while ((node = list_pop(&l->dying)) != NULL) {
		struct dying *d = container_of(node, struct dying, node);

		d->release(d);
	}
	while ((src = l->dead_sources) != NULL) {
		l->dead_sources = src->next;
		pool_put(&l->sources, src);
	}
}

static void loop_deliver(struct loop *l, int timeout_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(l->epfd, events, EVENTS_MAX, timeout_ms);

	BUG_ON(n < 0 && errno != EINTR);
	l->now_ms = clock_ms();
	for (int i = 0; i < n; i++) {
		struct source *src = events[i].data.ptr;

		if (src->on_event != NULL)
			src->on_event(src, events[i].events);
	}
}

/* Runs the tasks that were queued before this turn, the oldest first, as far as the slice goes: the rest
 * comes first in the next turn, and what is queued meanwhile after it. */
static void loop_run_tasks(struct loop *l, struct list *tasks)
{
	uint64_t begin_ns = list_empty(tasks) ? 0 : clock_ns();
	struct list *node;

	while ((node = list_pop(tasks)) != NULL) {
		struct task *t = container_of(node, struct task, node);

		t->fn(t);
		if (!list_empty(tasks) && clock_ns() - begin_ns > TASKS_SLICE_NS)
			break;
	}
	list_splice(tasks, &l->tasks);
	list_splice(&l->tasks, tasks);
}

static void loop_turn(struct loop *l)
{
	struct list tasks;

	/* What is queued from here on waits for the next turn: nobody gets two shares of one. */
	list_init(&tasks);
	list_splice(&tasks, &l->tasks);
	loop_deliver(l, list_empty(&tasks) ? wheel_timeout(&l->wheel, l->now_ms) : 0);
	wheel_advance(&l->wheel, l->now_ms);
	loop_run_tasks(l, &tasks);
	loop_release(l);
}

void loop_run(struct loop *l)
{
	while (!atomic_load_explicit(&l->stop, memory_order_acquire))
		loop_turn(l);
	atomic_store(&l->stop, false);
}

void loop_destroy(struct loop *l)
{
	loop_unwatch(l, l->wake);
	loop_release(l);
	close(l->wake_fd);
	close(l->epfd);
	pthread_mutex_destroy(&l->post_lock);
	pool_destroy(&l->sources);
}

struct source *loop_watch(struct loop *l, int fd, uint32_t events, source_fn *fn, void *owner)
{
	struct source *src = pool_get(&l->sources);
	struct epoll_event ev = {.events = events, .data.ptr = src};
	int err;

	if (src == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	*src = (struct source){.fd = fd, .on_event = fn, .owner = owner};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		err = errno;
		pool_put(&l->sources, src);
		errno = err;
		return NULL;
	}
	return src;
}

int loop_rewatch(struct loop *l, struct source *src, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = src};

	return epoll_ctl(l->epfd, EPOLL_CTL_MOD, src->fd, &ev) < 0 ? -errno : 0;
}

void loop_unwatch(struct loop *l, struct source *src)
{
	if (src == NULL)
		return;
	BUG_ON(src->dead);
	src->dead = true;
	src->on_event = NULL;
	src->next = l->dead_sources;
	l->dead_sources = src;
}

void loop_task_init(struct task *t)
{
	list_init(&t->node);
	t->fn = NULL;
}

void loop_queue(struct loop *l, struct task *t, void (*fn)(struct task *t))
{
	if (!list_empty(&t->node))
		return;
	t->fn = fn;
	list_add_tail(&l->tasks, &t->node);
}

bool loop_is_queued(const struct task *t)
{
	return !list_empty(&t->node);
}

void loop_unqueue(struct task *t)
{
	list_del(&t->node);
}

void loop_bury(struct loop *l, struct dying *d, void (*release)(struct dying *d))
{
	d->release = release;
	list_add_tail(&l->dying, &d->node);
}

void loop_timer(struct loop *l, struct timer *t, uint64_t delay_ms, void (*fn)(struct timer *t))
{
	timer_set(&l->wheel, t, l->now_ms, delay_ms, fn);
}

static void loop_wake(struct loop *l)
{
	const uint64_t one = 1;

	/* EAGAIN: the counter is full, so the loop wakes anyway. */
	if (write(l->wake_fd, &one, sizeof(one)) < 0)
		BUG_ON(errno != EAGAIN && errno != EINTR);
}

void loop_post(struct loop *l, struct post *p, void (*fn)(struct post *p))
{
	bool first = false;

	pthread_mutex_lock(&l->post_lock);
	if (!p->posted) {
		first = l->posts == NULL;
		*p = (struct post){.fn = fn, .posted = true};
		*l->posts_tail = p;
		l->posts_tail = &p->next;
	}
	pthread_mutex_unlock(&l->post_lock);
	if (first)
		loop_wake(l);
}

void loop_stop(struct loop *l)
{
	atomic_store_explicit(&l->stop, true, memory_order_release);
	loop_wake(l);
}
