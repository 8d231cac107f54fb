/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "tests/unit/log_files.h"

#ifdef POOL_DEBUG /* sanitizers keep what is freed for a while */
#define GROWTH_MAX_KIB LONG_MAX
#else
#define GROWTH_MAX_KIB (40 * 1024)
#endif

static void test_missing_line_feed(void **state)
{
	int fd = open(path_of("partial"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char *text;
	size_t len;

	(void)state;
	assert_int_equal(write(fd, "half a line", 11), 11);
	close(fd);
	for (int i = 0; i < 2; i++) {
		configure(path_of("partial"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
		log_text(LOG_LEVEL_INFO, "x");
		log_stop();
	}
	text = slurp_file("partial", &len);
	assert_int_equal(strncmp(text, "half a line\n20", 12 + 2), 0);
	assert_null(strstr(text, "\n\n"));
	free(text);
}

static void test_file_mode(void **state)
{
	mode_t mask = umask(0);
	struct stat st;

	(void)state;
	configure(path_of("mode"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	umask(mask);
	log_stop();
	assert_int_equal(stat(path_of("mode"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_bad_file(void **state)
{
	struct diag d;
	char *text;
	size_t len;

	(void)state;
	unlink(path_of("good"));
	configure(path_of("good"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	assert_int_equal(log_configure("other", LOG_LEVEL_CRITICAL, LOG_FORMAT_JSON,
				       path_of("none/such"), &d),
			 -ENOENT);
	assert_string_equal(d.file, path_of("none/such"));
	assert_string_equal(d.text, "cannot open the log file: No such file or directory");
	log_text(LOG_LEVEL_INFO, "as before");
	log_stop();
	text = slurp_file("good", &len);
	assert_non_null(strstr(text, " prog info: \"as before\"\n"));
	free(text);
}

/* Logs until the file has a line: the thread takes a new file by itself. */
static void await_line(const char *name)
{
	size_t n = 0;

	for (int i = 0; i < 500 && n == 0; i++) {
		struct stat st;

		usleep(10000);
		n = stat(path_of(name), &st) == 0 ? (size_t)st.st_size : 0;
	}
	assert_int_not_equal(n, 0);
}

static void reopen(bool threaded)
{
	struct diag d;
	char *old, *now;
	size_t len;

	unlink(path_of("log"));
	configure(path_of("log"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	if (threaded)
		assert_int_equal(log_start(), 0);
	log_text(LOG_LEVEL_INFO, "first");
	await_line("log");
	assert_int_equal(rename(path_of("log"), path_of("log.1")), 0);
	log_text(LOG_LEVEL_INFO, "second");
	if (threaded)
		usleep(50000);
	assert_int_equal(log_reopen(&d), 0);
	log_text(LOG_LEVEL_INFO, "third");
	await_line("log");
	log_stop();
	old = slurp_file("log.1", &len);
	now = slurp_file("log", &len);
	assert_non_null(strstr(old, "\"first\"\n"));
	assert_non_null(strstr(old, "\"second\"\n"));
	assert_int_equal(count_lines(old), 2);
	assert_non_null(strstr(now, "\"third\"\n"));
	assert_int_equal(count_lines(now), 1);
	free(old);
	free(now);
}

static void test_reopen(void **state)
{
	struct diag d;

	(void)state;
	reopen(false);
	reopen(true);
	assert_int_equal(log_reopen(&d), 0); /* standard error: nothing to do */
}

/* ---- many threads ---- */

#define WRITERS 4
#define LINES   10000u

static atomic_bool halt;

static void *write_lines(void *arg)
{
	const char *name = arg;

	for (uint64_t i = 0; i < LINES; i++) {
		struct log_line l;

		if (!log_begin(&l, LOG_LEVEL_INFO, "line"))
			continue;
		log_add(&l, "writer", name);
		log_add_uint(&l, "i", i);
		log_add(&l, "filler",
			"so that the line is about as long as those of real flows are");
		log_end(&l);
		if (i % 64 == 0)
			usleep(100);
	}
	return NULL;
}

static void run_writers(void)
{
	static char names[WRITERS][2];
	pthread_t threads[WRITERS];

	for (int i = 0; i < WRITERS; i++) {
		names[i][0] = (char)('0' + i);
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
}

struct tally {
	uint64_t next[WRITERS]; /* by order: what must come at least */
	uint64_t lines, dropped;
};

/* Every line is whole, and those of one writer are in order. */
static void tally_lines(struct tally *t, const char *text)
{
	for (const char *end; *text != '\0'; text = end + 1) {
		char line[512], writer;
		unsigned long i;
		int len = -1;

		end = strchr(text, '\n');
		assert_non_null(end);
		assert_true((size_t)(end - text) < sizeof(line));
		memcpy(line, text, (size_t)(end - text));
		line[end - text] = '\0';
		if (sscanf(line, "%*s %*s prog warning: \"log lines dropped\" dropped=%lu%n", &i,
			   &len) == 1 &&
		    len == end - text) {
			t->dropped += i;
			continue;
		}
		if (sscanf(line,
			   "%*s %*s prog info: \"line\" writer=%c i=%lu filler=\"so that the line "
			   "is about as long as those of real flows are\"%n",
			   &writer, &i, &len) != 2 ||
		    len != end - text)
			fail_msg("torn line: %s", line);
		assert_in_range(writer, '0', '0' + WRITERS - 1);
		assert_true(i >= t->next[writer - '0']);
		t->next[writer - '0'] = i + 1;
		t->lines++;
	}
}

static void test_writers_to_file(void **state)
{
	struct tally t = {.lines = 0};
	char *text;
	size_t len;

	(void)state;
	unlink(path_of("many"));
	configure(path_of("many"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	assert_int_equal(log_start(), 0);
	run_writers();
	log_stop();
	text = slurp_file("many", &len);
	tally_lines(&t, text);
	assert_int_equal(t.lines + t.dropped, WRITERS * LINES);
	print_message("%lu lines, %lu dropped\n", (unsigned long)t.lines, (unsigned long)t.dropped);
	free(text);
}

static void test_writers_without_thread(void **state)
{
	struct tally t = {.lines = 0};
	char *text;
	size_t len;

	(void)state;
	unlink(path_of("direct"));
	configure(path_of("direct"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	run_writers();
	log_stop();
	text = slurp_file("direct", &len);
	tally_lines(&t, text);
	assert_int_equal(t.lines, WRITERS * LINES);
	assert_int_equal(t.dropped, 0);
	free(text);
}

struct reader {
	int fd;
	char *text;
	size_t len;
	pthread_t thread;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;

	r->text = slurp(r->fd, &r->len);
	return NULL;
}

/* Nobody reads until all is said: the rings fill up, and what is lost is counted. */
static void test_ring_full(void **state)
{
	struct tally t = {.lines = 0};
	struct reader r;

	(void)state;
	assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
	configure(path_of("fifo"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	assert_int_equal(log_start(), 0);
	run_writers();
	r.fd = open(path_of("fifo"), O_RDONLY | O_CLOEXEC);
	assert_true(r.fd >= 0);
	assert_int_equal(pthread_create(&r.thread, NULL, read_all, &r), 0);
	log_stop();
	pthread_join(r.thread, NULL);
	close(r.fd);
	tally_lines(&t, r.text);
	assert_true(t.dropped > 0);
	assert_true(t.lines > 0);
	assert_int_equal(t.lines + t.dropped, WRITERS * LINES);
	print_message("%lu lines, %lu dropped\n", (unsigned long)t.lines, (unsigned long)t.dropped);
	free(r.text);
}

static void test_disk_full(void **state)
{
	static const uint64_t want = 3;
	struct tally t = {.lines = 0};
	char *text;
	size_t len;

	(void)state;
	unlink(path_of("after"));
	configure("/dev/full", LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN);
	for (uint64_t i = 0; i < want; i++)
		log_text(LOG_LEVEL_ERROR, "lost");
	configure(path_of("after"), LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN);
	log_stop();
	text = slurp_file("after", &len);
	tally_lines(&t, text);
	assert_int_equal(t.dropped, want);
	assert_int_equal(count_lines(text), 1);
	free(text);
}

/* The file changes hands again and again while threads log: no line is lost, torn or doubled. */
static void *switch_files(void *arg)
{
	(void)arg;
	for (unsigned i = 0; !atomic_load(&halt); i++) {
		configure(path_of(i % 2 ? "odd" : "even"), i % 3 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG,
			  LOG_FORMAT_PLAIN);
		usleep(500);
	}
	return NULL;
}

static void test_switch_while_logging(void **state)
{
	static const char *const names[] = {"even", "odd"};
	struct tally sum = {.lines = 0};
	pthread_t thread;

	(void)state;
	configure(path_of("even"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	assert_int_equal(log_start(), 0);
	assert_int_equal(pthread_create(&thread, NULL, switch_files, NULL), 0);
	run_writers();
	atomic_store(&halt, true);
	pthread_join(thread, NULL);
	log_stop();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct tally t = {.lines = 0};
		size_t len;
		char *text = slurp_file(names[i], &len);

		tally_lines(&t, text);
		assert_true(t.lines > 0);
		sum.lines += t.lines;
		sum.dropped += t.dropped;
		free(text);
	}
	assert_int_equal(sum.lines + sum.dropped, WRITERS * LINES);
}

/* The log thread is started and stopped while others log. */
static void *start_and_stop(void *arg)
{
	(void)arg;
	while (!atomic_load(&halt)) {
		BUG_ON(log_start() != 0);
		usleep(1000);
		log_stop();
		configure(path_of("restart"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	}
	return NULL;
}

/* Standard error becomes a pipe; returns what it was, *reader gets the other end. */
static int stderr_to_pipe(int *reader, int flags)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10), fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, flags), 0);
	assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	*reader = fds[0];
	return saved;
}

static void stderr_restore(int saved)
{
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(saved);
}

static void test_stop_while_logging(void **state)
{
	struct tally t = {.lines = 0};
	struct reader r;
	pthread_t thread;
	char *text;
	size_t len;
	int saved;

	(void)state;
	unlink(path_of("restart"));
	/* Between the end of the thread and the new configuration, lines go to standard error. */
	saved = stderr_to_pipe(&r.fd, 0);
	assert_int_equal(pthread_create(&r.thread, NULL, read_all, &r), 0);
	configure(path_of("restart"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	atomic_store(&halt, false);
	assert_int_equal(pthread_create(&thread, NULL, start_and_stop, NULL), 0);
	run_writers();
	atomic_store(&halt, true);
	pthread_join(thread, NULL);
	log_stop();
	stderr_restore(saved);
	pthread_join(r.thread, NULL);
	close(r.fd);
	text = slurp_file("restart", &len);
	tally_lines(&t, text);
	memset(t.next, 0, sizeof(t.next));
	tally_lines(&t, r.text);
	assert_int_equal(t.lines + t.dropped, WRITERS * LINES);
	free(text);
	free(r.text);
}

/* A pipe that does not block, and a reader that is late. */
static void test_nonblocking_stderr(void **state)
{
	struct tally t = {.lines = 0};
	struct reader r;
	int saved;

	(void)state;
	configure("", LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	saved = stderr_to_pipe(&r.fd, O_NONBLOCK);
	assert_int_equal(log_start(), 0);
	write_lines((char[]){"0"});
	assert_int_equal(pthread_create(&r.thread, NULL, read_all, &r), 0);
	log_stop();
	stderr_restore(saved);
	pthread_join(r.thread, NULL);
	close(r.fd);
	tally_lines(&t, r.text);
	assert_int_equal(t.lines + t.dropped, LINES);
	free(r.text);
}

/* The reader is gone: no signal, nothing hangs; later the loss is told. */
static void test_broken_pipe(void **state)
{
	struct tally t = {.lines = 0};
	char *text;
	size_t len;
	int reader, saved;

	(void)state;
	configure("", LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	saved = stderr_to_pipe(&reader, 0);
	close(reader);
	assert_int_equal(log_start(), 0);
	log_text(LOG_LEVEL_INFO, "lost");
	unlink(path_of("saved"));
	usleep(50000);
	configure(path_of("saved"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	log_stop();
	stderr_restore(saved);
	text = slurp_file("saved", &len);
	tally_lines(&t, text);
	assert_int_equal(t.dropped, 1);
	free(text);
}

/* One line at a time, with pauses about as long as the log thread's own: each one arrives. */
static void test_every_line_wakes(void **state)
{
	int reader, saved;

	(void)state;
	configure("", LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	saved = stderr_to_pipe(&reader, 0);
	assert_int_equal(log_start(), 0);
	for (unsigned i = 0; i < 500; i++) {
		struct pollfd p = {.fd = reader, .events = POLLIN};
		char line[512];

		log_text(LOG_LEVEL_INFO, "line");
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_true(read(reader, line, sizeof(line)) > 0);
		usleep(i * 7);
	}
	log_stop();
	stderr_restore(saved);
	close(reader);
}

static void *log_one(void *arg)
{
	log_text(LOG_LEVEL_INFO, "from thread %d", *(int *)arg);
	return NULL;
}

static long address_space_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld", &pages), 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Their lines are written and their rings, 256 KiB each, are given back. */
static void test_threads_that_end(void **state)
{
	long before = 0;
	char *text;
	size_t len;

	(void)state;
	unlink(path_of("ended"));
	configure(path_of("ended"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	assert_int_equal(log_start(), 0);
	for (int i = 0; i < 300; i++) {
		pthread_t thread;

		if (i == 50)
			before = address_space_kib();
		assert_int_equal(pthread_create(&thread, NULL, log_one, &i), 0);
		pthread_join(thread, NULL);
	}
	log_stop();
	assert_true(address_space_kib() - before < GROWTH_MAX_KIB);
	text = slurp_file("ended", &len);
	assert_int_equal(count_lines(text), 300);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_line_feed),
		cmocka_unit_test(test_file_mode),
		cmocka_unit_test(test_bad_file),
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_writers_to_file),
		cmocka_unit_test(test_writers_without_thread),
		cmocka_unit_test(test_ring_full),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_switch_while_logging),
		cmocka_unit_test(test_stop_while_logging),
		cmocka_unit_test(test_nonblocking_stderr),
		cmocka_unit_test(test_broken_pipe),
		cmocka_unit_test(test_every_line_wakes),
		cmocka_unit_test(test_threads_that_end),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
