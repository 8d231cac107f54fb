/* SPDX-License-Identifier: MIT */
/*
 * The load generator of the benchmarks. It talks to an endpoint (endpoint.c) by IPv4, through whatever
 * is in between, and knows nothing of that.
 *
 * usage: load MODE ADDRESS [option]...
 *
 *   crc        connect, request, response, close; then again. -n of them are in flight at all times
 *   pingpong   -n connections, each sends -m bytes and waits until they have come back
 *   bulk-down  -n streams from the endpoint
 *   bulk-up    -n streams to the endpoint
 *   idle       -n connections: a byte goes round on each, a line of JSON says so, and once a line or
 *              the end of standard input is read, another byte goes round on each
 *
 *   -n FLOWS  -s SECONDS (measured)  -w SECONDS (before that, not counted)  -m BYTES  -t THREADS
 *   -d COUNT   use so many addresses, from ADDRESS on, in turn
 *   -b A,B,..  connect from these local addresses, in turn
 *   -x A:PORT  through the SOCKS5 server at that address, with a handshake step by step
 *   -c         end bulk streams by closing them: what is in between knows no half-close
 *   -p PID     measure the CPU time of that process and those below it, too
 *
 * The result is a line of JSON. Only what was answered completely, and with the right bytes, within
 * the measured time is counted; everything else is in "errors", by name. Beside those of errno(3):
 * "eof" (an end too early), "stalled" (nothing for a second), "bad-bytes" (not what was sent),
 * "lost-bytes" (at its end a bulk stream had another length on the other side), "socks" (the SOCKS server
 * refuses, or says what is no SOCKS).
 *
 * A bulk stream is counted here, in the steady state. Its length is compared at the end, but with -c.
 */
#include "tests/bench/flow.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <glob.h>
#include <sys/epoll.h>
#include <unistd.h>

#define STALLED     SECOND        /* without progress */
#define PATIENCE    (10 * SECOND) /* for all flows to begin, and again to end */
#define EVENTS      128
#define MAX_THREADS 64
#define CONNECTING  256 /* idle: so many flows begin at the same time */

struct options opt = {
	.dest.sin_family = AF_INET,
	.ndests = 1,
	.nthreads = 1,
	.nflows = 1,
	.message = 256,
	.seconds = 2,
	.warmup = 0.5,
};

/* main() writes the measured time between two of these. */
static pthread_barrier_t barrier;

/* ------------------------------------------------------------------------------------------------
 * Phases
 */

/* Until the time, or earlier if nothing is waited for any more. */
static void work(struct worker *w, uint64_t until_ns, bool wait)
{
	struct epoll_event events[EVENTS];

	for (uint64_t t = now(); t < until_ns && (!wait || w->nwaiting > 0); t = now()) {
		int n = epoll_wait(w->epoll, events, EVENTS, (int)((until_ns - t) / 1000000 + 1));

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			flow_ready(w, events[i].data.ptr, events[i].events);
	}
}

static void fail_stalled(struct worker *w, uint64_t allowed_ns)
{
	uint64_t t = now();

	for (uint32_t i = 0; i < w->nflows; i++) {
		struct flow *f = &w->flows[i];

		if (f->state != FLOW_OVER && f->state != FLOW_PARKED &&
		    t - f->since_ns >= allowed_ns)
			flow_fail(w, f, E_STALLED);
	}
}

static void end_all(struct worker *w)
{
	w->nwaiting = 0;
	for (uint32_t i = 0; i < w->nflows; i++) {
		struct flow *f = &w->flows[i];

		if (f->state == FLOW_OVER)
			continue;
		f->state = FLOW_ENDING;
		w->nwaiting++;
		if (opt.mode->end != NULL && !opt.closes)
			opt.mode->end(w, f);
		else
			flow_over(w, f);
	}
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	w->nwaiting = w->nflows;
	for (uint32_t i = 0; i < w->nflows; i++)
		flow_open(w, &w->flows[i]);
	work(w, now() + PATIENCE, true);
	if (w->nwaiting > 0)
		fail_stalled(w, STALLED);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	work(w, opt.end_ns, false);
	w->ending = true;
	fail_stalled(w, STALLED);
	end_all(w);
	work(w, now() + PATIENCE, true);
	fail_stalled(w, 0);
	return NULL;
}

/* Begins the flows a few at a time, so that no listen queue is the limit, and waits for all. */
static void idle_step(struct worker *w, void (*begin)(struct worker *, struct flow *))
{
	uint32_t next = 0;
	uint64_t until_ns = now() + 3 * PATIENCE;

	w->nwaiting = 0;
	while (now() < until_ns && (next < w->nflows || w->nwaiting > 0)) {
		while (next < w->nflows && w->nwaiting < CONNECTING) {
			struct flow *f = &w->flows[next++];

			if (f->state == FLOW_OVER)
				continue;
			w->nwaiting++;
			begin(w, f);
		}
		work(w, now() + SECOND / 1000, true);
	}
	fail_stalled(w, 0);
}

static void idle_again(struct worker *w, struct flow *f)
{
	/* What came while it was held is an event that has not been read. */
	f->since_ns = now();
	f->state = FLOW_ENDING;
	message_send(w, f);
}

/* ------------------------------------------------------------------------------------------------
 * Result
 */

/* The clock ticks that a process has used, and those of its children that have ended and that it has waited for. 0: it is gone. */
static unsigned long ticks_own(int pid)
{
	char path[64], text[1024];
	unsigned long user, system, waited_user, waited_system;
	const char *at;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	at = strrchr(text, ')'); /* the end of the program's name (proc(5)) */
	if (at == NULL ||
	    sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &user,
		   &system, &waited_user, &waited_system) != 4)
		return 0;
	return user + system + waited_user + waited_system;
}

/* The same with those of all that are below it now: what one of them has used is its own, or once it has ended its parent's. */
static unsigned long ticks_all(int pid)
{
	unsigned long ticks = ticks_own(pid);
	glob_t threads;
	char path[64];
	int child;

	snprintf(path, sizeof(path), "/proc/%d/task/*/children", pid);
	if (glob(path, 0, NULL, &threads) != 0)
		return ticks;
	for (size_t i = 0; i < threads.gl_pathc; i++) {
		FILE *f = fopen(threads.gl_pathv[i], "re");

		while (f != NULL && fscanf(f, "%d", &child) == 1)
			ticks += ticks_all(child);
		if (f != NULL)
			fclose(f);
	}
	globfree(&threads);
	return ticks;
}

/* CPU seconds that the process opt.pid has used; 0 without one. */
static double cpu_read(void)
{
	if (opt.pid == 0)
		return 0;
	return (double)ticks_all(opt.pid) / (double)sysconf(_SC_CLK_TCK);
}

static const char *error_name(int err)
{
	static const char *const own[] = {"eof", "stalled", "bad-bytes", "lost-bytes", "socks"};
	const char *name = err >= E_EOF ? own[err - E_EOF] : strerrorname_np(err);

	return name != NULL ? name : "unknown";
}

static void sum_up(struct worker *all, const struct worker *w)
{
	all->done += w->done;
	all->nbytes += w->nbytes;
	all->nerrors += w->nerrors;
	for (int i = 0; i < HIST_BUCKETS; i++)
		all->hist[i] += w->hist[i];
	for (int i = 0; i < E_COUNT; i++)
		all->errors[i] += w->errors[i];
}

static void print_errors(const struct worker *all)
{
	const char *comma = "";

	printf("\"nerrors\": %u, \"errors\": {", all->nerrors);
	for (int i = 0; i < E_COUNT; i++) {
		if (all->errors[i] == 0)
			continue;
		printf("%s\"%s\": %llu", comma, error_name(i), (unsigned long long)all->errors[i]);
		comma = ", ";
	}
	printf("}");
}

static void print_result(const struct worker *all, double measured_s, double cpu_s)
{
	double divisor = measured_s > 0 ? measured_s : 1;

	printf("{\"mode\": \"%s\", \"flows\": %u, \"seconds\": %.3f, \"cpu_s\": %.3f, ",
	       opt.mode->name, opt.nflows, measured_s, cpu_s);
	if (opt.mode->end != NULL)
		printf("\"bytes\": %llu, \"gbit_s\": %.4f, ", (unsigned long long)all->nbytes,
		       (double)all->nbytes * 8e-9 / divisor);
	else
		printf("\"done\": %llu, \"per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, ",
		       (unsigned long long)all->done, (double)all->done / divisor,
		       hist_percentile(all->hist, all->done, 0.50),
		       hist_percentile(all->hist, all->done, 0.99));
	print_errors(all);
	printf("}\n");
	fflush(stdout);
}

static void sleep_until(uint64_t t)
{
	struct timespec ts = {.tv_sec = (time_t)(t / SECOND), .tv_nsec = (long)(t % SECOND)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void run_timed(struct worker *workers)
{
	static struct worker all;
	double cpu_s;

	pthread_barrier_init(&barrier, NULL, opt.nthreads + 1);
	opt.begin_ns = opt.end_ns = UINT64_MAX;
	for (uint32_t t = 0; t < opt.nthreads; t++) {
		int err = pthread_create(&workers[t].thread, NULL, worker_run, &workers[t]);

		if (err != 0) {
			errno = err;
			die("pthread_create");
		}
	}
	pthread_barrier_wait(&barrier);
	opt.begin_ns = now() + (uint64_t)(opt.warmup * (double)SECOND);
	opt.end_ns = opt.begin_ns + (uint64_t)(opt.seconds * (double)SECOND);
	pthread_barrier_wait(&barrier);
	sleep_until(opt.begin_ns);
	cpu_s = cpu_read();
	sleep_until(opt.end_ns);
	cpu_s = cpu_read() - cpu_s;
	for (uint32_t t = 0; t < opt.nthreads; t++) {
		pthread_join(workers[t].thread, NULL);
		sum_up(&all, &workers[t]);
	}
	print_result(&all, opt.seconds, cpu_s);
}

static void run_idle(struct worker *w)
{
	double cpu_s = cpu_read();
	uint64_t started = now();

	opt.begin_ns = 0;
	opt.end_ns = UINT64_MAX;
	opt.message = 1;
	idle_step(w, flow_open);
	print_result(w, (double)(now() - started) / (double)SECOND, cpu_read() - cpu_s);
	while (getchar() != '\n' && !feof(stdin))
		;
	/* Ends that came meanwhile. */
	work(w, now() + SECOND / 100, false);
	w->done = 0;
	memset(w->hist, 0, sizeof(w->hist));
	started = now();
	cpu_s = cpu_read();
	idle_step(w, idle_again);
	print_result(w, (double)(now() - started) / (double)SECOND, cpu_read() - cpu_s);
}

/* ------------------------------------------------------------------------------------------------
 * Command line
 */

__attribute__((noreturn)) static void usage(void)
{
	fprintf(stderr, "usage: load crc|pingpong|bulk-down|bulk-up|idle ADDRESS [-n FLOWS]"
			" [-s SECONDS] [-w SECONDS]\n            [-m BYTES] [-t THREADS]"
			" [-d COUNT] [-b ADDRESS,...] [-x ADDRESS:PORT] [-c] [-p PID]\n");
	exit(64);
}

static void parse_sources(char *list)
{
	for (char *a = strtok(list, ","); a != NULL; a = strtok(NULL, ",")) {
		if (opt.nsources == MAX_SOURCES)
			usage();
		opt.sources[opt.nsources].sin_family = AF_INET;
		if (inet_pton(AF_INET, a, &opt.sources[opt.nsources++].sin_addr) != 1)
			usage();
	}
}

static void parse_proxy(char *text)
{
	char *colon = strchr(text, ':');

	if (colon == NULL)
		usage();
	*colon = '\0';
	opt.proxy.sin_family = AF_INET;
	opt.proxy.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, text, &opt.proxy.sin_addr) != 1)
		usage();
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:s:w:m:t:d:b:x:cp:")) >= 0) {
		switch (c) {
		case 'n':
			opt.nflows = (uint32_t)atoi(optarg);
			break;
		case 's':
			opt.seconds = atof(optarg);
			break;
		case 'w':
			opt.warmup = atof(optarg);
			break;
		case 'm':
			opt.message = (uint32_t)atoi(optarg);
			break;
		case 't':
			opt.nthreads = (uint32_t)atoi(optarg);
			break;
		case 'd':
			opt.ndests = (uint32_t)atoi(optarg);
			break;
		case 'b':
			parse_sources(optarg);
			break;
		case 'x':
			parse_proxy(optarg);
			break;
		case 'c':
			opt.closes = true;
			break;
		case 'p':
			opt.pid = atoi(optarg);
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2 || inet_pton(AF_INET, argv[optind + 1], &opt.dest.sin_addr) != 1 ||
	    opt.nflows < 1 || opt.nflows > 1000000 || opt.message < 1 ||
	    opt.message > MAX_MESSAGE || opt.nthreads < 1 || opt.nthreads > MAX_THREADS ||
	    opt.ndests < 1 || opt.seconds <= 0 || opt.warmup < 0)
		usage();
	opt.mode = mode_find(argv[optind]);
	if (opt.mode == NULL)
		usage();
	opt.dest.sin_port = htons((uint16_t)opt.mode->port);
}

int main(int argc, char **argv)
{
	static struct worker workers[MAX_THREADS];
	bool idle;

	parse(argc, argv);
	idle = mode_is_idle(opt.mode);
	if (idle || opt.nthreads > opt.nflows)
		opt.nthreads = 1;
	limit_raise();
	bulk_init();
	for (uint32_t t = 0; t < opt.nthreads; t++) {
		struct worker *w = &workers[t];

		w->nflows = opt.nflows / opt.nthreads;
		if (t < opt.nflows % opt.nthreads)
			w->nflows++;
		w->flows = calloc(w->nflows, sizeof(*w->flows));
		w->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (w->flows == NULL || w->epoll < 0)
			die("load");
	}
	if (idle)
		run_idle(&workers[0]);
	else
		run_timed(workers);
	return 0;
}
