/* SPDX-License-Identifier: MIT */
#include "rulemgr/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/rules_loan.h"
#include "policy/strbuf.h"

#define STATUS_REQUEST "status\n"
/* A daemon of a thousand workers says less. */
#define STATUS_MAX (1 << 20)

int control_connect(const char *path)
{
	const struct timeval limit = {.tv_sec = CONTROL_ANSWER_S};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* Its answer, up to the end of the connection. 0 or a negative errno. */
static int control_read_status(int fd, struct strbuf *answer)
{
	char some[4096];
	ssize_t n;

	if (send(fd, STATUS_REQUEST, strlen(STATUS_REQUEST), MSG_NOSIGNAL) < 0)
		return -errno;
	while (answer->len < STATUS_MAX) {
		n = recv(fd, some, sizeof(some), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		strbuf_put(answer, some, (size_t)n);
	}
	return -EPROTO;
}

int endings_parse(const char *answer, struct endings *e)
{
	static const char key[] = "\"ended\":{", direct[] = "\"upstream\":\"direct\"";
	const char *at = strstr(answer, key);
	int len = 0;

	if (at == NULL)
		return -EPROTO;
	*e = (struct endings){.direct = strstr(answer, direct) != NULL};
	at += strlen(key);
	while (e->n_rows < ENDINGS_MAX &&
	       sscanf(at, "\"%31[a-z-]\":%" SCNu64 "%n", e->rows[e->n_rows].word,
		      &e->rows[e->n_rows].n, &len) == 2) {
		e->n_rows++;
		at += len;
		at += *at == ',';
	}
	return e->n_rows > 0 && *at == '}' ? 0 : -EPROTO;
}

int endings_read(const char *path, struct endings *e, struct diag *d)
{
	struct strbuf answer;
	int fd, r;

	if (path == NULL)
		path = RULES_CONTROL_PATH;
	if (path[0] == '\0')
		return diag_set(d, ENOTCONN, NULL, 0,
				"transocksd has no control socket (option control)");
	fd = control_connect(path);
	strbuf_init_heap(&answer);
	r = fd < 0 ? fd : control_read_status(fd, &answer);
	if (r == 0)
		r = answer.data != NULL ? endings_parse(answer.data, e) : -EPROTO;
	strbuf_free(&answer);
	if (fd >= 0)
		close(fd);
	if (r < 0)
		diag_set(d, -r, NULL, 0, "transocksd cannot be asked at %s: %s", path,
			 strerror(-r));
	return r;
}

static uint64_t endings_count(const struct endings *e, const char *word)
{
	for (size_t i = 0; i < e->n_rows; i++) {
		if (strcmp(e->rows[i].word, word) == 0)
			return e->rows[i].n;
	}
	return 0;
}

uint64_t endings_grown(const struct endings *before, const struct endings *after, const char *word)
{
	uint64_t then = endings_count(before, word), now = endings_count(after, word);

	/* Less: another daemon has taken its place meanwhile, and begun to count. */
	return now >= then ? now - then : now;
}
