/* SPDX-License-Identifier: MIT */
#include "rulemgr/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define NETNS_DIR "/run/netns/" /* of ip-netns(8) */

static bool is_pid(const char *name)
{
	return name[0] != '\0' && name[strspn(name, "0123456789")] == '\0';
}

static int netns_missing(const char *name, const char *path, int err, struct diag *d)
{
	if (err == EACCES || err == EPERM)
		return diag_set(d, EPERM, NULL, 0, "--netns %s: cannot open %s: this needs root",
				name, path);
	if (err != ENOENT)
		return diag_set(d, err, NULL, 0, "--netns %s: cannot open %s: %s", name, path,
				strerror(err));
	if (is_pid(name))
		return diag_set(d, ENOENT, NULL, 0, "--netns %s: there is no such process", name);
	return diag_set(d, ENOENT, NULL, 0,
			"--netns %s: there is no %s (`ip netns` lists names; a path has a slash, a "
			"number is a process)",
			name, path);
}

int netns_enter(const char *name, struct diag *d)
{
	char path[PATH_MAX];
	int fd, err;

	if (is_pid(name))
		snprintf(path, sizeof(path), "/proc/%s/ns/net", name);
	else
		snprintf(path, sizeof(path), "%s%s", strchr(name, '/') != NULL ? "" : NETNS_DIR,
			 name);
	if (name[0] == '\0')
		return diag_set(d, EINVAL, NULL, 0, "--netns: the name is empty");
	/* Not blocking: a path may be a pipe by mistake. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return netns_missing(name, path, errno, d);
	err = setns(fd, CLONE_NEWNET) < 0 ? errno : 0;
	close(fd);
	switch (err) {
	case 0:
		return 0;
	case EINVAL:
		return diag_set(d, EINVAL, NULL, 0, "--netns %s: %s is not a network namespace",
				name, path);
	case EPERM:
		return diag_set(d, EPERM, NULL, 0,
				"--netns %s: entering it needs root (CAP_SYS_ADMIN here and there)",
				name);
	default:
		return diag_set(d, err, NULL, 0, "--netns %s: %s", name, strerror(err));
	}
}
