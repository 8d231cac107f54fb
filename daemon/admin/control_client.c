/* SPDX-License-Identifier: MIT */
#include "daemon/admin/control_client.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* More than others who wait before us may take (control.h). */
#define ANSWER_S   30
#define ANSWER_MAX ((size_t)4 << 20)

static int control_send(int fd, const char *line)
{
	char request[64];
	size_t len = (size_t)snprintf(request, sizeof(request), "%s\n", line);
	ssize_t n;

	BUG_ON(len >= sizeof(request));
	n = send(fd, request, len, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EPIPE;
}

static int control_receive(int fd, struct strbuf *out)
{
	char chunk[16384];
	ssize_t n;

	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0) {
		if (out->len + (size_t)n > ANSWER_MAX)
			return -EMSGSIZE;
		strbuf_put(out, chunk, (size_t)n);
	}
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (out->truncated)
		return -ENOMEM;
	return out->len == 0 ? -ENODATA : 0;
}

static int control_denied(const char *path, int err, struct diag *d)
{
	const struct passwd *owner;
	const struct group *group;
	struct stat st;

	if (stat(path, &st) < 0)
		return diag_set(d, err, NULL, 0, "you may not ask the daemon on %s: %s", path,
				strerror(err));
	owner = getpwuid(st.st_uid);
	group = getgrgid(st.st_gid);
	return diag_set(d, err, NULL, 0,
			"you may not ask the daemon on %s: %s (socket mode %04o, owner %s, group "
			"%s)",
			path, strerror(err), st.st_mode & 07777,
			owner != NULL ? owner->pw_name : "?", group != NULL ? group->gr_name : "?");
}

int control_ask(const char *path, const char *line, struct strbuf *out, struct diag *d)
{
	const struct timeval limit = {.tv_sec = ANSWER_S};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(sun.sun_path))
		return diag_set(d, ENAMETOOLONG, NULL, 0, "control socket %s: the path is too long",
				path);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return diag_set(d, errno, NULL, 0, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	rc = connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0 ? -errno : 0;
	if (rc == 0)
		rc = control_send(fd, line);
	if (rc == 0)
		rc = control_receive(fd, out);
	close(fd);
	if (rc == 0)
		return 0;
	if (rc == -EACCES || rc == -EPERM)
		return control_denied(path, -rc, d);
	return diag_set(d, -rc, NULL, 0, "no daemon answers on %s: %s", path, strerror(-rc));
}
