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

int lock_try(void)
{
	int fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return fd;
	close(fd);
	return -EBUSY;
}

int lock_take(struct diag *d)
{
	struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	int fd;

	for (int i = 0; (fd = lock_try()) == -EBUSY && i < LOCK_ATTEMPTS; i++)
		nanosleep(&pause, NULL);
	return fd != -EBUSY ? fd
			    : diag_set(d, EBUSY, NULL, 0,
				       "another transocks-rules is at work (lock %s)", LOCK_FILE);
}

void lock_drop(int fd)
{
	if (fd >= 0)
		close(fd);
}
