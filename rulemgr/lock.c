/* SPDX-License-Identifier: MIT */
#include "rulemgr/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define LOCK_FILE     "/run/transocks-rules.lock"
#define LOCK_ATTEMPTS 200
#define LOCK_PAUSE_NS 50000000

int lock_take(struct diag *d)
{
	struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	int fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK || i == LOCK_ATTEMPTS) {
			close(fd);
			return diag_set(d, EBUSY, NULL, 0,
					"another transocks-rules is at work (lock %s)", LOCK_FILE);
		}
		nanosleep(&pause, NULL);
	}
	return fd >= 0 ? fd : -1;
}

void lock_drop(int fd)
{
	if (fd >= 0)
		close(fd);
}
