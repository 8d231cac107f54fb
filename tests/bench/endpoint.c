/* SPDX-License-Identifier: MIT */
/*
 * The other end of every benchmark: what each port does stands in common.h. The same can be had through
 * the SOCKS5 server at PORT_SOCKS, which takes any address, looks at the destination port alone and
 * serves the data itself: so a proxy is measured without a second one behind it.
 *
 * usage: endpoint [THREADS]
 *
 * THREADS accept and answer; the kernel spreads connections over their listeners. As many more send and
 * take bulk streams, so that no answer waits behind those. A connection belongs to one thread.
 */
#include "tests/bench/common.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS      128
#define ACCEPTS     16
#define TURN_CHUNKS 4 /* chunks sent to one stream before the next has its turn */
#define MAX_THREADS 64

struct conn {
	int fd;
	int port; /* how it behaves */
	bool listener;
	bool greeted; /* SOCKS: the method is agreed */
	bool ending;  /* source: the client's FIN has come */
	uint32_t len; /* in `in` */
	uint64_t pos; /* bulk: bytes so far */
	uint64_t reads;
	uint64_t mismatches;
	uint8_t in[300]; /* part of a SOCKS message; a longer one is not accepted */
};

static const int ports[] = {PORT_SOCKS, PORT_ECHO, PORT_CRC, PORT_SOURCE, PORT_SINK};

static uint8_t response[CRC_RESPONSE];

/* One for each thread; those for bulk streams are the second half. */
static int epolls[2 * MAX_THREADS];
static int nthreads = 1;
static atomic_uint nbulk;

static void conn_close(struct conn *c)
{
	close(c->fd);
	free(c);
}

static void watch(int epoll, int op, struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(epoll, op, c->fd, &ev) < 0)
		die("epoll_ctl");
}

/* Gives a new stream away, to a thread that does nothing else. */
static void bulk_hand_over(struct conn *c)
{
	int t = nthreads + (int)(atomic_fetch_add(&nbulk, 1) % (unsigned)nthreads);

	watch(epolls[t], EPOLL_CTL_ADD, c, EPOLLIN | (c->port == PORT_SOURCE ? EPOLLOUT : 0));
}

static bool is_bulk(int port)
{
	return port == PORT_SOURCE || port == PORT_SINK;
}

/* Small answers fit into an empty send buffer; a client that sends without reading is cut. */
static bool answer(struct conn *c, const void *data, size_t len)
{
	return send(c->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool crc_take(struct conn *c, size_t len)
{
	for (c->pos += len; c->pos >= CRC_REQUEST; c->pos -= CRC_REQUEST)
		if (!answer(c, response, sizeof(response)))
			return false;
	return true;
}

/* Counts a piece of a stream, and looks at it if it was read as a sample. */
static void sink_take(struct conn *c, const uint8_t *sample, size_t len)
{
	if (sample != NULL && memcmp(sample, bulk_at(c->pos), len) != 0)
		c->mismatches++;
	c->pos += len;
}

/* The first byte of the destination port in a complete request (RFC 1928 section 4), 0 if there is
 * not enough yet, -1 if it is not one we know. */
static int socks_port_at(const uint8_t *m, uint32_t len)
{
	int at;

	if (len < 5)
		return 0;
	if (m[0] != 5 || m[1] != 1)
		return -1;
	if (m[3] == 1)
		at = 8;
	else if (m[3] == 3)
		at = 5 + m[4];
	else if (m[3] == 4)
		at = 20;
	else
		return -1;
	return len >= (uint32_t)at + 2 ? at : 0;
}

/* Takes one SOCKS message from c->in. 1: taken, 0: not complete, -1: none we know. */
static int socks_take(struct conn *c)
{
	static const uint8_t method[] = {5, 0};
	static const uint8_t granted[] = {5, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	int used;

	if (!c->greeted) {
		if (c->len < 2 || c->len < 2u + c->in[1])
			return 0;
		used = 2 + c->in[1];
		c->greeted = true;
		if (c->in[0] != 5 || !answer(c, method, sizeof(method)))
			return -1;
	} else {
		used = socks_port_at(c->in, c->len);
		if (used <= 0)
			return used;
		c->port = c->in[used] << 8 | c->in[used + 1];
		used += 2;
		if (!answer(c, granted, sizeof(granted)))
			return -1;
	}
	c->len -= (uint32_t)used;
	memmove(c->in, c->in + used, c->len);
	return 1;
}

/* Acts on the destination port that the SOCKS client named, and on what it has sent after that. */
static bool socks_finish(int epoll, struct conn *c)
{
	switch (c->port) {
	case PORT_ECHO:
		return c->len == 0 || answer(c, c->in, c->len);
	case PORT_CRC:
		return crc_take(c, c->len);
	case PORT_SINK:
	case PORT_SOURCE:
		if (c->port == PORT_SINK)
			sink_take(c, c->in, c->len);
		watch(epoll, EPOLL_CTL_DEL, c, 0);
		bulk_hand_over(c);
		return true;
	default:
		return false;
	}
}

static bool socks_ready(int epoll, struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - c->len, 0);
	int taken = 1;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->len += (uint32_t)n;
	while (taken > 0 && c->port == PORT_SOCKS)
		taken = socks_take(c);
	if (taken > 0)
		return socks_finish(epoll, c);
	return taken == 0 && c->len < sizeof(c->in);
}

static bool echo_ready(struct conn *c)
{
	uint8_t buf[16384];
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	return answer(c, buf, (size_t)n);
}

static bool crc_ready(struct conn *c)
{
	uint8_t buf[4096];
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	return crc_take(c, (size_t)n);
}

static bool sink_ready(struct conn *c)
{
	static _Thread_local uint8_t buf[SAMPLE_SIZE];
	bool sample = c->reads++ % BULK_SAMPLE == 0;
	struct trailer end = {.nbytes = c->pos, .mismatches = c->mismatches};
	ssize_t n;

	/* With MSG_TRUNC, TCP drops the bytes without copying them (tcp(7)). */
	n = sample ? recv(c->fd, buf, sizeof(buf), 0) : recv(c->fd, NULL, BULK_READ, MSG_TRUNC);
	if (n > 0) {
		sink_take(c, sample ? buf : NULL, (size_t)n);
		return true;
	}
	if (n == 0)
		answer(c, &end, sizeof(end));
	return n < 0 && errno == EAGAIN;
}

static bool source_send(struct conn *c)
{
	for (int i = 0; i < TURN_CHUNKS; i++) {
		ssize_t n = send(c->fd, bulk_at(c->pos), BULK_CHUNK, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN;
		c->pos += (uint64_t)n;
		if (n < BULK_CHUNK)
			return true;
	}
	return true;
}

static bool source_ready(int epoll, struct conn *c, uint32_t events)
{
	struct trailer end = {.nbytes = c->pos};
	char byte;

	if (!c->ending && events & EPOLLIN) {
		if (recv(c->fd, &byte, 1, 0) != 0)
			return false;
		c->ending = true;
		watch(epoll, EPOLL_CTL_MOD, c, EPOLLOUT);
	}
	if (!(events & EPOLLOUT))
		return true;
	if (!c->ending)
		return source_send(c);
	/* EPOLLOUT says that a third of the send buffer is free. */
	answer(c, &end, sizeof(end));
	return false;
}

static void listener_ready(int epoll, struct conn *l)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;

		if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
			return;
		if (fd < 0)
			die("accept4");
		c = calloc(1, sizeof(*c));
		if (c == NULL)
			die("calloc");
		c->fd = fd;
		c->port = l->port;
		if (is_bulk(c->port))
			bulk_hand_over(c);
		else
			watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
	}
}

static bool conn_ready(int epoll, struct conn *c, uint32_t events)
{
	switch (c->port) {
	case PORT_SOCKS:
		return socks_ready(epoll, c);
	case PORT_ECHO:
		return echo_ready(c);
	case PORT_CRC:
		return crc_ready(c);
	case PORT_SINK:
		return sink_ready(c);
	default:
		return source_ready(epoll, c, events);
	}
}

static void listen_on(int epoll, int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct conn *l = calloc(1, sizeof(*l));
	int on = 1;

	if (l == NULL)
		die("calloc");
	l->listener = true;
	l->port = port;
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* TCP_NODELAY is inherited by what is accepted: two answers may follow each other. */
	if (l->fd < 0 || setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
	    bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(l->fd, 4096) < 0)
		die("listen");
	watch(epoll, EPOLL_CTL_ADD, l, EPOLLIN);
}

static void *serve(void *arg)
{
	int epoll = *(int *)arg;
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->listener)
				listener_ready(epoll, c);
			else if (!conn_ready(epoll, c, events[i].events))
				conn_close(c);
		}
	}
	return NULL;
}

static void start_threads(void)
{
	for (int t = 1; t < 2 * nthreads; t++) {
		pthread_t thread;
		int err = pthread_create(&thread, NULL, serve, &epolls[t]);

		if (err != 0) {
			errno = err;
			die("pthread_create");
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		nthreads = atoi(argv[1]);
	if (nthreads < 1 || nthreads > MAX_THREADS) {
		fprintf(stderr, "usage: endpoint [THREADS]\n");
		return 64;
	}
	limit_raise();
	bulk_init();
	memset(response, CRC_BYTE, sizeof(response));
	for (int t = 0; t < 2 * nthreads; t++) {
		epolls[t] = epoll_create1(EPOLL_CLOEXEC);
		if (epolls[t] < 0)
			die("epoll_create1");
	}
	for (int t = 0; t < nthreads; t++)
		for (size_t p = 0; p < sizeof(ports) / sizeof(*ports); p++)
			listen_on(epolls[t], ports[p]);
	start_threads();
	puts("ready");
	fflush(stdout);
	serve(&epolls[0]);
	return 0;
}
