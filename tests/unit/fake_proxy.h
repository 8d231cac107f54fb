/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * An upstream for tests, on 127.0.0.1 and a port of its own, within the loop of the test: SOCKS5 without a
 * password, with the manners that it is told. Include after <cmocka.h>.
 */
#include <errno.h>
#include <unistd.h>

#include "daemon/core/loop.h"
#include "daemon/net/sock.h"

enum manner { ANSWERS, SILENT, CLOSES, CLOSES_AFTER, TALKS, ONE_BYTE };

#define PEERS_MAX 64

static struct {
	struct loop *loop;
	struct source *listener;
	struct source *peers[PEERS_MAX];
	unsigned n_accepted, n_open, n_requests;
	enum manner manner;
	uint8_t reply; /* to a request; 255: none */
	uint16_t port;
} server;

static inline void server_drop(struct source *src)
{
	int fd = src->fd;

	for (size_t i = 0; i < PEERS_MAX; i++)
		if (server.peers[i] == src)
			server.peers[i] = NULL;
	server.n_open--;
	loop_unwatch(server.loop, src);
	close(fd);
}

static inline void server_send(struct source *src, const char *bytes, size_t n)
{
	assert_int_equal(send(src->fd, bytes, n, MSG_NOSIGNAL), n);
}

static inline void server_on_peer(struct source *src, uint32_t events)
{
	char bytes[64], done[10] = {5, 0, 0, 1};
	ssize_t n = recv(src->fd, bytes, sizeof(bytes), 0);

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		return server_drop(src);
	if (n >= 7 && bytes[0] == 5) { /* a request */
		server.n_requests++;
		done[1] = (char)server.reply;
		if (server.reply != 255)
			server_send(src, done, sizeof(done));
		return;
	}
	switch (server.manner) {
	case SILENT:
		break;
	case CLOSES:
		server_drop(src);
		break;
	case ONE_BYTE:
		server_send(src, "\5", 1);
		break;
	case ANSWERS:
	case CLOSES_AFTER:
	case TALKS:
		server_send(src, "\5\0xx", server.manner == TALKS ? 4 : 2);
		if (server.manner == CLOSES_AFTER)
			server_drop(src);
		break;
	}
}

static inline void server_on_accept(struct source *src, uint32_t events)
{
	int fd = accept4(src->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	size_t i = 0;

	(void)events;
	if (fd < 0)
		return;
	server.n_accepted++;
	server.n_open++;
	while (server.peers[i] != NULL)
		assert_true(++i < PEERS_MAX);
	server.peers[i] = loop_watch(server.loop, fd, EPOLLIN, server_on_peer, NULL);
	assert_non_null(server.peers[i]);
}

static inline void server_close_peers(void)
{
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (server.peers[i] != NULL)
			server_drop(server.peers[i]);
}

/* Zeroed, or closed before: then it has the same port again. */
static inline void server_open(struct loop *l)
{
	struct addr a;
	int fd;

	server.loop = l;
	assert_int_equal(addr_parse(&a, "127.0.0.1"), 0);
	a.port = server.port;
	fd = sock_listen(&a, &(struct sock_listen_options){0}, NULL);
	assert_true(fd >= 0);
	server.port = sock_local(fd).port;
	server.listener = loop_watch(server.loop, fd, EPOLLIN, server_on_accept, NULL);
	assert_non_null(server.listener);
}

static inline void server_close(void)
{
	int fd;

	server_close_peers();
	if (server.listener == NULL)
		return;
	fd = server.listener->fd;
	loop_unwatch(server.loop, server.listener);
	server.listener = NULL;
	close(fd);
}
