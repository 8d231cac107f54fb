/* SPDX-License-Identifier: MIT */
#include "tests/bench/socks_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { ATYP_IPV4 = 1, ATYP_IPV6 = 4, REPLY_IPV4 = 10 };

static int socks_send(int fd, const uint8_t *bytes, size_t n)
{
	ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

	if (sent < 0)
		return -errno;
	return (size_t)sent == n ? 0 : -EIO;
}

static int socks_greet(struct socks_client *c, int fd)
{
	static const uint8_t greeting[] = {5, 1, 0};
	int rc = socks_send(fd, greeting, sizeof(greeting));

	if (rc == -EAGAIN)
		return 0;
	c->phase = SOCKS_METHOD;
	return rc;
}

static int socks_request(struct socks_client *c, int fd, const struct sockaddr_in *dest)
{
	uint8_t request[] = {5, 1, 0, ATYP_IPV4, 0, 0, 0, 0, 0, 0};

	memcpy(request + 4, &dest->sin_addr, 4);
	memcpy(request + 8, &dest->sin_port, 2);
	c->phase = SOCKS_REPLY;
	c->n = 0;
	return socks_send(fd, request, sizeof(request));
}

/* How long the answer is, as far as its bytes tell. */
static uint8_t socks_length(const struct socks_client *c)
{
	if (c->phase == SOCKS_METHOD)
		return 2;
	return c->n > 3 && c->answer[3] == ATYP_IPV6 ? SOCKS_REPLY_MAX : REPLY_IPV4;
}

/* 1: the answer is complete, and good. */
static int socks_receive(struct socks_client *c, int fd)
{
	while (c->n < socks_length(c)) {
		ssize_t n = recv(fd, c->answer + c->n, (size_t)(socks_length(c) - c->n), 0);

		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0)
			return -ENODATA;
		c->n = (uint8_t)(c->n + n);
	}
	if (c->answer[0] != 5 || c->answer[1] != 0)
		return -EPROTO;
	if (c->phase == SOCKS_REPLY && c->answer[3] != ATYP_IPV4 && c->answer[3] != ATYP_IPV6)
		return -EPROTO;
	return 1;
}

int socks_client_step(struct socks_client *c, int fd, const struct sockaddr_in *dest)
{
	int rc;

	if (c->phase == SOCKS_CONNECTING)
		return socks_greet(c, fd);
	rc = socks_receive(c, fd);
	if (rc == 1 && c->phase == SOCKS_METHOD)
		return socks_request(c, fd, dest);
	if (rc == 1)
		c->phase = SOCKS_DONE;
	return rc;
}
