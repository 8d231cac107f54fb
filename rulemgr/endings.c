/* SPDX-License-Identifier: MIT */
#include "rulemgr/endings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy/rules_loan.h"
#include "policy/strbuf.h"
#include "rulemgr/control.h"

#define STATUS_REQUEST "status\n"
/* A daemon of a thousand workers says less. */
#define STATUS_MAX (1 << 20)

/* Those that are not here are of flows that worked, or whose client has ended them. */
const struct ending endings_early[] = {
	{"not-redirected", false,
	 "the rules and transocksd are of different modes, or the table is not ours: install with "
	 "the mode that the daemon has (option mode)"},
	{"loop", false, "transocksd gets its own flows: see the steps user and mark"},
	{"no-destination", false, "the kernel does not say where flows were going: see its log"},
	{"resolve-failed", true, "the upstream's name does not resolve: see its log"},
	{"resolve-timeout", true, "the upstream's name does not resolve: see its log"},
	{"connect-failed", true,
	 "the upstream cannot be reached: see proxy_url or [[upstream]], and its log"},
	{"connect-timeout", true,
	 "the upstream cannot be reached: see proxy_url or [[upstream]], and its log"},
	{"greeting-failed", false,
	 "what is at proxy_url or [[upstream]] does not speak as its URL says: see its log"},
	{"greeting-timeout", false,
	 "what is at proxy_url or [[upstream]] does not speak as its URL says: see its log"},
	{"reply-failed", false, NULL},
	{"reply-refused", false, NULL},
	{"reply-timeout", false, NULL},
	{"setup-timeout", false, NULL},
	{"client-limit", false, NULL},
	{"no-memory", false, NULL},
	{"cut", false, NULL},
	{.word = NULL},
};

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
	static const char key[] = "\"ended\":{", direct[] = "\"url\":\"direct://\"";
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

bool endings_judge(const struct endings *before, const struct endings *after,
		   struct endings_verdict *v)
{
	bool any = false, hopeless = true;
	const char *hint = NULL;
	struct strbuf words;

	strbuf_init(&words, v->words, sizeof(v->words));
	for (const struct ending *e = endings_early; e->word != NULL; e++) {
		if (endings_grown(before, after, e->word) == 0)
			continue;
		strbuf_printf(&words, "%s%s", any ? " or " : "", e->word);
		any = true;
		hopeless &= e->hint != NULL && !(e->direct && after->direct);
		hint = hint == NULL ? e->hint : hint;
	}
	v->hopeless = any && hopeless;
	v->hint = hint;
	return any;
}
