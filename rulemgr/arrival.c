/* SPDX-License-Identifier: MIT */
#include "rulemgr/arrival.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

int arrival_connected(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t len = sizeof(err);
	int n = poll(&p, 1, ARRIVAL_WAIT_MS);

	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

int arrival_accepted(const struct addr *local, const struct addr *remote, struct peer *out)
{
	struct timespec pause = {.tv_nsec = 5000000};
	int r = 0;

	for (int waited = 0; waited < ARRIVAL_WAIT_MS; waited += 5) {
		r = peer_find(local, remote, out);
		if (r < 0 || out->accepted)
			return r;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

bool arrival_ends(int fd, int64_t held_up_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, ARRIVAL_LIVE_MS + (int)held_up_ms) > 0;
}
