/* SPDX-License-Identifier: MIT */
#include "daemon/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "daemon/core/log_sink.h"

/* What log_end() adds at most; kept free, so that a line that was cut still is valid. */
#define ENDING ",\"truncated\":true}\n"

static _Atomic(const char *) log_topic = "-";
static atomic_int log_level = LOG_LEVEL_INFO;
static atomic_int log_format = LOG_FORMAT_PLAIN;
static char *log_filename; /* main thread only; NULL is as "" */

static struct utsname host;

static void host_init(void)
{
	if (uname(&host) < 0)
		strcpy(host.nodename, "localhost");
}

static const char *host_name(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, host_init);
	return host.nodename;
}

/* The descriptor or -errno. */
static int log_open(const char *filename, struct diag *d)
{
	/* Readable, so that the last byte can be seen; blocking, as only the log thread writes. */
	int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
	int fd = open(filename, geteuid() == 0 ? flags | O_NOFOLLOW : flags, 0644);
	int err = errno;

	if (fd >= 0)
		return fd;
	return diag_set(d, err, filename, 0, "cannot open the log file: %s", strerror(err));
}

/* The file, unless it is the one that is open already. */
static int log_change_file(const char *filename, struct diag *d)
{
	int fd = STDERR_FILENO;
	char *copy;

	if (strcmp(filename, log_filename != NULL ? log_filename : "") == 0)
		return 0;
	copy = strdup(filename);
	if (copy == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	if (filename[0] != '\0')
		fd = log_open(filename, d);
	if (fd < 0) {
		free(copy);
		return fd;
	}
	free(log_filename);
	log_filename = copy;
	log_sink_switch(fd);
	return 0;
}

int log_configure(const char *topic, enum log_level level, enum log_format format,
		  const char *filename, struct diag *d)
{
	int rc = log_change_file(filename, d);

	if (rc < 0)
		return rc;
	atomic_store(&log_topic, topic);
	atomic_store(&log_level, (int)level);
	atomic_store(&log_format, (int)format);
	return 0;
}

int log_give(uid_t uid, gid_t gid, struct diag *d)
{
	struct stat st;
	int fd, rc = 0;

	if (log_filename == NULL || log_filename[0] == '\0')
		return 0;
	/* Neither a link nor a second name: the directory may be one that others write to. */
	fd = open(log_filename, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return 0;
	/* Whatever else it is, a terminal or a pipe, is not ours to give away. */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
	    fchown(fd, uid, gid) < 0)
		rc = diag_set(d, errno, log_filename, 0, "cannot give the log file away: %s",
			      strerror(errno));
	close(fd);
	return rc;
}

int log_reopen(struct diag *d)
{
	int fd;

	if (log_filename == NULL || log_filename[0] == '\0')
		return 0;
	fd = log_open(log_filename, d);
	if (fd < 0)
		return fd;
	log_sink_switch(fd);
	return 0;
}

int log_start(void)
{
	return log_sink_start();
}

void log_stop(void)
{
	log_sink_stop();
	free(log_filename);
	log_filename = NULL;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* UTC with microseconds; what is before the point changes once a second. */
static void format_time(char out[sizeof("2026-01-02T03:04:05.123456Z")])
{
	static _Thread_local time_t second = -1;
	static _Thread_local char text[sizeof("2026-01-02T03:04:05.123456Z")];
	struct timespec now;
	struct tm tm;
	long us;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != second) {
		gmtime_r(&now.tv_sec, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.000000Z", &tm);
		second = now.tv_sec;
	}
	memcpy(out, text, sizeof(text));
	us = now.tv_nsec / 1000;
	for (int i = 25; i > 19; i--, us /= 10)
		out[i] = (char)('0' + us % 10);
}

static bool needs_quotes(const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] <= ' ' || bytes[i] > '~' || bytes[i] == '"' || bytes[i] == '\\' ||
		    bytes[i] == '=')
			return true;
	}
	return n == 0;
}

static void put_bare(struct strbuf *sb, const char *bytes, size_t n)
{
	if (needs_quotes(bytes, n))
		strbuf_put_quoted(sb, bytes, n);
	else
		strbuf_put(sb, bytes, n);
}

/* Plain and logfmt. */
static void put_key(struct log_line *l, const char *key)
{
	strbuf_putc(&l->text, ' ');
	strbuf_puts(&l->text, key);
	strbuf_putc(&l->text, '=');
}

/* Takes a field out again if it was cut, so that no half of it stays. */
static bool field_fits(struct log_line *l, size_t begin)
{
	if (!l->text.truncated)
		return true;
	l->text.len = begin;
	l->text.data[begin] = '\0';
	return false;
}

static bool field_try(struct log_line *l, const char *key, const char *bytes, size_t n)
{
	size_t begin = l->text.len;

	l->text.truncated = false;
	if (l->format == LOG_FORMAT_JSON) {
		json_string_n(&l->json, key, bytes, n);
	} else if (strcmp(key, "message") != 0) {
		put_key(l, key);
		put_bare(&l->text, bytes, n);
	} else {
		if (l->format == LOG_FORMAT_LOGFMT)
			put_key(l, key);
		else
			strbuf_putc(&l->text, ' ');
		strbuf_put_quoted(&l->text, bytes, n);
	}
	return field_fits(l, begin);
}

/* A value that is too long is cut to what fits, and the line is marked as truncated. */
static void field_put(struct log_line *l, const char *key, const char *bytes, size_t n)
{
	bool cut = l->text.truncated;
	size_t begin = l->text.len, fits = 0, tried = n < LOG_LINE_MAX ? n : LOG_LINE_MAX;

	if (tried == n && field_try(l, key, bytes, n)) {
		l->text.truncated = cut;
		return;
	}
	while (fits < tried) {
		size_t half = tried - (tried - fits) / 2;

		if (field_try(l, key, bytes, half)) {
			l->text.len = begin;
			fits = half;
		} else {
			tried = half - 1;
		}
	}
	if (fits > 0)
		field_try(l, key, bytes, fits);
	l->text.truncated = true;
}

static void line_begin(struct log_line *l, enum log_level level, const char *message)
{
	const char *topic = atomic_load_explicit(&log_topic, memory_order_relaxed);
	const char *severity = log_level_words[level];
	char now[sizeof("2026-01-02T03:04:05.123456Z")];

	l->level = level;
	l->format = (enum log_format)atomic_load_explicit(&log_format, memory_order_relaxed);
	strbuf_init(&l->text, l->mem, sizeof(l->mem) - sizeof(ENDING));
	json_init(&l->json, &l->text);
	format_time(now);
	switch (l->format) {
	case LOG_FORMAT_PLAIN:
		strbuf_puts(&l->text, now);
		strbuf_putc(&l->text, ' ');
		put_bare(&l->text, host_name(), strlen(host_name()));
		strbuf_putc(&l->text, ' ');
		strbuf_puts(&l->text, topic);
		strbuf_putc(&l->text, ' ');
		strbuf_puts(&l->text, severity);
		strbuf_putc(&l->text, ':');
		break;
	case LOG_FORMAT_LOGFMT:
		strbuf_puts(&l->text, "topic=");
		strbuf_puts(&l->text, topic);
		log_add(l, "logged_at", now);
		log_add(l, "severity", severity);
		log_add(l, "utsname", host_name());
		break;
	case LOG_FORMAT_JSON:
		json_object_begin(&l->json, NULL);
		json_string(&l->json, "topic", topic);
		json_string(&l->json, "logged_at", now);
		json_string(&l->json, "severity", severity);
		json_string(&l->json, "utsname", host_name());
		break;
	}
	field_put(l, "message", message, strlen(message));
}

bool log_once_a_second(atomic_uint_fast64_t *last_ms, uint64_t now_ms)
{
	uint_fast64_t last = atomic_load(last_ms);

	/* The times of two threads' loops may be the wrong way round by a little. */
	return (last == 0 || now_ms >= last + 1000) &&
	       atomic_compare_exchange_strong(last_ms, &last, now_ms);
}

static void line_end(struct log_line *l)
{
	bool json = l->format == LOG_FORMAT_JSON;

	l->text.cap = sizeof(l->mem);
	if (l->text.truncated)
		strbuf_puts(&l->text, json ? ",\"truncated\":true" : " truncated=true");
	strbuf_puts(&l->text, json ? "}\n" : "\n");
}

bool log_begin(struct log_line *l, enum log_level level, const char *message)
{
	if (!log_enabled(level))
		return false;
	line_begin(l, level, message);
	return true;
}

void log_add(struct log_line *l, const char *key, const char *text)
{
	field_put(l, key, text, strlen(text));
}

/* `ms` < 0: there is no fraction. */
static void number_put(struct log_line *l, const char *key, uint64_t value, int ms)
{
	bool cut = l->text.truncated;
	size_t begin = l->text.len;

	l->text.truncated = false;
	if (l->format == LOG_FORMAT_JSON) {
		json_uint(&l->json, key, value);
	} else {
		put_key(l, key);
		strbuf_printf(&l->text, "%" PRIu64, value);
	}
	if (ms >= 0)
		strbuf_printf(&l->text, ".%03d", ms);
	if (field_fits(l, begin))
		l->text.truncated = cut;
}

void log_add_uint(struct log_line *l, const char *key, uint64_t value)
{
	number_put(l, key, value, -1);
}

void log_add_elapsed(struct log_line *l, const char *key, uint64_t ms)
{
	number_put(l, key, ms / 1000, (int)(ms % 1000));
}

void log_add_addr(struct log_line *l, const char *key, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];

	log_add(l, key, addr_format(a, text, sizeof(text)));
}

void log_end(struct log_line *l)
{
	line_end(l);
	log_sink_put(l->text.data, l->text.len);
}

void log_text(enum log_level level, const char *fmt, ...)
{
	struct log_line l;
	char message[LOG_LINE_MAX];
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	line_begin(&l, level, message);
	log_end(&l);
}

size_t log_format_dropped(uint64_t n, char out[LOG_LINE_MAX])
{
	struct log_line l;

	/* Whatever the level is: that the log has holes must be known. */
	line_begin(&l, LOG_LEVEL_WARNING, "log lines dropped");
	log_add_uint(&l, "dropped", n);
	line_end(&l);
	memcpy(out, l.text.data, l.text.len);
	return l.text.len;
}
