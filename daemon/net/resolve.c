/* SPDX-License-Identifier: MIT */
#include "daemon/net/resolve.h"

#include <ares.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "daemon/core/log.h"
#include "daemon/core/shared.h"
#include "policy/strbuf.h"

/* c-ares asks one server after the other, and all of them again with twice the patience: three shares of the time for
 * each server. An answer that comes later than its server's share is taken all the same. */
#define DNS_TRIES        2
#define DNS_SHARES       3
#define DNS_SHARE_MIN_MS 250 /* also where there are many servers */
#define DNS_PORT         53

/* A query inside c-ares, which cannot give up a single one: it goes on when nobody waits for it any more. */
struct resolve_request {
	struct resolver *resolver;
	struct resolve_entry *entry;
	uint64_t asked_ms;
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
	struct resolve_cache cache;
	struct pool requests;
	struct pool sockets_pool;
	struct list sockets;
	struct list ready; /* queries whose answer is known, to be reported by `task` */
	struct task task;
	struct timer timer; /* set while c-ares has requests, never to a time after its next one */
	size_t n_asking;
	int share_ms;                  /* of the first try at a server */
	struct resolve_counts *counts; /* or NULL */
};

#define RESOLVE_WORD(id, word) [id] = word,
const char *const resolve_from_words[RESOLVE_FROMS] = {RESOLVE_FROM_TABLE(RESOLVE_WORD)};
const char *const resolve_result_words[RESOLVE_RESULTS] = {RESOLVE_RESULT_TABLE(RESOLVE_WORD)};
#undef RESOLVE_WORD

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

/* Whatever c-ares does, its next timeout is at least `share_ms` away, so a timer that is set is
 * set early enough; ares_timeout() walks through all queries and is asked only when it fires. */
static void timer_arm(struct resolver *r)
{
	if (r->n_asking == 0)
		timer_cancel(&r->timer);
	else if (!timer_is_set(&r->timer))
		loop_timer(r->loop, &r->timer, (uint64_t)r->share_ms, on_timer);
}

static void on_timer(struct timer *t)
{
	struct resolver *r = container_of(t, struct resolver, timer);
	struct timeval most = {.tv_sec = RESOLVE_MS / 1000}, left;
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

/* Where nobody has named them, those of resolv.conf; 0 or a status of c-ares. */
static int servers_count(ares_channel channel, size_t *n)
{
	struct ares_addr_port_node *list = NULL;
	int status = ares_get_servers_ports(channel, &list);

	*n = 0;
	for (const struct ares_addr_port_node *at = list; at != NULL; at = at->next)
		++*n;
	ares_free_data(list);
	return status;
}

static int channel_open(struct resolver *r, size_t n_servers)
{
	static char lookups[] = "fb"; /* the hosts file, then DNS */
	struct ares_options options = {
		/* No search domains and no HOSTALIASES: a name means the same on every host. */
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = RESOLVE_MS / DNS_SHARES / (int)n_servers,
		.tries = DNS_TRIES,
		.lookups = lookups,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
	};
	int status;

	if (options.timeout < DNS_SHARE_MIN_MS)
		options.timeout = DNS_SHARE_MIN_MS;
	r->share_ms = options.timeout;
	status = ares_init_options(&r->channel, &options,
				   ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
					   ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS |
					   ARES_OPT_SOCK_STATE_CB);
	if (status != ARES_SUCCESS)
		return status;
	ares_set_socket_configure_callback(r->channel, on_socket_configure, r);
	ares_set_socket_callback(r->channel, on_socket_new, r);
	return ARES_SUCCESS;
}

/* How many there are in resolv.conf is known only once it has been read. */
static int channel_open_for(struct resolver *r, const struct addr_list *servers)
{
	size_t n = servers->n > 0 ? servers->n : 1;
	int status = channel_open(r, n);

	if (status == ARES_SUCCESS && servers->n == 0) {
		status = servers_count(r->channel, &n);
		if (status == ARES_SUCCESS && n > 1) {
			ares_destroy(r->channel);
			return channel_open(r, n);
		}
	} else if (status == ARES_SUCCESS) {
		status = servers_set(r->channel, servers);
	} else {
		return status;
	}
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
	if (status == ARES_SUCCESS && resolve_cache_init(&r->cache) < 0)
		status = ARES_ENOMEM;
	if (status == ARES_SUCCESS)
		status = channel_open_for(r, servers);
	if (status == ARES_SUCCESS) {
		*out = r;
		return 0;
	}
	resolve_cache_destroy(&r->cache);
	free(r);
	return diag_set(d, status == ARES_ENOMEM ? ENOMEM : EIO, NULL, 0,
			"cannot set up name resolution: %s", ares_strerror(status));
}

void resolver_count(struct resolver *r, struct resolve_counts *counts)
{
	r->counts = counts;
}

void resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	ares_destroy(r->channel); /* ends every request, closes every socket */
	timer_cancel(&r->timer);
	loop_unqueue(&r->task);
	BUG_ON(!list_empty(&r->ready));
	resolve_cache_destroy(&r->cache);
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
		struct query *q = container_of(node, struct query, node);
		/* A copy: asking about the same name again may put another answer in its place. */
		struct resolve_answer a = q->entry->answer;

		resolve_cache_put(&r->cache, q->entry);
		q->entry = NULL;
		q->done(q, a.status, a.addrs, a.status == 0 ? a.n : 0);
	}
}

/* What waits in `queries` has its answer. */
static void report(struct resolver *r, struct list *queries)
{
	if (list_empty(queries))
		return;
	list_splice(&r->ready, queries);
	loop_queue(r->loop, &r->task, on_ready);
}

static void log_stale(const struct resolver *r, const struct resolve_entry *e, int status)
{
	static atomic_uint_fast64_t said_ms;
	struct log_line line;

	if (log_once_a_second(&said_ms, r->loop->now_ms) &&
	    log_begin(&line, LOG_LEVEL_WARNING,
		      "name servers fail, going on with addresses whose time is up")) {
		log_add(&line, "name", e->name);
		log_add(&line, "error",
			status == -ETIMEDOUT ? "no name server answered"
					     : "the name servers refuse or fail");
		log_end(&line);
	}
}

/* Addresses, in the order of the server. Returns for how long they count: no longer than the aliases on the way
 * to them. */
static unsigned answer_fill(struct resolve_answer *a, const struct ares_addrinfo *result)
{
	const struct ares_addrinfo_node *node;
	const struct ares_addrinfo_cname *cname;
	int ttl = INT_MAX;

	for (node = result->nodes; node != NULL && a->n < RESOLVE_ADDRS_MAX; node = node->ai_next) {
		struct addr addr = addr_from_sockaddr(node->ai_addr);

		if (addr.family == AF_UNSPEC)
			continue;
		a->addrs[a->n++] = addr;
		ttl = node->ai_ttl < ttl ? node->ai_ttl : ttl;
	}
	for (cname = result->cnames; cname != NULL; cname = cname->next)
		ttl = cname->ttl < ttl ? cname->ttl : ttl;
	/* The highest bit set counts as 0 (RFC 2181 section 8). */
	return ttl > 0 ? (unsigned)ttl : 0;
}

static void count_answer(struct resolver *r, int status, uint64_t asked_ms)
{
	enum resolve_result result = status == 0            ? RESOLVE_FOUND
				     : status == -ENOENT    ? RESOLVE_NONE
				     : status == -ETIMEDOUT ? RESOLVE_TIMEOUT
							    : RESOLVE_FAILED;

	if (r->counts != NULL)
		histogram_add(&r->counts->asked_ms[result], &histogram_waits,
			      r->loop->now_ms - asked_ms);
}

static void count_query(struct resolver *r, bool known, enum resolve_use use)
{
	enum resolve_from from = known                ? RESOLVE_FROM_HERE
				 : use == RESOLVE_ASK ? RESOLVE_FROM_SERVERS
				 : use == RESOLVE_USE ? RESOLVE_FROM_CACHE
						      : RESOLVE_FROM_STALE;

	if (r->counts != NULL)
		SHARED_ADD(r->counts->queries[from], 1);
}

static void on_addrinfo(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct resolve_request *req = arg;
	struct resolver *r = req->resolver;
	struct resolve_entry *e = req->entry;
	struct resolve_answer a = {.status = status == ARES_SUCCESS ? 0 : status_errno(status)};
	unsigned ttl_s = 0;

	(void)timeouts;
	if (result != NULL) {
		ttl_s = answer_fill(&a, result);
		ares_freeaddrinfo(result);
	}
	if (a.status == 0 && a.n == 0)
		a.status = -ENOENT;
	if (a.status < 0)
		a.n = 0;
	if (status != ARES_EDESTRUCTION)
		count_answer(r, a.status, req->asked_ms);
	pool_put(&r->requests, req);
	r->n_asking--;
	e->asking = false;
	/* The other end of resolver_free() says nothing of the servers, and nobody waits. */
	if (status != ARES_EDESTRUCTION && resolve_entry_answered(e, &a, ttl_s, r->loop->now_ms))
		log_stale(r, e, a.status);
	report(r, &e->waiting);
	resolve_cache_put(&r->cache, e);
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
static bool answer_here(struct resolve_answer *a, const char *name, int family)
{
	struct addr addr;

	if (is_localhost(name))
		addr_parse(&addr, family == AF_INET ? "127.0.0.1" : "::1");
	else if (addr_parse(&addr, name) < 0)
		return false;
	*a = (struct resolve_answer){.status = -ENOENT};
	if (addr.family == family)
		*a = (struct resolve_answer){.n = 1, .addrs = {addr}};
	return true;
}

/* -ENOMEM or 0; the answer may be there at the return. `name` is that of the entry, as it was written. */
static int entry_ask(struct resolver *r, struct resolve_entry *e, const char *name)
{
	/* In the order of the server, who may balance by it: a family needs no sorting. */
	const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT,
						  .ai_family = e->family};
	struct resolve_request *req;

	if (r->n_asking >= RESOLVE_ASKING_MAX)
		return -ENOMEM;
	req = pool_get(&r->requests);
	if (req == NULL)
		return -ENOMEM;
	*req = (struct resolve_request){.resolver = r, .entry = e, .asked_ms = r->loop->now_ms};
	e->refs++;
	e->asking = true;
	r->n_asking++;
	ares_getaddrinfo(r->channel, name, NULL, &hints, on_addrinfo, req);
	timer_arm(r);
	return 0;
}

int query_start(struct resolver *r, struct query *q, const char *name, int family, query_fn *done,
		void *owner)
{
	struct resolve_answer here;
	bool known = answer_here(&here, name, family);
	struct resolve_entry *e = resolve_cache_get(&r->cache, name, family, !known);
	struct list one;
	enum resolve_use use;

	if (e == NULL)
		return -ENOMEM;
	if (known)
		e->answer = here;
	use = known ? RESOLVE_USE : resolve_entry_use(e, r->loop->now_ms);
	*q = (struct query){.entry = e, .resolver = r, .done = done, .owner = owner};
	count_query(r, known, use);
	list_init(&one);
	list_add_tail(use == RESOLVE_ASK ? &e->waiting : &one, &q->node);
	if ((use == RESOLVE_ASK || use == RESOLVE_USE_AND_ASK) && !e->asking &&
	    entry_ask(r, e, name) < 0 && use == RESOLVE_ASK) {
		query_cancel(q);
		return -ENOMEM;
	}
	report(r, &one);
	return 0;
}

bool resolver_knows(const struct resolver *r, const char *name)
{
	static const int families[] = {AF_INET, AF_INET6};
	size_t n_known = 0;

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		const struct resolve_entry *e;
		struct resolve_answer here;

		if (answer_here(&here, name, families[i]))
			return true;
		e = resolve_cache_find(&r->cache, name, families[i]);
		if (e == NULL || resolve_entry_use(e, r->loop->now_ms) == RESOLVE_ASK)
			continue;
		n_known++;
		if (e->answer.status == 0)
			return true;
	}
	return n_known == ARRAY_LEN(families);
}

void query_cancel(struct query *q)
{
	if (q->entry == NULL)
		return;
	list_del(&q->node);
	resolve_cache_put(&q->resolver->cache, q->entry);
	q->entry = NULL;
}
