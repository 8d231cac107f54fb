/* SPDX-License-Identifier: MIT */
#include "daemon/admin/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/json.h"
#include "policy/rules_loan.h"

#define BACKLOG 64
/* What a client has sent beyond its request is read away before we close, so that the close does not become a
 * reset under the answer; so much of it at most. */
#define DRAIN_READS 16

/* How often who has given way looks whether the path is free again: soon after the successor has ended, whose
 * sockets close one after the other; then a daemon that answers there may stay long. */
#define COME_BACK_MIN_MS 10
#define COME_BACK_MAX_MS 1000

#define GIVE_WAY         "give way"
#define ERROR_NOT_ENDING "this daemon is not ending"

static const struct {
	const char *line;
	enum control_request request;
} requests[] = {
	{"status\n", CONTROL_STATUS},
	{"status text\n", CONTROL_STATUS_TEXT},
	{"suggest\n", CONTROL_SUGGEST},
	{RULES_KEEP "\n", CONTROL_RULES_KEEP},
	{RULES_LEND "\n", CONTROL_RULES_LEND},
	{RULES_DROP "\n", CONTROL_RULES_DROP},
	{RULES_LEND_ANYWAY "\n", CONTROL_RULES_LEND_ANYWAY},
	{GIVE_WAY "\n", CONTROL_GIVE_WAY},
};

enum control_request control_parse(const char *bytes, size_t len, bool ended)
{
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		if (len == strlen(requests[i].line) && memcmp(bytes, requests[i].line, len) == 0)
			return requests[i].request;
	}
	if (len > strlen(GIVE_WAY " ") && memcmp(bytes, GIVE_WAY " ", strlen(GIVE_WAY " ")) == 0 &&
	    memchr(bytes, '\n', len) == bytes + len - 1)
		return CONTROL_GIVE_WAY;
	if (ended || len >= CONTROL_REQUEST_MAX || memchr(bytes, '\n', len) != NULL)
		return CONTROL_UNKNOWN;
	return CONTROL_MORE;
}

static void control_come_back(struct timer *t);

static void client_close(struct control_client *cl)
{
	struct control *c = cl->control;
	int fd = cl->source->fd;
	char rest[4096];

	for (int i = 0; i < DRAIN_READS && recv(fd, rest, sizeof(rest), 0) > 0; i++)
		;
	lend_end(&c->rules, cl);
	if (cl->passed_fd >= 0)
		close(cl->passed_fd);
	timer_cancel(&cl->timer);
	loop_unwatch(c->listener.loop, cl->source);
	cl->source = NULL;
	close(fd);
	strbuf_free(&cl->answer);
	listener_resume(&c->listener);
	if (!cl->is_successor)
		return;
	c->come_back_ms = COME_BACK_MIN_MS;
	loop_timer(c->listener.loop, &c->come_back, c->come_back_ms, control_come_back);
}

static void client_timeout(struct timer *t)
{
	client_close(container_of(t, struct control_client, timer));
}

/* The descriptor that is lent goes with the first byte. */
static ssize_t client_send_some(struct control_client *cl)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {cl->answer.data + cl->sent, cl->answer.len - cl->sent};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (cl->lent_fd >= 0 && cl->sent == 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
				      .cmsg_level = SOL_SOCKET,
				      .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(c), &cl->lent_fd, sizeof(int));
	}
	return sendmsg(cl->source->fd, &m, MSG_NOSIGNAL);
}

static void client_send(struct control_client *cl)
{
	ssize_t n = 0;

	while (cl->sent < cl->answer.len) {
		n = client_send_some(cl);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			return client_close(cl);
		cl->sent += (size_t)n;
	}
	if (cl->is_successor) { /* it closes when it ends */
		timer_cancel(&cl->timer);
		lend_end(&cl->control->rules, cl);
	} else if (cl->lent_fd < 0) {
		client_close(cl);
	}
}

/* Who asks, as the kernel saw it at connect(2). */
static bool client_may_change(const struct control_client *cl)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(cl->source->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

/* Where the directory is not ours that fails; the next daemon replaces what stays. */
static void control_unlink(struct control *c)
{
	struct stat st;

	if (lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	/* Without the socket the number may become that of our successor's file. */
	c->dev = 0;
	c->ino = 0;
}

static int client_lend(struct control_client *cl)
{
	struct control *c = cl->control;

	cl->lent_fd = lend_begin(&c->rules, cl);
	loop_timer(c->listener.loop, &cl->timer, CONTROL_LOAN_MS, client_timeout);
	return cl->lent_fd < 0 ? cl->lent_fd : 0;
}

static bool client_serves_the_same(const struct control_client *cl)
{
	char line[sizeof(GIVE_WAY) + CONTROL_SERVES_MAX + 2];

	snprintf(line, sizeof(line), GIVE_WAY " %s\n", cl->control->serves);
	return cl->len == strlen(line) && memcmp(cl->request, line, cl->len) == 0;
}

/* What is kept stays ours as well, for the flows under way: they need the rules also should the successor end before
 * them. */
static int client_succeed(struct control_client *cl)
{
	struct control *c = cl->control;
	int rc = 0;

	if (!c->ending)
		return -EALREADY;
	if (client_serves_the_same(cl))
		rc = client_lend(cl);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	listener_stop(&c->listener);
	control_unlink(c);
	cl->is_successor = true;
	return 0;
}

static int client_do(struct control_client *cl, enum control_request request)
{
	struct lend *rules = &cl->control->rules;
	int fd = cl->passed_fd;

	if (!client_may_change(cl))
		return -EPERM;
	if (request == CONTROL_GIVE_WAY)
		return client_succeed(cl);
	if (request == CONTROL_RULES_DROP)
		return lend_drop(rules, cl);
	if (cl->control->ending && request != CONTROL_RULES_LEND_ANYWAY)
		return -ESHUTDOWN;
	if (request == CONTROL_RULES_KEEP) {
		cl->passed_fd = -1;
		return fd < 0 ? -EINVAL : lend_keep(rules, fd, cl);
	}
	return client_lend(cl);
}

static const char *request_error(int rc)
{
	switch (rc) {
	case -EPERM:
		return RULES_ERROR_DENIED;
	case -ENOENT:
		return RULES_ERROR_NONE;
	case -EBUSY:
		return RULES_ERROR_BUSY;
	case -ESHUTDOWN:
		return RULES_ERROR_ENDING;
	case -EALREADY:
		return ERROR_NOT_ENDING;
	default:
		return RULES_ERROR_WRONG;
	}
}

static void client_answer(struct control_client *cl, enum control_request request)
{
	const char *error = NULL;
	struct json j;
	int rc;

	switch (request) {
	case CONTROL_STATUS:
	case CONTROL_STATUS_TEXT:
	case CONTROL_SUGGEST:
		cl->control->on_request(cl->control->ctx, request, &cl->answer);
		break;
	case CONTROL_RULES_KEEP:
	case CONTROL_RULES_LEND:
	case CONTROL_RULES_DROP:
	case CONTROL_RULES_LEND_ANYWAY:
	case CONTROL_GIVE_WAY:
		rc = client_do(cl, request);
		error = rc < 0 ? request_error(rc) : NULL;
		break;
	case CONTROL_MORE:
	case CONTROL_UNKNOWN:
		error = "unknown request; see transocksd(8)";
		break;
	}
	if (cl->answer.len == 0) {
		json_init(&j, &cl->answer);
		json_object_begin(&j, NULL);
		if (error != NULL)
			json_string(&j, "error", error);
		json_object_end(&j);
		strbuf_putc(&cl->answer, '\n');
	}
	if (cl->answer.truncated)
		return client_close(cl);
	client_send(cl);
}

/* recv(2) that also takes one descriptor that comes along into *passed, in place of the one that is there (-1:
 * none). The kernel closes what does not fit: CMSG_SPACE() has padding that a second one would fit into. */
static ssize_t receive_passed(int fd, void *bytes, size_t cap, int *passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_LEN(sizeof(int))];
	} control;
	struct iovec iov = {bytes, cap};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.bytes,
			   .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return n;
	if (*passed >= 0)
		close(*passed);
	memcpy(passed, CMSG_DATA(c), sizeof(int));
	return n;
}

static void client_receive(struct control_client *cl)
{
	enum control_request request = CONTROL_MORE;

	while (request == CONTROL_MORE) {
		ssize_t n = receive_passed(cl->source->fd, cl->request + cl->len,
					   sizeof(cl->request) - cl->len, &cl->passed_fd);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 || (n == 0 && cl->len == 0))
			return client_close(cl);
		cl->len += (size_t)n;
		request = control_parse(cl->request, cl->len, n == 0);
	}
	client_answer(cl, request);
}

static void client_event(struct source *src, uint32_t events)
{
	struct control_client *cl = src->owner;

	if (cl->answer.len > 0 && cl->sent == cl->answer.len) { /* a loan, or the successor */
		if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			client_close(cl);
	} else if (cl->answer.len > 0)
		client_send(cl);
	else
		client_receive(cl);
}

static struct control_client *control_free_client(struct control *c)
{
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (c->clients[i].source == NULL)
			return &c->clients[i];
	}
	return NULL;
}

static void control_accept(struct listener *l, int fd, const struct addr *peer)
{
	struct control *c = l->owner;
	struct control_client *cl = control_free_client(c);

	(void)peer;
	BUG_ON(cl == NULL); /* paused otherwise */
	cl->source = loop_watch(l->loop, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				client_event, cl);
	if (cl->source == NULL) {
		close(fd);
		return;
	}
	cl->control = c;
	cl->sent = cl->len = 0;
	cl->passed_fd = cl->lent_fd = -1;
	cl->is_successor = false;
	strbuf_init_heap(&cl->answer);
	timer_init(&cl->timer);
	loop_timer(l->loop, &cl->timer, CONTROL_TIME_MS, client_timeout);
	if (control_free_client(c) == NULL)
		listener_pause(l);
}

/* A directory that is there stays as it is. */
static int control_make_dir(const char *path, const struct priv_user *user)
{
	const char *slash = strrchr(path, '/');
	char dir[CONTROL_PATH_MAX];
	mode_t mask;
	int rc;

	if (slash == NULL || slash == path)
		return 0;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	mask = umask(0022);
	rc = mkdir(dir, 0755) < 0 ? -errno : 0;
	umask(mask);
	if (rc == 0 && user->change && lchown(dir, user->uid, user->gid) < 0)
		return -errno;
	return rc == -EEXIST ? 0 : rc;
}

static void control_leave_predecessor(struct control *c)
{
	if (c->predecessor >= 0)
		close(c->predecessor);
	c->predecessor = -1;
}

/* Asks who listens at the other end of `fd` to give way; true if it does. *rules is what it kept, if it kept
 * something. */
static bool control_ask_way(const struct control *c, int fd, int wait_ms, int *rules)
{
	char request[sizeof(GIVE_WAY) + CONTROL_SERVES_MAX + 2], answer[64];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n = 0;

	snprintf(request, sizeof(request), GIVE_WAY " %s\n", c->serves);
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) >= 0 && poll(&p, 1, wait_ms) > 0)
		n = receive_passed(fd, answer, sizeof(answer), rules);
	return n == (ssize_t)strlen(RULES_DONE) && memcmp(answer, RULES_DONE, (size_t)n) == 0;
}

/* Who cannot make a file there would leave nobody to answer. */
static bool control_may_make(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[CONTROL_PATH_MAX];

	snprintf(dir, sizeof(dir), "%.*s", (int)(slash != NULL ? slash - path : 0), path);
	return access(slash == NULL ? "." : dir[0] == '\0' ? "/" : dir, W_OK | X_OK) == 0;
}

/* -EADDRINUSE if somebody listens at the path; 0 if nobody does, and nothing is there any more. */
static int control_remove_stale(struct control *c, const struct sockaddr_un *sun, int wait_ms,
				int *rules)
{
	struct stat st;
	int fd, rc;

	if (lstat(sun->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 ? -errno : 0;
	if (rc == 0 && wait_ms > 0 && control_may_make(sun->sun_path) &&
	    control_ask_way(c, fd, wait_ms, rules)) {
		control_leave_predecessor(c);
		c->predecessor = fd;
	} else {
		close(fd);
	}
	if (rc == 0 || rc == -EAGAIN) /* EAGAIN: its queue is full */
		return -EADDRINUSE;
	if (rc != -ECONNREFUSED)
		return rc;
	return unlink(sun->sun_path) < 0 ? -errno : 0;
}

/* Makes room at the path: 0 if nothing is there any more, -EADDRINUSE if somebody stays. */
static int control_make_room(struct control *c, const struct sockaddr_un *sun, int wait_ms,
			     int *rules)
{
	int rc = control_remove_stale(c, sun, wait_ms, rules);

	return rc == -EADDRINUSE ? control_remove_stale(c, sun, 0, rules) : rc;
}

static int control_bind(int fd, const struct sockaddr_un *sun, const struct priv_user *user)
{
	mode_t mask = umask(0117);
	int rc = bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 ? -errno : 0;

	umask(mask);
	/* lchown: should that user have put a link in its place meanwhile, only the link is given. */
	if (rc == 0 && user->change && lchown(sun->sun_path, user->uid, user->gid) < 0)
		rc = -errno;
	if (rc == 0 && listen(fd, BACKLOG) < 0)
		rc = -errno;
	return rc;
}

static const char *control_why(int rc)
{
	if (rc == -EADDRINUSE)
		return "another daemon answers there";
	if (rc == -EEXIST)
		return "something else than a socket is there";
	return strerror(-rc);
}

static int control_listen(struct control *c, int fd, const struct priv_user *user, int wait_ms,
			  int *rules)
{
	const struct addr none = {.family = AF_UNSPEC};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct stat st = {0};
	int rc = control_make_dir(c->path, user);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", c->path);
	if (rc == 0)
		rc = control_make_room(c, &sun, wait_ms, rules);
	if (rc == 0)
		rc = control_bind(fd, &sun, user);
	if (rc == 0 && lstat(c->path, &st) < 0)
		rc = -errno;
	if (rc == 0)
		rc = listener_start(&c->listener, c->listener.loop, fd, &none, control_accept, c);
	if (rc == 0) {
		c->dev = st.st_dev;
		c->ino = st.st_ino;
	}
	return rc;
}

static int control_try(struct control *c, const struct priv_user *user, int wait_ms, struct diag *d)
{
	int rules = -1, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -errno : control_listen(c, fd, user, wait_ms, &rules);

	/* Also where the path is lost to somebody else: the rules live on with us. */
	if (rules >= 0)
		lend_keep(&c->rules, rules, c);
	if (rc == 0)
		return 0;
	if (fd >= 0)
		close(fd);
	control_leave_predecessor(c);
	return diag_set(d, -rc, NULL, 0, "cannot make the control socket %s: %s", c->path,
			control_why(rc));
}

/* The successor may end before us; then there is nobody else to ask for the rules. */
static void control_come_back(struct timer *t)
{
	struct control *c = container_of(t, struct control, come_back);
	const struct priv_user same = {0};
	struct diag d;

	if (control_try(c, &same, 0, &d) < 0) {
		loop_timer(c->listener.loop, t, c->come_back_ms, control_come_back);
		c->come_back_ms = 2 * c->come_back_ms < COME_BACK_MAX_MS ? 2 * c->come_back_ms
									 : COME_BACK_MAX_MS;
	} else if (control_free_client(c) == NULL) {
		listener_pause(&c->listener);
	}
}

int control_start(struct control *c, struct loop *loop, const struct control_options *o,
		  struct diag *d)
{
	*c = (struct control){.on_request = o->on_request, .ctx = o->ctx, .listener.loop = loop};
	lend_init(&c->rules);
	timer_init(&c->come_back);
	c->predecessor = -1;
	if (strlen(o->path) >= sizeof(c->path))
		return diag_set(d, ENAMETOOLONG, NULL, 0, "control socket %s: the path is too long",
				o->path);
	snprintf(c->path, sizeof(c->path), "%s", o->path);
	snprintf(c->serves, sizeof(c->serves), "%s", o->serves);
	return control_try(c, o->user, CONTROL_GIVE_WAY_MS, d);
}

int control_retry(struct control *c, struct diag *d)
{
	const struct priv_user same = {0};

	return control_try(c, &same, CONTROL_GIVE_WAY_AGAIN_MS, d);
}

void control_ending(struct control *c)
{
	c->ending = true;
}

void control_stop(struct control *c)
{
	if (c->path[0] == '\0')
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (c->clients[i].source != NULL)
			client_close(&c->clients[i]);
	}
	timer_cancel(&c->come_back);
	listener_stop(&c->listener);
	lend_drop(&c->rules, NULL);
	control_unlink(c);
	control_leave_predecessor(c);
	c->path[0] = '\0';
}
