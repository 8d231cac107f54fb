/* SPDX-License-Identifier: MIT */
#include "daemon/core/loop.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define POSTERS        4
#define POSTS_EACH     10000
#define GUARD_DELAY_MS 10000 /* a test that hangs ends with a failure */

static struct loop loop;
static struct timer guard;
static bool guard_fired;

static void on_guard(struct timer *t)
{
	(void)t;
	guard_fired = true;
	loop_stop(&loop);
}

static int setup(void **state)
{
	struct diag d;

	(void)state;
	if (loop_init(&loop, &d) < 0)
		return -1;
	guard_fired = false;
	timer_init(&guard);
	loop_timer(&loop, &guard, GUARD_DELAY_MS, on_guard);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	timer_cancel(&guard);
	loop_destroy(&loop);
	return guard_fired ? -1 : 0;
}

/* --- events --- */

static struct source *pair_sources[2], *pair_third;
static int pair_third_fd;
static unsigned pair_events;

/* Whichever comes first ends the other, whose event is already on its way. */
static void on_pair(struct source *src, uint32_t events)
{
	struct source *other = pair_sources[src == pair_sources[0]];

	assert_true(events & EPOLLIN);
	pair_events++;
	loop_unwatch(&loop, other);
	close(other->fd);
	assert_null(other->on_event); /* still readable memory, and nobody else's */
	pair_third = loop_watch(&loop, pair_third_fd, EPOLLIN, on_pair, NULL);
	assert_non_null(pair_third);
	assert_ptr_not_equal(pair_third, other);
	loop_stop(&loop);
}

static void event_of_an_unwatched_source_is_dropped(void **state)
{
	int a[2], b[2], c[2];
	struct source *left;

	(void)state;
	pair_events = 0;
	assert_int_equal(pipe2(a, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(c, O_CLOEXEC | O_NONBLOCK), 0);
	pair_third_fd = c[0];
	pair_sources[0] = loop_watch(&loop, a[0], EPOLLIN | EPOLLET, on_pair, NULL);
	pair_sources[1] = loop_watch(&loop, b[0], EPOLLIN | EPOLLET, on_pair, NULL);
	assert_non_null(pair_sources[0]);
	assert_non_null(pair_sources[1]);
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	loop_run(&loop);
	assert_int_equal(pair_events, 1);
	assert_int_equal(loop.sources.live, 3); /* one is left, the third, and the loop's own */

	left = fcntl(a[0], F_GETFD) < 0 ? pair_sources[1] : pair_sources[0];
	loop_unwatch(&loop, left);
	close(left->fd);
	loop_unwatch(&loop, pair_third);
	close(c[0]);
	close(a[1]);
	close(b[1]);
	close(c[1]);
}

static void on_count(struct source *src, uint32_t events)
{
	(void)events;
	++*(unsigned *)src->owner;
}

static void stop_soon(struct timer *t)
{
	(void)t;
	loop_stop(&loop);
}

static void run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t);
	loop_timer(&loop, &t, ms, stop_soon);
	loop_run(&loop);
}

static void edge_and_level_and_owner_change(void **state)
{
	unsigned first = 0, second = 0;
	int fds[2];
	struct source *src;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	src = loop_watch(&loop, fds[0], LOOP_STREAM, on_count, &first);
	assert_non_null(src);
	run_for(8);
	assert_int_equal(first, 1); /* writable, once */
	src->owner = &second;
	assert_int_equal(write(fds[1], "x", 1), 1);
	run_for(8);
	assert_int_equal(first, 1);
	assert_int_equal(second, 1);
	loop_unwatch(&loop, src);
	close(fds[0]);
	close(fds[1]);

	/* Level-triggered, what comes in is told again and again. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	first = 0;
	src = loop_watch(&loop, fds[0], EPOLLIN, on_count, &first);
	assert_non_null(src);
	run_for(8);
	assert_true(first > 1);
	assert_int_equal(loop_rewatch(&loop, src, 0), 0);
	first = 0;
	run_for(8);
	assert_int_equal(first, 0);
	loop_unwatch(&loop, src);
	close(fds[0]);
	close(fds[1]);
}

static void watching_nonsense_fails(void **state)
{
	(void)state;
	assert_null(loop_watch(&loop, -1, EPOLLIN, on_count, NULL));
	assert_int_equal(errno, EBADF);
	assert_int_equal(loop.sources.live, 1);
	loop_unwatch(&loop, NULL);
}

/* --- tasks, the dying --- */

static struct {
	struct task first, second, gone;
	struct dying corpse;
	unsigned order[8];
	size_t n;
} run;

static void note(unsigned what)
{
	assert_true(run.n < ARRAY_LEN(run.order));
	run.order[run.n++] = what;
}

static void on_release(struct dying *d)
{
	assert_ptr_equal(d, &run.corpse);
	note(3);
}

static void on_never(struct task *t)
{
	(void)t;
	note(99);
}

static void on_second(struct task *t)
{
	(void)t;
	note(4);
	loop_stop(&loop);
}

static void on_first(struct task *t)
{
	note(2);
	loop_unqueue(&run.gone); /* of this very phase */
	loop_bury(&loop, &run.corpse, on_release);
	loop_queue(&loop, &run.second, on_second);
	loop_queue(&loop, &run.second, on_never); /* queued already */
	assert_true(list_empty(&t->node));
}

static void on_tick(struct timer *t)
{
	(void)t;
	note(1);
	loop_queue(&loop, &run.first, on_first);
	loop_queue(&loop, &run.gone, on_never);
}

/* timer, its task, the release, and only then the task that a task queued */
static void turn_has_its_order(void **state)
{
	static const unsigned want[] = {1, 2, 3, 4};
	struct timer t;

	(void)state;
	run.n = 0;
	loop_task_init(&run.first);
	loop_task_init(&run.second);
	loop_task_init(&run.gone);
	timer_init(&t);
	loop_timer(&loop, &t, 4, on_tick);
	loop_run(&loop);
	assert_int_equal(run.n, ARRAY_LEN(want));
	assert_memory_equal(run.order, want, sizeof(want));
}

static unsigned rounds;

static void on_round(struct task *t)
{
	if (++rounds == 1000)
		loop_stop(&loop);
	else
		loop_queue(&loop, t, on_round);
}

/* Work that goes on by tasks does not starve descriptors, and no turn of it waits. */
static void tasks_do_not_starve_events(void **state)
{
	unsigned events = 0;
	struct task t;
	int fds[2];
	struct source *src;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	src = loop_watch(&loop, fds[0], EPOLLIN, on_count, &events);
	assert_non_null(src);
	rounds = 0;
	loop_task_init(&t);
	loop_queue(&loop, &t, on_round);
	loop_run(&loop);
	assert_int_equal(rounds, 1000);
	assert_int_equal(events, 1000);
	assert_int_equal(loop_rewatch(&loop, src, 0), 0);
	rounds = 0;
	loop_queue(&loop, &t, on_round);
	loop_run(&loop); /* nothing else wakes it but the guard */
	assert_int_equal(rounds, 1000);
	loop_unwatch(&loop, src);
	close(fds[0]);
	close(fds[1]);
}

/* --- time --- */

static uint64_t monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void timers_are_never_early(void **state)
{
	uint64_t begin;

	(void)state;
	for (uint64_t delay = 0; delay < 40; delay += 7) {
		run_for(0); /* the loop's time is fresh now */
		begin = loop.now_ms;
		run_for(delay);
		assert_true(loop.now_ms - begin >= delay);
		assert_true(monotonic_ms() - begin < delay + 2000);
	}
}

/* --- other threads --- */

static struct post posts[POSTERS * POSTS_EACH];
static unsigned post_next[POSTERS];
static unsigned post_total;

static void on_post(struct post *p)
{
	unsigned number = (unsigned)(p - posts), id = number / POSTS_EACH;

	assert_int_equal(number % POSTS_EACH, post_next[id]);
	post_next[id]++;
	if (++post_total == POSTERS * POSTS_EACH)
		loop_stop(&loop);
}

static void *poster_main(void *arg)
{
	uintptr_t id = (uintptr_t)arg;

	for (uintptr_t i = 0; i < POSTS_EACH; i++)
		loop_post(&loop, &posts[id * POSTS_EACH + i], on_post);
	return NULL;
}

static void posts_keep_their_order(void **state)
{
	pthread_t threads[POSTERS];

	(void)state;
	post_total = 0;
	memset(posts, 0, sizeof(posts));
	memset(post_next, 0, sizeof(post_next));
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, poster_main, (void *)i), 0);
	loop_run(&loop);
	for (size_t i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(post_total, POSTERS * POSTS_EACH);
	for (size_t i = 0; i < POSTERS; i++)
		assert_int_equal(post_next[i], POSTS_EACH);
}

static unsigned post_stops;

static void post_stop(struct post *p)
{
	(void)p;
	post_stops++;
	loop_stop(&loop);
}

static void *one_post_main(void *arg)
{
	struct timespec pause = {.tv_nsec = 20 * 1000000};

	nanosleep(&pause, NULL);
	loop_post(&loop, arg, post_stop);
	return NULL;
}

static void one_post_wakes_a_sleeping_loop(void **state)
{
	struct post post = {0};
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, one_post_main, &post), 0);
	loop_run(&loop); /* nothing else wakes it but the guard */
	pthread_join(thread, NULL);
}

static void posted_twice_runs_once_and_may_be_posted_again(void **state)
{
	struct post post = {0};

	(void)state;
	post_stops = 0;
	loop_post(&loop, &post, post_stop);
	loop_post(&loop, &post, post_stop);
	loop_run(&loop);
	assert_int_equal(post_stops, 1);
	loop_post(&loop, &post, post_stop);
	loop_run(&loop);
	assert_int_equal(post_stops, 2);
}

static void post_unused(struct post *p)
{
	(void)p;
	fail();
}

static void posts_left_over_do_not_run(void **state)
{
	static struct post left[2];

	(void)state;
	loop_post(&loop, &left[0], post_unused);
	loop_post(&loop, &left[1], post_unused);
}

static void *stopper_main(void *arg)
{
	struct timespec pause = {.tv_nsec = 20 * 1000000};

	(void)arg;
	nanosleep(&pause, NULL);
	loop_stop(&loop);
	return NULL;
}

static void stop_from_outside_and_beforehand(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stopper_main, NULL), 0);
	loop_run(&loop);
	pthread_join(thread, NULL);
	loop_stop(&loop);
	loop_run(&loop);
}

int main(void)
{
#define LOOP_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		LOOP_TEST(event_of_an_unwatched_source_is_dropped),
		LOOP_TEST(edge_and_level_and_owner_change),
		LOOP_TEST(watching_nonsense_fails),
		LOOP_TEST(turn_has_its_order),
		LOOP_TEST(tasks_do_not_starve_events),
		LOOP_TEST(timers_are_never_early),
		LOOP_TEST(posts_keep_their_order),
		LOOP_TEST(one_post_wakes_a_sleeping_loop),
		LOOP_TEST(posted_twice_runs_once_and_may_be_posted_again),
		LOOP_TEST(posts_left_over_do_not_run),
		LOOP_TEST(stop_from_outside_and_beforehand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
