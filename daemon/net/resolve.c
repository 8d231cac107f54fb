/* SPDX-License-Identifier: MIT */
#include "daemon/net/resolve.h"

#include <ares.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "policy/strbuf.h"

#define DNS_TIMEOUT_MS \
	2000 /* of the first try at a server; c-ares doubles it for the second round */
#define DNS_TRIES 2
#define DNS_PORT  53

/* A query inside c-ares. It outlives a cancelled `query`: c-ares cannot give up a single one. */
struct resolve_request {
	struct list node; /* in resolver.ready, once it has ended */
	struct resolver *resolver;
	struct query *query; /* NULL: nobody waits for it any more */
	int status;
	size_t n;
	struct addr addrs[RESOLVE_ADDRS_MAX];
};

/* A socket of c-ares, which opens and closes it. */
struct resolve_socket {
	struct list node;
	struct source *source;
	struct resolver *resolver;
	uint32_t events; /* what is waited for */
};

struct resolver {
	struct loop *loop;
	ares_channel channel;
	struct mark mark;
	struct pool requests;
	struct pool sockets_pool;
	struct list sockets;
	struct list ready; /* requests that ended, to be reported by `task` */
	struct task task;
	struct timer timer; /* set while c-ares has requests, never to a time after its next one */
	size_t n_asking;
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_status;

static void library_init(void)
{
	library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

static int status_errno(int status)
{
	switch (status) {
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_EBADNAME:
		return -ENOENT;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ENOMEM:
		return -ENOMEM;
	default: /* ARES_ECONNREFUSED: all servers are dead, or answered SERVFAIL or REFUSED */
		return -EIO;
	}
}

/* --- the timer and the sockets of c-ares --- */

static void on_timer(struct timer *t);

/* Whatever c-ares does, its next timeout is at least DNS_TIMEOUT_MS away, so a timer that is set is
 * set early enough; ares_timeout() walks through all queries and is asked only when it fires. */
static void timer_arm(struct resolver *r)
{
	if (r->n_asking == 0)
		timer_cancel(&r->timer);
	else if (!timer_is_set(&r->timer))
		loop_timer(r->loop, &r->timer, DNS_TIMEOUT_MS, on_timer);
}

static void on_timer(struct timer *t)
{
	struct resolver *r = container_of(t, struct resolver, timer);
	struct timeval most = {.tv_sec = DNS_TIMEOUT_MS / 1000}, left;
	struct timeval *next;

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	if (r->n_asking == 0)
		return;
	next = ares_timeout(r->channel, &most, &left);
	loop_timer(r->loop, t, (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1,
		   on_timer);
}

static void on_socket(struct source *src, uint32_t events)
{
	struct resolve_socket *s = src->owner;
	struct resolver *r = s->resolver;
	ares_socket_t fd = src->fd;
	bool failed = (events & (EPOLLERR | EPOLLHUP)) != 0;

	/* On an error c-ares reads it off the socket, as a reader or as a writer. */
	ares_process_fd(r->channel, failed || (events & EPOLLIN) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	timer_arm(r);
}

static struct resolve_socket *socket_find(struct resolver *r, ares_socket_t fd)
{
	struct list *node;

	list_for_each (node, &r->sockets) {
		struct resolve_socket *s = container_of(node, struct resolve_socket, node);

		if (s->source->fd == fd)
			return s;
	}
	return NULL;
}

/* A new socket, connected already. One that cannot be watched is refused, so that its queries fail: unheard, it
 * would swallow all that follow until c-ares gives it up. */
static int on_socket_new(ares_socket_t fd, int type, void *data)
{
	struct resolver *r = data;
	struct resolve_socket *s = pool_get(&r->sockets_pool);

	(void)type;
	if (s == NULL)
		return -1;
	*s = (struct resolve_socket){.resolver = r, .events = EPOLLIN};
	s->source = loop_watch(r->loop, fd, s->events, on_socket, s);
	if (s->source == NULL) {
		pool_put(&r->sockets_pool, s);
		return -1;
	}
	list_add_tail(&r->sockets, &s->node);
	return 0;
}

/* c-ares closes the descriptor right after it has said that it waits for nothing. */
static void socket_forget(struct resolver *r, struct resolve_socket *s)
{
	loop_unwatch(r->loop, s->source);
	list_del(&s->node);
	pool_put(&r->sockets_pool, s);
}

static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = data;
	struct resolve_socket *s = socket_find(r, fd);
	uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);

	if (s == NULL || events == s->events)
		return;
	s->events = events;
	if (events == 0)
		socket_forget(r, s);
	else
		loop_rewatch(r->loop, s->source, events);
}

static int on_socket_configure(ares_socket_t fd, int type, void *data)
{
	struct resolver *r = data;

	(void)type;
	return sock_mark(fd, &r->mark) < 0 ? -1 : 0;
}

/* --- set-up --- */

static int servers_set(ares_channel channel, const struct addr_list *servers)
{
	char text[ADDR_TEXT_MAX];
	struct strbuf csv;
	int status;

	if (servers->n == 0)
		return ARES_SUCCESS;
	strbuf_init_heap(&csv);
	for (size_t i = 0; i < servers->n; i++) {
		struct addr a = servers->addrs[i];

		if (a.port == 0)
			a.port = DNS_PORT;
		strbuf_printf(&csv, "%s%s", i > 0 ? "," : "", addr_format(&a, text, sizeof(text)));
	}
	status = csv.truncated ? ARES_ENOMEM : ares_set_servers_ports_csv(channel, csv.data);
	strbuf_free(&csv);
	return status;
}

static int channel_open(struct resolver *r, const struct addr_list *servers)
{
	static char lookups[] = "fb"; /* the hosts file, then DNS */
	struct ares_options options = {
		/* No search domains and no HOSTALIASES: a name means the same on every host. */
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = DNS_TIMEOUT_MS,
		.tries = DNS_TRIES,
		.lookups = lookups,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
	};
	int status = ares_init_options(&r->channel, &options,
				       ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
					       ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS |
					       ARES_OPT_SOCK_STATE_CB);

	if (status != ARES_SUCCESS)
		return status;
	ares_set_socket_configure_callback(r->channel, on_socket_configure, r);
	ares_set_socket_callback(r->channel, on_socket_new, r);
	status = servers_set(r->channel, servers);
	if (status != ARES_SUCCESS)
		ares_destroy(r->channel);
	return status;
}

int resolver_new(struct loop *loop, const struct addr_list *servers, const struct sock_options *o,
		 struct resolver **out, struct diag *d)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int status;

	if (r == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "cannot set up name resolution: no memory");
	r->loop = loop;
	r->mark = o->mark;
	pool_init(&r->requests, sizeof(struct resolve_request));
	pool_init(&r->sockets_pool, sizeof(struct resolve_socket));
	list_init(&r->sockets);
	list_init(&r->ready);
	loop_task_init(&r->task);
	timer_init(&r->timer);
	pthread_once(&library_once, library_init);
	status = library_status;
	if (status == ARES_SUCCESS)
		status = channel_open(r, servers);
	if (status == ARES_SUCCESS) {
		*out = r;
		return 0;
	}
	free(r);
	return diag_set(d, status == ARES_ENOMEM ? ENOMEM : EIO, NULL, 0,
			"cannot set up name resolution: %s", ares_strerror(status));
}

void resolver_free(struct resolver *r)
{
	struct list *node;

	if (r == NULL)
		return;
	ares_destroy(r->channel); /* ends every request, closes every socket */
	timer_cancel(&r->timer);
	loop_unqueue(&r->task);
	while ((node = list_pop(&r->ready)) != NULL) {
		struct resolve_request *req = container_of(node, struct resolve_request, node);

		BUG_ON(req->query != NULL);
		pool_put(&r->requests, req);
	}
	pool_destroy(&r->requests);
	pool_destroy(&r->sockets_pool);
	free(r);
}

/* --- queries --- */

/* The callee may start and cancel queries; those that end by that are for the next turn. */
static void on_ready(struct task *t)
{
	struct resolver *r = container_of(t, struct resolver, task);
	struct list ended, *node;

	list_init(&ended);
	list_splice(&ended, &r->ready);
	while ((node = list_pop(&ended)) != NULL) {
		struct resolve_request *req = container_of(node, struct resolve_request, node);
		struct query *q = req->query;

		if (q != NULL) {
			q->request = NULL;
			q->done(q, req->status, req->addrs, req->n);
		}
		pool_put(&r->requests, req);
	}
}

static void request_fill(struct resolve_request *req, const struct ares_addrinfo *result)
{
	const struct ares_addrinfo_node *node;

	for (node = result->nodes; node != NULL && req->n < RESOLVE_ADDRS_MAX;
	     node = node->ai_next) {
		struct addr a = addr_from_sockaddr(node->ai_addr);

		if (a.family != AF_UNSPEC)
			req->addrs[req->n++] = a;
	}
}

static void request_end(struct resolve_request *req, int status)
{
	struct resolver *r = req->resolver;

	if (status == 0 && req->n == 0)
		status = -ENOENT;
	if (status < 0)
		req->n = 0;
	req->status = status;
	r->n_asking--;
	list_add_tail(&r->ready, &req->node);
	loop_queue(r->loop, &r->task, on_ready);
}

static void on_addrinfo(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct resolve_request *req = arg;

	(void)timeouts;
	if (result != NULL) {
		request_fill(req, result);
		ares_freeaddrinfo(result);
	}
	request_end(req, status == ARES_SUCCESS ? 0 : status_errno(status));
}

static bool is_localhost(const char *name)
{
	static const char domain[] = ".localhost";
	size_t n = strlen(name);

	return strcasecmp(name, domain + 1) == 0 ||
	       (n >= sizeof(domain) && strcasecmp(name + n - (sizeof(domain) - 1), domain) == 0);
}

/* Literals, and the names that are this host everywhere (RFC 6761 section 6.3). c-ares 1.18 gives
 * an IPv4 literal to those who ask for IPv6, and leaks with each AAAA query for localhost. */
static bool request_answer_here(struct resolve_request *req, const char *name, int family)
{
	struct addr a;

	if (is_localhost(name))
		addr_parse(&a, family == AF_INET ? "127.0.0.1" : "::1");
	else if (addr_parse(&a, name) < 0)
		return false;
	if (a.family == family)
		req->addrs[req->n++] = a;
	return true;
}

int query_start(struct resolver *r, struct query *q, const char *name, int family, query_fn *done,
		void *owner)
{
	/* In the order of the server, who may balance by it: a family needs no sorting. */
	const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = family};
	struct resolve_request *req;

	if (r->n_asking >= RESOLVE_ASKING_MAX)
		return -ENOMEM;
	req = pool_get(&r->requests);
	if (req == NULL)
		return -ENOMEM;
	list_init(&req->node);
	req->resolver = r;
	req->query = q;
	req->n = 0;
	*q = (struct query){.request = req, .done = done, .owner = owner};
	r->n_asking++;
	if (request_answer_here(req, name, family))
		request_end(req, 0);
	else
		ares_getaddrinfo(r->channel, name, NULL, &hints, on_addrinfo, req);
	timer_arm(r);
	return 0;
}

void query_cancel(struct query *q)
{
	if (q->request == NULL)
		return;
	q->request->query = NULL;
	q->request = NULL;
}
