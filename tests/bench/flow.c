/* SPDX-License-Identifier: MIT */
#include "tests/bench/flow.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKS_EVENTS (EPOLLIN | EPOLLOUT | EPOLLET)

static bool measured(uint64_t t)
{
	return t >= opt.begin_ns && t < opt.end_ns;
}

/* ------------------------------------------------------------------------------------------------
 * One flow
 */

static void flow_proven(struct worker *w, struct flow *f)
{
	if (!f->proven) {
		f->proven = true;
		w->nwaiting--;
	}
}

void flow_over(struct worker *w, struct flow *f)
{
	if (f->state == FLOW_ENDING)
		w->nwaiting--;
	else
		flow_proven(w, f);
	close(f->fd);
	f->fd = -1;
	f->state = FLOW_OVER;
}

void flow_fail(struct worker *w, struct flow *f, int err)
{
	w->errors[err > 0 && err < E_COUNT ? err : EIO]++;
	w->nerrors++;
	if (opt.mode->port == PORT_CRC && w->nerrors < MAX_ERRORS && !w->ending) {
		close(f->fd);
		flow_open(w, f);
	} else {
		flow_over(w, f);
	}
}

static int flow_connect(struct worker *w, struct flow *f)
{
	const struct sockaddr_in *to = opt.proxy.sin_family != 0 ? &opt.proxy : &f->dest;
	uint32_t turn = w->nconnects++;
	int on = 1;

	f->dest = opt.dest;
	f->dest.sin_addr.s_addr = htonl(ntohl(opt.dest.sin_addr.s_addr) + turn % opt.ndests);
	/* Without this option bind() takes a port for itself, and there are 64 Ki of them in all. */
	if (opt.nsources > 0 &&
	    (setsockopt(f->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0 ||
	     bind(f->fd, (struct sockaddr *)&opt.sources[turn % opt.nsources],
		  sizeof(*opt.sources)) < 0))
		return -errno;
	if (opt.mode->port != PORT_CRC &&
	    setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	if (connect(f->fd, (const struct sockaddr *)to, sizeof(*to)) < 0 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

void flow_open(struct worker *w, struct flow *f)
{
	bool socks = opt.proxy.sin_family != 0;
	struct epoll_event ev = {.events = socks ? SOCKS_EVENTS : opt.mode->events, .data.ptr = f};
	int err;

	f->socks = (struct socks_client){.phase = socks ? SOCKS_CONNECTING : SOCKS_DONE};
	f->state = FLOW_LIVE;
	f->sent = false;
	f->got = 0;
	f->since_ns = now();
	f->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->fd < 0)
		die("socket");
	err = flow_connect(w, f);
	if (err < 0)
		flow_fail(w, f, -err);
	else if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, f->fd, &ev) < 0)
		die("epoll_ctl");
}

/* True: the SOCKS server has connected it to where it goes. */
static bool flow_handshake(struct worker *w, struct flow *f)
{
	struct epoll_event ev = {.events = opt.mode->events, .data.ptr = f};
	int rc = socks_client_step(&f->socks, f->fd, &f->dest);

	if (rc < 0)
		flow_fail(w, f, rc == -EPROTO ? E_SOCKS : rc == -ENODATA ? E_EOF : -rc);
	if (rc != 1)
		return false;
	if (ev.events != SOCKS_EVENTS && epoll_ctl(w->epoll, EPOLL_CTL_MOD, f->fd, &ev) < 0)
		die("epoll_ctl");
	return true;
}

void flow_ready(struct worker *w, struct flow *f, uint32_t events)
{
	if (f->socks.phase == SOCKS_DONE)
		opt.mode->ready(w, f, events);
	else if (flow_handshake(w, f))
		opt.mode->ready(w, f, EPOLLOUT);
}

/* A request was answered. */
static void flow_count(struct worker *w, struct flow *f)
{
	uint64_t t = now();

	if (measured(t)) {
		w->done++;
		w->hist[hist_bucket(t - f->since_ns)]++;
	}
	f->since_ns = t;
	flow_proven(w, f);
}

static void flow_moved(struct worker *w, struct flow *f, size_t len)
{
	f->since_ns = now();
	f->pos += len;
	if (measured(f->since_ns))
		w->nbytes += len;
	flow_proven(w, f);
}

/* recv(); what is wrong about the flow is dealt with, and 0 returned, as if nothing had come. */
static size_t flow_receive(struct worker *w, struct flow *f, void *buf, size_t len, int flags)
{
	ssize_t n = recv(f->fd, buf, len, flags);

	if (n == 0)
		flow_fail(w, f, E_EOF);
	else if (n < 0 && errno != EAGAIN)
		flow_fail(w, f, errno);
	return n > 0 ? (size_t)n : 0;
}

/* ------------------------------------------------------------------------------------------------
 * Modes
 */

static void crc_ready(struct worker *w, struct flow *f, uint32_t events)
{
	uint8_t buf[CRC_RESPONSE + 1], right[CRC_RESPONSE + 1];
	size_t n;

	if (!f->sent) {
		ssize_t sent = send(f->fd, bulk_pattern, CRC_REQUEST, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent != CRC_REQUEST)
			return flow_fail(w, f, sent < 0 ? errno : EIO);
		f->sent = true;
	}
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	n = flow_receive(w, f, buf, sizeof(buf), 0);
	if (n == 0)
		return;
	memset(right, CRC_BYTE, sizeof(right));
	f->got += (uint32_t)n;
	if (f->got > CRC_RESPONSE || memcmp(buf, right, n) != 0)
		return flow_fail(w, f, E_BAD_BYTES);
	if (f->got < CRC_RESPONSE)
		return;
	flow_count(w, f);
	close(f->fd);
	flow_open(w, f);
}

/* Bytes of the pattern, so that they can be checked wherever they are cut. */
void message_send(struct worker *w, struct flow *f)
{
	ssize_t n = send(f->fd, bulk_at(f->pos), opt.message, MSG_NOSIGNAL);

	if (n == (ssize_t)opt.message) {
		f->sent = true;
		f->got = 0;
	} else if (n >= 0 || errno != EAGAIN) {
		flow_fail(w, f, n < 0 ? errno : EIO);
	}
}

/* True: the whole message has come back. */
static bool message_receive(struct worker *w, struct flow *f)
{
	uint8_t buf[MAX_MESSAGE + 1];
	size_t n = flow_receive(w, f, buf, sizeof(buf), 0);

	if (n == 0)
		return false;
	if (f->got + n > opt.message || memcmp(buf, bulk_at(f->pos + f->got), n) != 0) {
		flow_fail(w, f, E_BAD_BYTES);
		return false;
	}
	f->got += (uint32_t)n;
	if (f->got < opt.message)
		return false;
	f->pos += opt.message;
	f->sent = false;
	flow_count(w, f);
	return true;
}

static void pingpong_ready(struct worker *w, struct flow *f, uint32_t events)
{
	if (f->sent && events & (EPOLLIN | EPOLLERR | EPOLLHUP) && !message_receive(w, f))
		return;
	if (!f->sent)
		message_send(w, f);
}

static void idle_ready(struct worker *w, struct flow *f, uint32_t events)
{
	/* A flow that is held idle has nothing to tell but its end. */
	if (f->state == FLOW_PARKED) {
		if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
			return;
		f->state = FLOW_ENDING;
		w->nwaiting++;
		return flow_fail(w, f, E_EOF);
	}
	if (!f->sent)
		message_send(w, f);
	else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && message_receive(w, f)) {
		if (f->state == FLOW_ENDING)
			flow_over(w, f);
		else
			f->state = FLOW_PARKED;
	}
}

static void tail_add(struct flow *f, const uint8_t *data, size_t len)
{
	size_t keep = len < sizeof(f->tail) ? sizeof(f->tail) - len : 0;
	size_t take = sizeof(f->tail) - keep;

	memmove(f->tail, f->tail + take, keep);
	memcpy(f->tail + keep, data + len - take, take);
}

/* Reads what is left of a stream, whose end is a trailer and then the end of file. */
static void bulk_drain(struct worker *w, struct flow *f)
{
	static _Thread_local uint8_t buf[SAMPLE_SIZE];
	ssize_t n = recv(f->fd, buf, sizeof(buf), 0);
	struct trailer end;

	if (n > 0) {
		f->since_ns = now();
		f->got += (uint32_t)n;
		tail_add(f, buf, (size_t)n);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0 || f->got < sizeof(end))
		return flow_fail(w, f, n < 0 ? errno : E_EOF);
	memcpy(&end, f->tail, sizeof(end));
	/* Bulk-down has counted what came before, bulk-up what it has sent. */
	if (opt.mode->port == PORT_SOURCE)
		f->pos += f->got - sizeof(end);
	if (end.mismatches > 0)
		flow_fail(w, f, E_BAD_BYTES);
	else if (end.nbytes != f->pos)
		flow_fail(w, f, E_LOST_BYTES);
	else
		flow_over(w, f);
}

static void down_ready(struct worker *w, struct flow *f, uint32_t events)
{
	static _Thread_local uint8_t buf[SAMPLE_SIZE];
	bool sample = f->reads++ % BULK_SAMPLE == 0;
	size_t n;

	(void)events;
	if (f->state == FLOW_ENDING)
		return bulk_drain(w, f);
	/* With MSG_TRUNC, TCP drops the bytes without copying them (tcp(7)). */
	n = sample ? flow_receive(w, f, buf, sizeof(buf), 0)
		   : flow_receive(w, f, NULL, BULK_READ, MSG_TRUNC);
	if (n == 0)
		return;
	if (sample && memcmp(buf, bulk_at(f->pos), n) != 0)
		return flow_fail(w, f, E_BAD_BYTES);
	flow_moved(w, f, n);
}

static void up_ready(struct worker *w, struct flow *f, uint32_t events)
{
	uint8_t byte;
	ssize_t n;

	if (f->state == FLOW_ENDING)
		return bulk_drain(w, f);
	if (events & EPOLLIN) { /* nobody answers before our FIN */
		if (flow_receive(w, f, &byte, 1, 0) > 0)
			flow_fail(w, f, E_BAD_BYTES);
		return;
	}
	n = send(f->fd, bulk_at(f->pos), BULK_CHUNK, MSG_NOSIGNAL);
	if (n > 0)
		flow_moved(w, f, (size_t)n);
	else if (errno != EAGAIN)
		flow_fail(w, f, errno);
}

static void bulk_end(struct worker *w, struct flow *f)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = f};

	f->got = 0;
	if (shutdown(f->fd, SHUT_WR) < 0)
		flow_fail(w, f, errno);
	else if (epoll_ctl(w->epoll, EPOLL_CTL_MOD, f->fd, &ev) < 0)
		die("epoll_ctl");
}

static const struct mode modes[] = {
	{"crc", PORT_CRC, EPOLLIN | EPOLLOUT | EPOLLET, crc_ready, NULL},
	{"pingpong", PORT_ECHO, EPOLLIN | EPOLLOUT | EPOLLET, pingpong_ready, NULL},
	{"bulk-down", PORT_SOURCE, EPOLLIN, down_ready, bulk_end},
	{"bulk-up", PORT_SINK, EPOLLIN | EPOLLOUT, up_ready, bulk_end},
	{"idle", PORT_ECHO, EPOLLIN | EPOLLOUT | EPOLLET, idle_ready, NULL},
};

const struct mode *mode_find(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (strcmp(name, modes[i].name) == 0)
			return &modes[i];
	return NULL;
}

bool mode_is_idle(const struct mode *m)
{
	return m->ready == idle_ready;
}
