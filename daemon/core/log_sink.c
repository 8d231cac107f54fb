/* SPDX-License-Identifier: MIT */
#include "daemon/core/log_sink.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RING_SIZE    (256u * 1024) /* a power of two */
#define CACHE_LINE   64
#define STOP_SECONDS 1 /* for what is still queued at the end */

/* One thread puts in, whoever holds sink.lock takes out. */
struct ring {
	_Alignas(CACHE_LINE) atomic_size_t head; /* bytes ever put in */
	_Alignas(CACHE_LINE) atomic_size_t tail; /* bytes ever taken out */
	_Alignas(CACHE_LINE) atomic_bool ended;  /* its thread is gone: free it when it is empty */
	struct ring *next;
	char bytes[RING_SIZE];
};

/* The lock also keeps lines whole while each thread writes its own; once the log thread runs,
 * nobody else takes it. */
static struct {
	pthread_mutex_t lock;
	int fd;
	bool midline; /* the file ends with the beginning of a line, as after a failed write */
	size_t batch_len;
	char batch[RING_SIZE]; /* so a full ring fits */
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

/* Who has to write what is in the rings.
 *
 * No wake-up is lost, because all four accesses below are sequentially consistent: a producer moves
 * `head` and then reads `mode`; the log thread sets MODE_ASLEEP and then reads every `head`. One of
 * them sees the other. The same holds for MODE_DIRECT at the end. */
enum log_mode {
	MODE_DIRECT, /* the thread that logs */
	MODE_AWAKE,  /* the log thread, which is going to look */
	MODE_ASLEEP, /* the log thread, which must be woken */
};
static atomic_int mode = MODE_DIRECT;
static atomic_bool stopping;
static atomic_int next_fd = -1; /* handed over by log_sink_switch() */
static atomic_uint_fast64_t dropped;

static pthread_t thread;
/* Never closed: a producer may be about to write to it. */
static int wake_fd = -1;

static pthread_mutex_t rings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ring *rings; /* changed under rings_lock; taken out of only under sink.lock, too */
static _Thread_local struct ring *own_ring;

/* Returns how many were written: fewer than `n` only after an error. */
static size_t write_all(int fd, const char *bytes, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t ret = write(fd, bytes + done, n - done);

		if (ret > 0)
			done += (size_t)ret;
		else if (ret < 0 && errno == EAGAIN)
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		else if (ret == 0 || errno != EINTR)
			break;
	}
	return done;
}

static size_t sink_write(const char *lines, size_t n)
{
	size_t done;

	if (n == 0)
		return 0;
	if (sink.midline && write_all(sink.fd, "\n", 1) < 1)
		return 0;
	sink.midline = false;
	done = write_all(sink.fd, lines, n);
	if (done > 0)
		sink.midline = lines[done - 1] != '\n';
	return done;
}

static bool sink_flush(void)
{
	size_t n = sink.batch_len, done = sink_write(sink.batch, n);

	sink.batch_len = 0;
	for (size_t i = done; i < n; i++) {
		if (sink.batch[i] == '\n')
			atomic_fetch_add(&dropped, 1);
	}
	return done == n;
}

static void sink_report_dropped(void)
{
	char line[LOG_LINE_MAX];
	uint64_t n = atomic_exchange(&dropped, 0);
	size_t len;

	if (n == 0)
		return;
	len = log_format_dropped(n, line);
	if (sink_write(line, len) < len)
		atomic_fetch_add(&dropped, n);
}

static void sink_close(void)
{
	if (sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = STDERR_FILENO;
	sink.midline = false;
}

/* Only whoever writes can tell: while another one writes, any byte may seem to be the last. */
static bool file_is_midline(int fd)
{
	struct stat st;
	char last;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
	       pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
}

static void sink_take_next_fd(void)
{
	int fd = atomic_exchange(&next_fd, -1);

	if (fd >= 0) {
		sink_close();
		sink.fd = fd;
		sink.midline = file_is_midline(fd);
	}
}

static size_t ring_take(struct ring *r)
{
	size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	size_t n = atomic_load(&r->head) - tail;
	size_t at = tail % RING_SIZE, first = n < RING_SIZE - at ? n : RING_SIZE - at;

	if (n > sizeof(sink.batch) - sink.batch_len)
		sink_flush();
	memcpy(sink.batch + sink.batch_len, r->bytes + at, first);
	memcpy(sink.batch + sink.batch_len + first, r->bytes, n - first);
	sink.batch_len += n;
	atomic_store_explicit(&r->tail, tail + n, memory_order_release);
	return n;
}

static struct ring *rings_first(void)
{
	struct ring *r;

	pthread_mutex_lock(&rings_lock);
	r = rings;
	pthread_mutex_unlock(&rings_lock);
	return r;
}

static void ring_free(struct ring *r)
{
	struct ring **link = &rings;

	pthread_mutex_lock(&rings_lock);
	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	pthread_mutex_unlock(&rings_lock);
	free(r);
}

/* Writes all there is; returns how much there was. sink.lock is held. */
static size_t sink_drain(void)
{
	struct ring *next;
	size_t total = 0;

	sink_take_next_fd();
	for (struct ring *r = rings_first(); r != NULL; r = next) {
		bool ended = atomic_load(&r->ended); /* read before its last bytes are */

		next = r->next;
		total += ring_take(r);
		if (ended)
			ring_free(r);
	}
	if (sink_flush())
		sink_report_dropped();
	return total;
}

static void sink_drain_locked(void)
{
	pthread_mutex_lock(&sink.lock);
	sink_drain();
	pthread_mutex_unlock(&sink.lock);
}

static bool sink_has_work(void)
{
	if (atomic_load(&stopping) || atomic_load(&next_fd) >= 0)
		return true;
	for (struct ring *r = rings_first(); r != NULL; r = r->next) {
		if (atomic_load(&r->ended) || atomic_load(&r->head) != atomic_load(&r->tail))
			return true;
	}
	return false;
}

static void sink_wake(void)
{
	ssize_t ret = write(wake_fd, &(uint64_t){1}, sizeof(uint64_t));

	BUG_ON(ret != sizeof(uint64_t));
}

/* Something was put where the log thread finds it. */
static void sink_notify(void)
{
	int seen = atomic_load(&mode);

	if (seen == MODE_ASLEEP && atomic_compare_exchange_strong(&mode, &seen, MODE_AWAKE))
		sink_wake();
	else if (seen == MODE_DIRECT)
		sink_drain_locked();
}

static void thread_sleep(void)
{
	uint64_t n;

	atomic_store(&mode, MODE_ASLEEP);
	if (!sink_has_work() && read(wake_fd, &n, sizeof(n)) < 0)
		BUG_ON(errno != EINTR);
	atomic_store(&mode, MODE_AWAKE);
}

static void *thread_run(void *arg)
{
	/* After a few lines, more are likely to follow: waiting a moment for them saves those who log
	 * the system call to wake us, and us most of the writes. */
	static const struct timespec nap = {.tv_nsec = 2000000};

	(void)arg;
	for (;;) {
		bool stop = atomic_load(&stopping); /* read before the last lines are */
		size_t n;

		pthread_mutex_lock(&sink.lock);
		n = sink_drain();
		pthread_mutex_unlock(&sink.lock);
		if (stop)
			return NULL;
		if (n == 0)
			thread_sleep();
		else if (n < RING_SIZE / 4)
			nanosleep(&nap, NULL);
	}
}

static void ring_abandon(void *ring)
{
	struct ring *r = ring;

	own_ring = NULL;
	atomic_store(&r->ended, true);
	sink_notify();
}

static pthread_key_t ring_key;
static int ring_key_error;

static void ring_key_init(void)
{
	ring_key_error = pthread_key_create(&ring_key, ring_abandon);
}

/* The calling thread's ring; NULL: out of memory. */
static struct ring *ring_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct ring *r;

	if (own_ring != NULL)
		return own_ring;
	pthread_once(&once, ring_key_init);
	r = ring_key_error == 0 ? aligned_alloc(CACHE_LINE, sizeof(*r)) : NULL;
	if (r == NULL)
		return NULL;
	if (pthread_setspecific(ring_key, r) != 0) {
		free(r);
		return NULL;
	}
	atomic_init(&r->head, 0);
	atomic_init(&r->tail, 0);
	atomic_init(&r->ended, false);
	pthread_mutex_lock(&rings_lock);
	r->next = rings;
	rings = r;
	pthread_mutex_unlock(&rings_lock);
	own_ring = r;
	return r;
}

static bool ring_put(const char *line, size_t n)
{
	struct ring *r = ring_get();
	size_t head, at, first;

	if (r == NULL)
		return false;
	head = atomic_load_explicit(&r->head, memory_order_relaxed);
	if (n > RING_SIZE - (head - atomic_load_explicit(&r->tail, memory_order_acquire)))
		return false;
	at = head % RING_SIZE;
	first = n < RING_SIZE - at ? n : RING_SIZE - at;
	memcpy(r->bytes + at, line, first);
	memcpy(r->bytes, line + first, n - first);
	atomic_store(&r->head, head + n);
	return true;
}

void log_sink_put(const char *line, size_t n)
{
	if (atomic_load(&mode) == MODE_DIRECT) {
		pthread_mutex_lock(&sink.lock);
		sink_drain(); /* this thread's earlier lines may still be in its ring */
		memcpy(sink.batch, line, n);
		sink.batch_len = n;
		sink_flush();
		pthread_mutex_unlock(&sink.lock);
	} else if (ring_put(line, n)) {
		sink_notify();
	} else {
		atomic_fetch_add(&dropped, 1);
	}
}

void log_sink_switch(int fd)
{
	int unused = atomic_exchange(&next_fd, fd);

	if (unused >= 0 && unused != STDERR_FILENO)
		close(unused);
	sink_notify();
}

int log_sink_start(void)
{
	sigset_t all, before;
	int err;

	BUG_ON(atomic_load(&mode) != MODE_DIRECT);
	if (wake_fd < 0)
		wake_fd = eventfd(0, EFD_CLOEXEC);
	if (wake_fd < 0)
		return -errno;
	atomic_store(&stopping, false);
	/* Signals are for the main thread; SIGPIPE would end the program when the reader goes. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	atomic_store(&mode, MODE_AWAKE);
	err = pthread_create(&thread, NULL, thread_run, NULL);
	if (err != 0)
		atomic_store(&mode, MODE_DIRECT);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0)
		pthread_setname_np(thread, "log");
	return -err;
}

/* True: the thread has ended. What it writes to may block for ever, a pipe that nobody reads; then the
 * rest of the log is given up rather than the end of the program. */
static bool thread_end(void)
{
	struct timespec until;

	atomic_store(&stopping, true);
	sink_wake();
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

void log_sink_stop(void)
{
	if (atomic_load(&mode) != MODE_DIRECT) {
		if (!thread_end())
			return; /* later lines go into rings that nobody empties */
		atomic_store(&mode, MODE_DIRECT);
	}
	pthread_mutex_lock(&sink.lock);
	sink_drain();
	sink_close();
	pthread_mutex_unlock(&sink.lock);
}
