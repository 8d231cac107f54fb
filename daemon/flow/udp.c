/* SPDX-License-Identifier: MIT */
#include "daemon/flow/udp.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/shared.h"
#include "daemon/flow/outgoing.h"
#include "daemon/flow/session.h"
#include "daemon/flow/setup.h"

/* What one socket may move in one turn: whichever comes first. */
#define TURN_DATAGRAMS 32
#define TURN_BYTES     (128 * 1024)
#define TURN_READS     4 /* buffers of the TCP connection, which nobody reads */

/* Of all associations that there may be. */
#define PART_OF_ONE_CLIENT 4

/* A socket that could not be made is not tried again for each datagram. */
#define AGAIN_MS 1000

enum { REMOTE_V6, REMOTE_V4, REMOTE_COUNT };

const char *const udp_drop_words[UDP_DROP_COUNT] = {
#define UDP_DROP_WORD(id, word, text) [id] = word,
	UDP_DROP_TABLE(UDP_DROP_WORD)
#undef UDP_DROP_WORD
};

void udp_drop(struct udp *u, enum udp_drop why)
{
	u->dropped[why]++;
	SHARED_ADD(u->session->engine->udp_dropped[why], 1);
}

/* --- sockets --- */

static void udp_turn(struct task *t);

static void udp_queue(struct session *s)
{
	loop_queue(&s->engine->loop, &s->task, udp_turn);
}

static void udp_event(struct source *src, uint32_t events)
{
	struct session *s = src->owner;
	struct udp *u = session_udp(s);

	(void)events;
	if (src == u->client.source)
		u->client.readable = true;
	for (unsigned i = 0; i < REMOTE_COUNT; i++)
		if (src == u->remotes[i].source)
			u->remotes[i].readable = true;
	udp_queue(s);
}

/* Takes over `fd`. 0 or -errno. */
static int end_open(struct udp *u, struct udp_end *end, int fd)
{
	struct session *s = u->session;

	end->source = loop_watch(&s->engine->loop, fd, EPOLLIN | EPOLLET, udp_event, s);
	if (end->source != NULL)
		return 0;
	end->err = errno;
	close(fd);
	return -end->err;
}

static void end_close(struct udp *u, struct udp_end *end)
{
	int fd;

	if (end->source != NULL) {
		fd = end->source->fd;
		loop_unwatch(&u->session->engine->loop, end->source);
		end->source = NULL;
		close(fd);
	}
	if (end->from != NULL) {
		egress_moved(end->from, end->nbytes_up, end->nbytes_down);
		egress_put(end->from);
	}
	end->from = NULL;
	end->nbytes_up = end->nbytes_down = 0;
	end->readable = false;
}

/* The socket towards destinations of that family. 0 or -errno. */
static int remote_open(struct udp *u, struct udp_end *end, int family)
{
	struct session *s = u->session;
	struct egress_addr *from = NULL;
	int fd, rc;

	if (s->engine->loop.now_ms < end->again_ms)
		return -end->err;
	fd = outgoing_datagram(s, family, &u->egress, &from);
	rc = fd < 0 ? fd : end_open(u, end, fd);
	if (rc < 0) {
		end->err = -rc;
		end->again_ms = s->engine->loop.now_ms + AGAIN_MS;
		return rc;
	}
	end->from = from;
	if (from != NULL)
		egress_take(from);
	return 0;
}

/* Its address is none of this host any more: the kernel may not say so, and send what is not answered. */
static bool remote_is_stale(const struct udp_end *end)
{
	return end->source != NULL && end->from != NULL && egress_is_absent(end->from);
}

/* 0 or -errno; -EAGAIN: not now. */
static int end_send(const struct udp_end *end, const struct addr *to, const struct iovec *parts,
		    size_t n_parts)
{
	struct sockaddr_storage ss;
	struct msghdr m = {
		.msg_name = &ss,
		.msg_namelen = addr_to_sockaddr(to, &ss),
		.msg_iov = (struct iovec *)parts,
		.msg_iovlen = n_parts,
	};
	ssize_t sent;

	do {
		sent = sendmsg(end->source->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0;
	return sock_is_shortage(errno) ? -EAGAIN : -errno;
}

/* How many bytes came, and from where; -EAGAIN: none; another -errno: perhaps the next datagram comes. */
static ssize_t end_receive(struct udp_end *end, struct buf *in, struct addr *from)
{
	struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(ss);
	ssize_t n = recvfrom(end->source->fd, in->data, BUF_CAP, MSG_DONTWAIT,
			     (struct sockaddr *)&ss, &len);

	if (n < 0)
		return -errno;
	*from = addr_from_sockaddr((const struct sockaddr *)&ss);
	return n;
}

/* --- from the client --- */

static bool udp_goes_nowhere(const struct session *s, const struct addr *to)
{
	const char *iface = s->view->sock.iface;

	return iface != NULL && iface[0] != '\0' && addr_is_loopback(to);
}

/* Its port was chosen just now; and the address too, if none is configured. */
static void udp_note_source(struct udp *u, const struct udp_end *end, const struct addr *to)
{
	struct session *s = u->session;
	struct addr own;

	s->src_addr = sock_local(end->source->fd);
	if (!addr_is_any(&s->src_addr) || sock_route(&s->view->sock, to, &own) < 0)
		return;
	own.port = s->src_addr.port;
	s->src_addr = own;
}

int udp_send_to(struct udp *u, const struct addr *to, const uint8_t *payload, size_t n)
{
	const struct iovec part = {.iov_base = (void *)payload, .iov_len = n};
	struct udp_end *end = &u->remotes[to->family == AF_INET6 ? REMOTE_V6 : REMOTE_V4];
	struct session *s = u->session;
	int rc = 0;

	if (udp_goes_nowhere(s, to))
		return -ENETUNREACH;
	if (remote_is_stale(end))
		end_close(u, end);
	if (end->source == NULL)
		rc = remote_open(u, end, to->family);
	if (rc == 0)
		rc = end_send(end, to, &part, 1);
	if (rc == -ENODEV) /* of outgoing.iface, which may be there again under another number */
		end_close(u, end);
	if (rc < 0)
		return rc;
	if (s->src_addr.family == AF_UNSPEC)
		udp_note_source(u, end, to);
	udp_peers_add(&u->peers, to);
	s->active_ms = s->engine->loop.now_ms;
	s->client.nbytes += n;
	SHARED_ADD(s->engine->counts.ways[COUNTS_UP].bytes, n);
	end->nbytes_up += n;
	u->n_up++;
	return 0;
}

static bool udp_is_client(const struct udp *u, const struct addr *from)
{
	return addr_equal_ip(from, &u->sender) &&
	       (u->sender.port == 0 || u->sender.port == from->port);
}

static void udp_up(struct udp *u, const struct addr *from, const uint8_t *in, size_t n)
{
	int head_len;

	if (!udp_is_client(u, from))
		return udp_drop(u, UDP_DROP_SENDER);
	head_len = socks5_udp_head_len(in, n);
	if (head_len < 0)
		return udp_drop(u,
				head_len == -EOPNOTSUPP ? UDP_DROP_FRAGMENT : UDP_DROP_MALFORMED);
	u->sender = *from;
	udp_dests_pass(u, in, n, (size_t)head_len);
}

/* --- from destinations --- */

static void udp_down(struct udp *u, const struct addr *from, const uint8_t *in, size_t n)
{
	uint8_t head[SOCKS5_UDP_HEAD_ADDR_MAX];
	const struct iovec parts[] = {
		{.iov_base = head, .iov_len = socks5_udp_write(from, head)},
		{.iov_base = (void *)in, .iov_len = n},
	};
	struct session *s = u->session;
	int rc;

	if (!udp_peers_have(&u->peers, from))
		return udp_drop(u, UDP_DROP_STRANGER);
	rc = end_send(&u->client, &u->sender, parts, ARRAY_LEN(parts));
	if (rc < 0)
		return udp_drop(u, rc == -EAGAIN ? UDP_DROP_BUSY : UDP_DROP_UNSENT);
	s->active_ms = s->engine->loop.now_ms;
	s->remote.nbytes += n;
	SHARED_ADD(s->engine->counts.ways[COUNTS_DOWN].bytes, n);
	u->remotes[from->family == AF_INET6 ? REMOTE_V6 : REMOTE_V4].nbytes_down += n;
	u->n_down++;
}

/* --- a turn --- */

typedef void udp_way(struct udp *u, const struct addr *from, const uint8_t *in, size_t n);

/* True: there may be more. */
static bool udp_move(struct udp *u, struct udp_end *end, udp_way *way)
{
	struct buf *in = u->session->engine->scratch;
	size_t nbytes = 0;
	bool failed = false;

	if (!end->readable)
		return false;
	for (unsigned i = 0; i < TURN_DATAGRAMS && nbytes < TURN_BYTES; i++) {
		struct addr from;
		ssize_t n = end_receive(end, in, &from);

		if (n >= 0) {
			way(u, &from, in->data, (size_t)n);
			nbytes += (size_t)n;
		} else if (n == -EAGAIN || (n != -EINTR && failed)) {
			end->readable = false;
			return false;
		}
		failed = n < 0 && n != -EINTR;
	}
	return true;
}

/* The client needs it no more. */
static void udp_done(struct session *s)
{
	s->client.finished = s->remote.finished = true;
	counts_stream_over(s, COUNTS_UP);
	counts_stream_over(s, COUNTS_DOWN);
	session_end(s, WHY_DONE, 0, NULL);
}

/* Nothing is said over the TCP connection any more but its end, which is that of the association. True: there may be
 * more. May end the session. */
static bool udp_read_client(struct session *s)
{
	struct buf *junk = s->engine->scratch;

	for (int i = 0; i < TURN_READS && s->client.readable; i++) {
		ssize_t n = recv(s->client.source->fd, junk->data, BUF_CAP, 0);

		if (n == 0) {
			udp_done(s);
			return false;
		}
		if (n < 0 && errno == EAGAIN) {
			s->client.readable = false;
		} else if (n < 0 && errno != EINTR) {
			session_end_failed(s, WHY_CLIENT_LOST, errno);
			return false;
		}
	}
	return s->client.readable;
}

static void udp_turn(struct task *t)
{
	struct session *s = container_of(t, struct session, task);
	struct udp *u = session_udp(s);
	bool more;

	more = udp_move(u, &u->client, udp_up);
	for (unsigned i = 0; i < REMOTE_COUNT; i++)
		more |= u->remotes[i].source != NULL && udp_move(u, &u->remotes[i], udp_down);
	more |= udp_read_client(s);
	if (s->state == SES_UDP && more)
		udp_queue(s);
}

void udp_client_event(struct session *s)
{
	udp_queue(s);
}

/* --- from beginning to end --- */

static void udp_set_timer(struct session *s);

static void udp_timeout(struct timer *t)
{
	struct session *s = container_of(t, struct session, timer);
	uint64_t idle_ms = (uint64_t)s->view->plan->conf->timeouts.udp_idle;

	if (s->engine->loop.now_ms - s->active_ms >= idle_ms)
		session_end(s, WHY_IDLE, 0, NULL);
	else
		udp_set_timer(s);
}

/* It is not touched while datagrams come: when it fires it looks at when the last one did. */
static void udp_set_timer(struct session *s)
{
	uint64_t idle_ms = (uint64_t)s->view->plan->conf->timeouts.udp_idle;
	uint64_t quiet_ms = s->engine->loop.now_ms - s->active_ms;

	timer_cancel(&s->timer);
	if (idle_ms > 0)
		loop_timer(&s->engine->loop, &s->timer, idle_ms - quiet_ms, udp_timeout);
}

/* Where the client may send from: the address that its TCP connection comes from, and no other one, whatever the request
 * says. The port of the request is believed only beside that address, or beside none: a client behind NAT does not know
 * what its datagrams will come from. */
static struct addr udp_sender(const struct session *s, const struct proto_dest *dest)
{
	struct addr sender = session_via(s) != NULL ? *session_via(s) : s->client_addr;
	const struct addr *said = &dest->addr;

	sender.port = 0;
	if (said->family != AF_UNSPEC && (addr_is_any(said) || addr_equal_ip(said, &sender)))
		sender.port = dest->port;
	return sender;
}

/* At the address that the client has connected to: that it can reach. 0 or -errno. */
static int udp_open_client(struct udp *u)
{
	struct addr own = sock_local(u->session->client.source->fd);
	int fd = own.family != AF_UNSPEC ? sock_datagram_at(&own) : -EADDRNOTAVAIL;
	int rc = fd < 0 ? fd : end_open(u, &u->client, fd);

	if (rc == 0)
		u->bound = sock_local(fd);
	return rc;
}

static void udp_put_place(struct session *s)
{
	struct budget *b = s->engine->budget;

	atomic_fetch_sub(&b->udp_live, 1);
	clients_put(&b->clients, &s->client_addr, CLIENT_UDPS);
}

/* 0; -EDQUOT: there are too many, or too many of this client; -ENOMEM. */
static int udp_take_place(struct session *s)
{
	struct budget *b = s->engine->budget;
	size_t max = atomic_load(&b->udp_max);
	unsigned share = max < PART_OF_ONE_CLIENT ? 1 : (unsigned)(max / PART_OF_ONE_CLIENT);
	int rc = clients_take(&b->clients, &s->client_addr, CLIENT_UDPS, share);

	if (rc < 0)
		return rc;
	if (atomic_fetch_add(&b->udp_live, 1) < max)
		return 0;
	udp_put_place(s);
	return -EDQUOT;
}

static struct udp *udp_new(struct session *s, const struct proto_dest *dest)
{
	struct session_rare *rare = session_rare(s);
	struct udp *u = rare != NULL ? pool_get(&s->engine->udps) : NULL;

	if (u == NULL)
		return NULL;
	memset(u, 0, sizeof(*u));
	rare->udp = u;
	u->session = s;
	egress_choose(s->view->plan->egress, &s->client_addr, socks_server_login(&s->setup->server),
		      &u->egress);
	u->sender = udp_sender(s, dest);
	return u;
}

static void udp_begin(struct session *s)
{
	struct engine *e = s->engine;

	counts_granted(s);
	setup_release(s);
	pool_put(&e->bufs, s->client.pending); /* came behind the request */
	s->client.pending = NULL;
	texts_drop(&e->texts, s->name); /* a proxy's claim, about one destination */
	s->name = NULL;
	s->state = SES_UDP;
	s->direct = true;
	s->active_ms = e->loop.now_ms;
	udp_set_timer(s);
	udp_queue(s);
}

void udp_start(struct session *s, const struct proto_dest *dest)
{
	struct engine *e = s->engine;
	struct udp *u;
	int rc;

	s->port = 0; /* that of the request is the client's own */
	rc = udp_take_place(s);
	if (rc == -EDQUOT)
		return session_end(s, WHY_UDP_LIMIT, 0, NULL);
	if (rc < 0)
		return session_end(s, WHY_NO_MEMORY, -rc, NULL);
	u = udp_new(s, dest);
	if (u == NULL) {
		udp_put_place(s);
		return session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
	}
	rc = udp_open_client(u);
	if (rc < 0)
		return session_end_failed(s, WHY_UDP_FAILED, -rc);
	rc = e->inbound->answer(s, WHY_DONE, 0);
	if (rc < 0)
		return session_end_failed(s, WHY_CLIENT_GONE, -rc);
	udp_begin(s);
}

void udp_stop(struct session *s)
{
	struct udp *u = session_udp(s);

	if (u == NULL)
		return;
	udp_dests_stop(u);
	end_close(u, &u->client);
	for (unsigned i = 0; i < REMOTE_COUNT; i++)
		end_close(u, &u->remotes[i]);
	udp_put_place(s);
}

void udp_release(struct session *s)
{
	struct udp *u = session_udp(s);

	if (u != NULL)
		texts_drop(&s->engine->texts, u->refused);
	pool_put(&s->engine->udps, u);
}
