/* SPDX-License-Identifier: MIT */
#include "rulemgr/loan.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "policy/rules_loan.h"
#include "rulemgr/control.h"

#define ANSWER_MAX 512
#define RETRY_US   50000
#define MS_OF_SEC  1000
#define NS_OF_MS   1000000
#define OWN_NETNS  "/proc/thread-self/ns/net"
#define NO_LISTENER \
	"when_daemon_down is \"open\", and then the rules belong to the running daemon: "

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * MS_OF_SEC + ts.tv_nsec / NS_OF_MS;
}

/* Room for one descriptor: CMSG_SPACE() has padding that a second one would fit into. */
union passed {
	struct cmsghdr align;
	char bytes[CMSG_LEN(sizeof(int))];
};

/* `pass` < 0: no descriptor goes with it. */
static int control_send(int fd, const char *line, int pass)
{
	union passed control = {.bytes = {0}};
	char request[32];
	int n = snprintf(request, sizeof(request), "%s\n", line);
	struct iovec iov = {request, (size_t)n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (pass >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_LEN(sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
				      .cmsg_level = SOL_SOCKET,
				      .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(c), &pass, sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The descriptor that came with `m`, if one did, in place of *lent. The kernel has closed what did not fit. */
static void take_passed(struct msghdr *m, int *lent)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	if (*lent >= 0)
		close(*lent);
	memcpy(lent, CMSG_DATA(c), sizeof(int));
}

/* One line; *lent is the last descriptor that came with it, -1: none. */
static int control_receive(int fd, char answer[ANSWER_MAX], int *lent)
{
	size_t len = 0;

	*lent = -1;
	while (len == 0 || answer[len - 1] != '\n') {
		union passed control;
		struct iovec iov = {answer + len, ANSWER_MAX - 1 - len};
		struct msghdr m = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = control.bytes,
				   .msg_controllen = CMSG_LEN(sizeof(int))};
		ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n > 0)
			take_passed(&m, lent);
		if (n <= 0 || iov.iov_len == 0)
			return n < 0 ? -errno : -EPIPE;
		len += (size_t)n;
	}
	answer[len] = '\0';
	return 0;
}

/* What the daemon said. */
static int answer_judge(const char *answer, const char *path, struct diag *d)
{
	static const struct {
		const char *words;
		int err;
	} errors[] = {
		{RULES_ERROR_DENIED, EPERM}, {RULES_ERROR_NONE, ENOENT},
		{RULES_ERROR_BUSY, EBUSY},   {RULES_ERROR_ENDING, ESHUTDOWN},
		{RULES_ERROR_WRONG, EPROTO},
	};

	if (strcmp(answer, RULES_DONE) == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		if (strstr(answer, errors[i].words) != NULL)
			return diag_set(d, errors[i].err, NULL, 0, "transocksd (%s) says: %s", path,
					errors[i].words);
	}
	return diag_set(
		d, EPROTO, NULL, 0,
		"what listens at %s is no transocksd that can keep rules; see option control",
		path);
}

static int loan_unanswered(int err, const char *path, struct diag *d)
{
	if (err == -EACCES || err == -EPERM)
		return diag_set(d, EPERM, NULL, 0, "the control socket %s: %s: this needs root",
				path, strerror(-err));
	return diag_set(d, ENOTCONN, NULL, 0,
			NO_LISTENER "no transocksd answers at %s (%s). Start it first, or see "
				    "option control",
			path, strerror(-err));
}

/* One request. *lent as control_receive(); the connection stays open in *connection if that is not NULL. */
static int loan_ask(const char *path, const char *line, int pass, int *connection, int *lent,
		    struct diag *d)
{
	char answer[ANSWER_MAX];
	int fd = control_connect(path);
	int r = fd < 0 ? fd : control_send(fd, line, pass);

	*lent = -1;
	if (r == 0)
		r = control_receive(fd, answer, lent);
	r = r < 0 ? loan_unanswered(r, path, d) : answer_judge(answer, path, d);
	if (r < 0 && *lent >= 0)
		close(*lent);
	if (fd >= 0 && (r < 0 || connection == NULL))
		close(fd);
	else if (fd >= 0)
		*connection = fd;
	return r;
}

/* A new socket for the daemon. It closes here; what counts is that it stays open there. */
static int loan_give(const char *path, struct diag *d)
{
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	int spare = -1, r;

	if (sock == NULL || mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0)
		r = diag_set(d, errno, NULL, 0, "cannot make a netlink socket: %s",
			     strerror(errno));
	else
		r = loan_ask(path, RULES_KEEP, mnl_socket_get_fd(sock), NULL, &spare, d);
	if (r == 0 && spare >= 0)
		close(spare);
	if (sock != NULL)
		mnl_socket_close(sock);
	return r;
}

/* One daemon keeps one socket, and a socket belongs to one network namespace. */
static int loan_check_netns(int fd, const char *path, struct diag *d)
{
	int ns = ioctl(fd, SIOCGSKNS);
	struct stat theirs, ours;
	bool known;

	if (ns < 0)
		return diag_set(d, errno, NULL, 0,
				"cannot tell which network namespace transocksd's socket is of: %s",
				strerror(errno));
	known = fstat(ns, &theirs) == 0 && stat(OWN_NETNS, &ours) == 0;
	close(ns);
	if (known && theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev)
		return 0;
	return diag_set(d, EXDEV, NULL, 0,
			"transocksd (%s) keeps the rules of another network namespace", path);
}

static int loan_take(struct loan *l, int lent, const char *path, struct diag *d)
{
	int r;

	if (lent < 0)
		return diag_set(d, EPROTO, NULL, 0, "transocksd (%s) did not pass its socket",
				path);
	r = loan_check_netns(lent, path, d);
	if (r < 0) {
		close(lent);
		return r;
	}
	r = kernel_adopt(&l->kernel, lent);
	if (r < 0)
		diag_set(d, -r, NULL, 0, "cannot use transocksd's socket: %s", strerror(-r));
	return r;
}

static int loan_try(struct loan *l, const char *path, bool create, struct diag *d)
{
	const char *line = create ? RULES_LEND : RULES_LEND_ANYWAY;
	int lent, r = loan_ask(path, line, -1, &l->connection, &lent, d);

	if (r == -ENOENT && create) {
		r = loan_give(path, d);
		if (r == 0)
			r = loan_ask(path, line, -1, &l->connection, &lent, d);
	}
	if (r < 0)
		return r;
	r = loan_take(l, lent, path, d);
	if (r < 0)
		close(l->connection);
	return r;
}

int loan_begin(struct loan *l, const char *path, bool create, struct diag *d)
{
	int64_t begin = now_ms();

	if (path == NULL)
		path = RULES_CONTROL_PATH;
	if (path[0] == '\0')
		return diag_set(d, ENOTCONN, NULL, 0,
				NO_LISTENER "it has no control socket, see option control");
	for (;;) {
		int64_t waited_ms = now_ms() - begin;
		int r = loan_try(l, path, create, d);

		if (!(r == -EBUSY && waited_ms < LOAN_BUSY_MS) &&
		    !((r == -ENOTCONN || r == -ESHUTDOWN) && create && waited_ms < LOAN_START_MS))
			return r;
		usleep(RETRY_US);
	}
}

void loan_end(struct loan *l)
{
	/* First the copy, so that it is one process's alone when the next one borrows it. */
	kernel_close(&l->kernel);
	close(l->connection);
}
