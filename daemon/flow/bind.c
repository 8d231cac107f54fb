/* SPDX-License-Identifier: MIT */
#include "daemon/flow/bind.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/flow/outgoing.h"
#include "daemon/flow/session.h"
#include "daemon/flow/setup.h"

/* One peer is waited for; strangers must not fill its place, and are taken out a few at a time. */
#define BACKLOG 16
/* Whoever searches for open ports knocks once. So many mean the client no good, or want it to wait in vain. */
#define STRANGERS_MAX 1000

/* How long a peer is waited for whose client has ended its stream. */
#define CLOSED_MS 5000

enum { IP6, IP4 };

static const int families[] = {[IP6] = AF_INET6, [IP4] = AF_INET};

bool bind_is_resolving(const struct session *s)
{
	const struct query *queries = s->setup->dial.queries;

	return queries[IP6].entry != NULL || queries[IP4].entry != NULL;
}

void bind_leave(struct session *s)
{
	if (s->counted_bind)
		clients_put(&s->engine->budget->clients, &s->client_addr, CLIENT_BINDS);
	s->counted_bind = false;
}

void bind_stop(struct session *s)
{
	query_cancel(&s->setup->dial.queries[IP6]);
	query_cancel(&s->setup->dial.queries[IP4]);
	listener_stop(&s->setup->bind->listener);
	bind_leave(s);
}

/* --- the peer comes --- */

static bool bind_expects(const struct bind *b, const struct addr *peer)
{
	size_t f = peer->family == AF_INET ? IP4 : IP6;

	for (size_t i = 0; i < b->n_peers[f]; i++)
		if (addr_equal_ip(&b->peers[f][i], peer))
			return true;
	return false;
}

static void bind_turn_away(struct session *s, int fd, const struct addr *peer)
{
	struct bind *b = s->setup->bind;
	struct log_line line;

	sock_close_reset(fd);
	if (log_begin(&line, LOG_LEVEL_DEBUG, "not the peer that a BIND waits for")) {
		log_add_addr(&line, "client_addr", &s->client_addr);
		log_add_addr(&line, "listen_addr", &b->listener.addr);
		log_add_addr(&line, "peer", peer);
		log_end(&line);
	}
	if (++b->n_strangers == STRANGERS_MAX)
		session_end(s, WHY_BIND_FAILED, 0,
			    "too many others connected to the port, and the peer did not");
}

static void bind_connected(struct task *t)
{
	struct session *s = container_of(t, struct session, task);

	outgoing_take(s, s->setup->bind->source);
	setup_established(s);
}

/* The listener looks at itself again when this returns, so what gives the set-up back is left to a task. */
static void bind_accept(struct listener *l, int fd, const struct addr *peer)
{
	struct session *s = l->owner;
	struct loop *loop = &s->engine->loop;
	struct source *source;

	if (!bind_expects(s->setup->bind, peer))
		return bind_turn_away(s, fd, peer);
	source = loop_watch(loop, fd, LOOP_STREAM, NULL, NULL);
	if (source == NULL) {
		int err = errno;

		sock_close_reset(fd);
		return session_end(s, WHY_NO_MEMORY, err, NULL);
	}
	listener_stop(l);
	s->dest = *peer;
	session_take_remote(s, source, EPOLLOUT);
	loop_queue(loop, &s->task, bind_connected);
}

/* --- the port --- */

static int bind_address(struct session *s, int fd, const struct sock_options *o,
			const struct addr *peer)
{
	struct bind *b = s->setup->bind;
	struct addr own;
	int rc = sock_take_iface(fd, o, peer);

	if (rc == 0)
		rc = outgoing_bind_own(s, fd, peer->family, &b->source);
	if (rc < 0 || b->source >= 0)
		return rc;
	/* Whoever connects to it comes from there. */
	rc = sock_route(o, peer, &own);
	return rc == 0 ? sock_bind_source(fd, &own) : rc;
}

/* A listening socket where `peer` can connect to. The descriptor or -errno. */
static int bind_listen(struct session *s, const struct addr *peer)
{
	const struct sock_options o = outgoing_options(s);
	int fd = sock_stream(peer->family, &o), rc;

	if (fd < 0)
		return fd;
	rc = bind_address(s, fd, &o, peer);
	if (rc == 0 && listen(fd, BACKLOG) < 0)
		rc = -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static int64_t bind_patience(const struct session *s)
{
	int64_t ms = s->view->plan->conf->timeouts.bind;

	if (s->setup->bind->client_closed && (ms == 0 || ms > CLOSED_MS))
		return CLOSED_MS;
	return ms;
}

/* Takes over `fd`. */
static void bind_wait(struct session *s, int fd)
{
	struct engine *e = s->engine;
	struct bind *b = s->setup->bind;
	int rc;

	s->src_addr = sock_local(fd);
	rc = s->src_addr.family == AF_UNSPEC
		     ? -ENOBUFS
		     : listener_start(&b->listener, &e->loop, fd, &s->src_addr, bind_accept, s);
	if (rc < 0) {
		close(fd);
		return session_end(s, WHY_NO_MEMORY, -rc, NULL);
	}
	rc = e->inbound->answer(s, WHY_DONE, 0);
	if (rc < 0)
		return session_end_failed(s, WHY_CLIENT_GONE, -rc);
	setup_phase(s, WHY_BIND_TIMEOUT, bind_patience(s));
}

void bind_client_closed(struct session *s)
{
	struct bind *b = s->setup->bind;

	if (b->client_closed)
		return;
	b->client_closed = true;
	if (b->listener.source != NULL)
		setup_phase(s, WHY_BIND_TIMEOUT, bind_patience(s));
}

static const char *bind_trouble(const struct session *s, int rc)
{
	return rc == -EADDRINUSE ? "the own address has no port left" : outgoing_trouble(s, rc);
}

/* Who may come is known. One port can be told, of one family: as a dial would try them, IPv6 first. */
static void bind_open(struct session *s)
{
	const struct bind *b = s->setup->bind;
	int fd = -EAFNOSUPPORT;

	for (size_t f = 0; f < ARRAY_LEN(families); f++) {
		if (b->n_peers[f] == 0)
			continue;
		s->dest = b->peers[f][0];
		s->dest.port = s->port;
		fd = bind_listen(s, &s->dest);
		if (fd >= 0)
			return bind_wait(s, fd);
		if (sock_is_shortage(-fd))
			break;
	}
	session_end(s, sock_is_shortage(-fd) ? WHY_NO_MEMORY : WHY_BIND_FAILED, -fd,
		    bind_trouble(s, fd));
}

/* --- who is expected --- */

static void bind_add_peer(struct session *s, const struct addr *peer)
{
	struct bind *b = s->setup->bind;
	const struct dial_filter *guard = &s->view->guard.filter;
	size_t f = peer->family == AF_INET ? IP4 : IP6;
	enum acl_verdict v = (enum acl_verdict)guard->refuses(guard, peer);

	/* Whatever allow_anyway says: it would be a port that is open to everybody. */
	if (v == ACL_ALLOWED && addr_is_any(peer))
		v = ACL_NETWORK_SPECIAL;
	if (v == ACL_ALLOWED) {
		if (b->n_peers[f] < BIND_PEERS_MAX)
			b->peers[f][b->n_peers[f]++] = *peer;
	} else if (b->refused == ACL_ALLOWED) {
		b->refused = v;
		s->dest = *peer;
		s->dest.port = s->port;
	}
}

static void bind_refuse(struct session *s, enum acl_verdict v)
{
	counts_acl(s, v);
	session_end(s, WHY_NETWORK_REFUSED, 0,
		    addr_is_any(&s->dest) ? "BIND has to name the peer" : acl_text(v));
}

/* All addresses that it has are known. */
static void bind_found(struct session *s)
{
	const struct bind *b = s->setup->bind;

	if (b->n_peers[IP6] + b->n_peers[IP4] > 0)
		bind_open(s);
	else if (b->refused != ACL_ALLOWED)
		bind_refuse(s, b->refused);
	else
		setup_resolve_failed(s, b->query_error);
}

static void bind_answer(struct query *q, int status, const struct addr *addrs, size_t n)
{
	struct session *s = q->owner;
	struct bind *b = s->setup->bind;

	for (size_t i = 0; status == 0 && i < n; i++)
		bind_add_peer(s, &addrs[i]);
	/* That there is none of one family says less than that the other one cannot be asked for. */
	if (status < 0 && (b->query_error == 0 || b->query_error == -ENOENT))
		b->query_error = status;
	if (bind_is_resolving(s))
		return;
	resolving_end(s);
	bind_found(s);
}

static void bind_resolve(struct session *s)
{
	struct query *queries = s->setup->dial.queries;
	struct resolver *r = s->view->resolver;
	int rc;

	setup_phase(s, WHY_RESOLVE_TIMEOUT, s->view->plan->conf->timeouts.connect);
	rc = resolving_begin(s);
	if (rc == -EDQUOT)
		return session_end(s, WHY_RESOLVE_LIMIT, 0, "limits.max_resolving is reached");
	for (size_t f = s->protocol == SOCKS_PROTOCOL_5 ? IP6 : IP4; f <= IP4 && rc == 0; f++)
		rc = query_start(r, &queries[f], s->name, families[f], bind_answer, s);
	if (rc < 0)
		session_end(s, WHY_NO_MEMORY, -rc, NULL);
}

/* Each takes a port of this host from all that is connected from it: the kernel gives no port to connect(2) that is bound
 * for listening, nor while a connection lives that came in by it. False: it has been ended. */
static bool bind_admit(struct session *s)
{
	unsigned limit = s->view->plan->conf->limits.max_binds_per_client;
	int rc = limit > 0 ? clients_take(&s->engine->budget->clients, &s->client_addr,
					  CLIENT_BINDS, limit)
			   : 0;

	s->counted_bind = limit > 0 && rc == 0;
	if (rc == -EDQUOT)
		session_end(s, WHY_BIND_LIMIT, 0, "limits.max_binds_per_client is reached");
	else if (rc < 0)
		session_end(s, WHY_NO_MEMORY, -rc, NULL);
	return rc == 0;
}

/* Replies of version 4 have no room for IPv6: its clients could not tell their peers where to connect to. */
void bind_start(struct session *s)
{
	struct bind *b = pool_get(&s->engine->binds);

	if (b == NULL)
		return session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
	memset(b, 0, offsetof(struct bind, peers));
	s->setup->bind = b;
	s->state = SES_BIND;
	s->direct = true;
	if (!bind_admit(s))
		return;
	if (s->dest.family == AF_UNSPEC)
		return bind_resolve(s);
	if (s->dest.family == AF_INET6 && s->protocol != SOCKS_PROTOCOL_5)
		return session_end(s, WHY_BIND_FAILED, EAFNOSUPPORT,
				   "SOCKS4 has no room for an IPv6 address in its replies");
	bind_add_peer(s, &s->dest);
	bind_found(s);
}
