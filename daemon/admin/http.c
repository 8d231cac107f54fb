/* SPDX-License-Identifier: MIT */
#include "daemon/admin/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/log.h"
#include "daemon/net/listener.h"
#include "daemon/net/sock.h"

/* Of one connection, for its request. */
#define REQUEST_MAX (16 * 1024)
/* What libmicrohttpd opens for itself: epoll(7) and an eventfd(2). */
#define OWN_DESCRIPTORS 2

struct http_client {
	struct http *http;
	struct timer timer;
	int fd; /* libmicrohttpd closes it; -1: free */
	bool begun;
};

struct http {
	struct loop *loop;
	struct MHD_Daemon *mhd;
	struct source *epoll;
	struct timer timer;
	struct task task;
	http_fn *fn;
	void *ctx;
	struct http_client clients[HTTP_CLIENTS_MAX];
	size_t n_listeners;
	struct listener listeners[];
};

static const struct {
	const char *path, *type;
	enum http_page page;
} pages[] = {
	/* Prometheus, text format 0.0.4. */
	{"/metrics", "text/plain; version=0.0.4; charset=utf-8", HTTP_METRICS},
	{"/status", "application/json", HTTP_STATUS},
};

static const char index_page[] = "<!DOCTYPE html><meta charset=\"utf-8\"><title>transocks</title>\n"
				 "<p><a href=\"/metrics\">/metrics</a>: for Prometheus\n"
				 "<p><a href=\"/status\">/status</a>: what --status --json says\n";

/* --- answers --- */

static enum MHD_Result http_respond(struct MHD_Connection *c, unsigned code, struct MHD_Response *r,
				    const char *type)
{
	enum MHD_Result done = MHD_NO;

	if (r != NULL && MHD_add_response_header(r, "Content-Type", type) == MHD_YES &&
	    MHD_add_response_header(r, "Connection", "close") == MHD_YES &&
	    (code != MHD_HTTP_METHOD_NOT_ALLOWED ||
	     MHD_add_response_header(r, "Allow", "GET, HEAD") == MHD_YES))
		done = MHD_queue_response(c, code, r);
	if (r != NULL)
		MHD_destroy_response(r);
	return done;
}

/* `text` is constant. */
static enum MHD_Result http_respond_text(struct MHD_Connection *c, unsigned code, const char *type,
					 const char *text)
{
	return http_respond(c, code,
			    MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
							    MHD_RESPMEM_PERSISTENT),
			    type);
}

static enum MHD_Result http_respond_page(struct http *h, struct MHD_Connection *c, size_t i)
{
	struct MHD_Response *r;
	struct strbuf page;

	strbuf_init_heap(&page);
	h->fn(h->ctx, pages[i].page, &page);
	if (page.truncated) {
		strbuf_free(&page);
		return http_respond_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain",
					 "out of memory\n");
	}
	r = MHD_create_response_from_buffer(page.len, page.data, MHD_RESPMEM_MUST_FREE);
	if (r == NULL)
		strbuf_free(&page);
	return http_respond(c, MHD_HTTP_OK, r, pages[i].type);
}

/* Once the headers are there: a body is not waited for. */
static enum MHD_Result http_request(void *ctx, struct MHD_Connection *c, const char *path,
				    const char *method, const char *version, const char *body,
				    size_t *body_len, void **state)
{
	(void)version, (void)body, (void)body_len, (void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return http_respond_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain",
					 "GET or HEAD\n");
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		if (strcmp(path, pages[i].path) == 0)
			return http_respond_page(ctx, c, i);
	}
	if (strcmp(path, "/") == 0)
		return http_respond_text(c, MHD_HTTP_OK, "text/html", index_page);
	return http_respond_text(c, MHD_HTTP_NOT_FOUND, "text/plain",
				 "there are /metrics and /status\n");
}

/* --- libmicrohttpd in the loop --- */

static void http_turn(struct task *t);

static void http_timeout(struct timer *t)
{
	struct http *h = container_of(t, struct http, timer);

	loop_queue(h->loop, &h->task, http_turn);
}

static void http_run(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG ms;

	MHD_run(h->mhd);
	if (MHD_get_timeout(h->mhd, &ms) != MHD_YES)
		timer_cancel(&h->timer);
	else if (ms == 0)
		loop_queue(h->loop, &h->task, http_turn);
	else
		loop_timer(h->loop, &h->timer, ms, http_timeout);
}

static void http_turn(struct task *t)
{
	http_run(container_of(t, struct http, task));
}

static void http_event(struct source *src, uint32_t events)
{
	(void)events;
	http_run(src->owner);
}

/* --- connections --- */

static struct http_client *http_find(struct http *h, int fd)
{
	for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++) {
		if (h->clients[i].fd == fd)
			return &h->clients[i];
	}
	return NULL;
}

static void client_free(struct http_client *cl)
{
	struct http *h = cl->http;

	timer_cancel(&cl->timer);
	cl->fd = -1;
	for (size_t i = 0; i < h->n_listeners; i++)
		listener_resume(&h->listeners[i]);
}

/* libmicrohttpd sees the end of the connection, and closes it. */
static void client_timeout(struct timer *t)
{
	struct http_client *cl = container_of(t, struct http_client, timer);

	shutdown(cl->fd, SHUT_RDWR);
}

/* libmicrohttpd has begun with a connection, or is about to close its descriptor. */
static void http_notify(void *ctx, struct MHD_Connection *c, void **state,
			enum MHD_ConnectionNotificationCode what)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct http_client *cl = info != NULL ? http_find(ctx, info->connect_fd) : NULL;

	(void)state;
	BUG_ON(cl == NULL);
	if (what == MHD_CONNECTION_NOTIFY_STARTED)
		cl->begun = true;
	else
		client_free(cl);
}

static void http_accept(struct listener *l, int fd, const struct addr *peer)
{
	struct http *h = l->owner;
	struct http_client *cl = http_find(h, -1);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(peer, &ss);

	BUG_ON(cl == NULL); /* paused otherwise */
	cl->fd = fd;
	cl->begun = false;
	loop_timer(h->loop, &cl->timer, HTTP_TIME_MS, client_timeout);
	if (http_find(h, -1) == NULL) {
		for (size_t i = 0; i < h->n_listeners; i++)
			listener_pause(&h->listeners[i]);
	}
	MHD_add_connection(h->mhd, fd, (const struct sockaddr *)&ss, len);
	http_run(h);
	/* Nobody says so where there is no memory for it; the descriptor is closed. */
	if (cl->fd == fd && !cl->begun)
		client_free(cl);
}

/* --- start and end --- */

static int http_listen_at(struct http *h, const struct addr *a, bool optional, struct diag *d)
{
	const struct sock_listen_options o = {.first = true};
	struct listener *l = &h->listeners[h->n_listeners];
	int rc, fd = sock_listen(a, &o, d);

	if (optional && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
		log_text(LOG_LEVEL_WARNING, "metrics: %s; going on without it", d->text);
		return 0;
	}
	if (fd < 0)
		return fd;
	rc = listener_start(l, h->loop, fd, a, http_accept, h);
	if (rc < 0) {
		close(fd);
		return diag_set(d, -rc, NULL, 0, "cannot watch a listener: %s", strerror(-rc));
	}
	h->n_listeners++;
	return 0;
}

static int http_start(struct http *h, struct diag *d)
{
	const union MHD_DaemonInfo *info;

	h->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
				  http_request, h, MHD_OPTION_CONNECTION_LIMIT,
				  (unsigned)HTTP_CLIENTS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				  (size_t)REQUEST_MAX, MHD_OPTION_NOTIFY_CONNECTION, http_notify, h,
				  MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	info = h->mhd != NULL ? MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (info != NULL)
		h->epoll = loop_watch(h->loop, info->epoll_fd, EPOLLIN, http_event, h);
	if (h->epoll == NULL)
		return diag_set(d, errno != 0 ? errno : EIO, NULL, 0, "cannot serve metrics: %s",
				strerror(errno != 0 ? errno : EIO));
	return 0;
}

int http_new(struct loop *loop, const struct addr_list *at, bool optional, http_fn *fn, void *ctx,
	     struct http **out, struct diag *d)
{
	struct http *h;
	int rc = 0;

	*out = NULL;
	if (at->n == 0)
		return 0;
	h = calloc(1, sizeof(*h) + at->n * sizeof(h->listeners[0]));
	if (h == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	h->loop = loop;
	h->fn = fn;
	h->ctx = ctx;
	timer_init(&h->timer);
	loop_task_init(&h->task);
	for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++) {
		h->clients[i] = (struct http_client){.http = h, .fd = -1};
		timer_init(&h->clients[i].timer);
	}
	errno = 0;
	rc = http_start(h, d);
	for (size_t i = 0; i < at->n && rc == 0; i++)
		rc = http_listen_at(h, &at->addrs[i], optional, d);
	if (rc == 0 && h->n_listeners == 0)
		rc = diag_set(d, EADDRNOTAVAIL, NULL, 0, "no address to serve metrics at");
	if (rc < 0)
		http_free(h);
	else
		*out = h;
	return rc;
}

void http_drain(struct http *h)
{
	if (h == NULL)
		return;
	for (size_t i = 0; i < h->n_listeners; i++)
		listener_stop(&h->listeners[i]);
}

void http_free(struct http *h)
{
	if (h == NULL)
		return;
	http_drain(h);
	if (h->epoll != NULL)
		loop_unwatch(h->loop, h->epoll);
	if (h->mhd != NULL)
		MHD_stop_daemon(h->mhd); /* closes what is open, and says so */
	timer_cancel(&h->timer);
	loop_unqueue(&h->task);
	free(h);
}

size_t http_descriptors(const struct conf *c)
{
	size_t n = c->metrics.at.n;

	return n > 0 ? OWN_DESCRIPTORS + n + HTTP_CLIENTS_MAX : 0;
}
