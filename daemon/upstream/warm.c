/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/warm.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "daemon/net/dial.h"

#define TICK_MS       1000
#define WINDOW_MIN_MS 50 /* a burst of a client counts as wanted together */
#define PEAK_ONE      16 /* fixed point of warm.peak */
#define SETUP_WEIGHT  8  /* of the past in warm.setup_ms */
/* What an upstream closes before this is no sign of its patience. */
#define PATIENCE_MIN_MS 1000
#define BACKOFF_MAX_MS  30000
/* Of an answer to the greeting that has not come whole. */
#define HELD_MAX 32

struct warm;

struct warm_conn {
	struct list node; /* warm->making or warm->ready */
	struct warm *warm;
	struct dying dying;
	struct timer timer; /* the limit of the phase; then the age */
	struct source *source;
	struct addr peer;
	int egress; /* as dial.source */
	uint64_t began_ms, ready_ms;
	bool told; /* what it has shown of the upstream's health */
	bool readable, behind;
	uint8_t n_held, held[HELD_MAX];
	struct dial dial;
	struct handshake handshake;
};

/* Those to one upstream. */
struct warm {
	struct warms *all;
	struct upstream *up;
	size_t share; /* how many there may be */
	struct list making, ready;
	size_t n_making, n_ready;
	struct task fill;
	struct timer tick;
	uint64_t window_ms; /* since when `wanted` counts */
	unsigned wanted;    /* flows in this window */
	unsigned peak;      /* the most in one, fading; in units of 1 / PEAK_ONE */
	uint64_t setup_ms;  /* how long making one takes */
	uint64_t age_ms;    /* how old one may become */
	uint64_t shrunk_ms; /* when that was last found to be too old */
	unsigned failures;  /* in a row, to make one or to keep it */
	uint64_t again_ms;  /* none is made before */
};

struct warms {
	struct warms_options o;
	struct pool pool; /* of struct warm_conn */
	struct dying dying;
	bool stopped;
	uint32_t random;
	struct warm **by_index; /* as conf.upstreams; NULL: none for this one */
	struct warm *items;
	size_t n;
};

static uint64_t warm_now(const struct warm *w)
{
	return w->all->o.loop->now_ms;
}

/* xorshift32: only so that not everything happens at once. */
static uint32_t warms_random(struct warms *ws)
{
	ws->random ^= ws->random << 13;
	ws->random ^= ws->random >> 17;
	ws->random ^= ws->random << 5;
	return ws->random;
}

/* Between 3/4 of it and all. */
static uint64_t warm_jitter(struct warm *w, uint64_t ms)
{
	return ms - warms_random(w->all) % (ms / 4 + 1);
}

/* Whether a greeting is said ahead: not where the client's address has to come first. */
static bool warm_greets(const struct warm *w)
{
	return !w->up->conf->proxy_protocol;
}

/* --- the end of one --- */

static void warm_conn_release(struct dying *d)
{
	struct warm_conn *c = container_of(d, struct warm_conn, dying);
	pool_put(&c->warm->all->pool, c);
}

/* Out of the books; its descriptor goes on or has been closed. */
static void warm_conn_end(struct warm_conn *c)
{
	struct warm *w = c->warm;

	timer_cancel(&c->timer);
	dial_cancel(&c->dial);
	list_del(&c->node);
	if (c->ready_ms != 0) {
		w->n_ready--;
		atomic_fetch_sub_explicit(&w->up->run->warm, 1, memory_order_relaxed);
	} else {
		w->n_making--;
	}
	if (!c->told)
		upstream_unknown(w->up, c->began_ms);
	loop_bury(w->all->o.loop, &c->dying, warm_conn_release);
}

static void warm_conn_drop(struct warm_conn *c)
{
	int fd;

	if (c->source != NULL) {
		fd = c->source->fd;
		loop_unwatch(c->warm->all->o.loop, c->source);
		c->source = NULL;
		close(fd);
		upstream_port_put(c->warm->up, c->egress);
	}
	warm_conn_end(c);
}

static void warm_drop_all(struct warm *w)
{
	struct list *node, *tmp;

	list_for_each_safe (node, tmp, &w->ready)
		warm_conn_drop(container_of(node, struct warm_conn, node));
}

/* --- how many, and when --- */

static size_t warm_target(const struct warm *w)
{
	uint64_t n = (w->peak + PEAK_ONE - 1) / PEAK_ONE + 1;
	unsigned part = health_share(&w->up->run->health, warm_now(w));

	if (n > w->share)
		n = w->share;
	/* One that returns slowly is not to be filled up at once. */
	n = (n * part + HEALTH_FULL - 1) / HEALTH_FULL;
	return n;
}

static void warm_begin(struct warm *w);

static void warm_fill(struct task *t)
{
	struct warm *w = container_of(t, struct warm, fill);
	size_t target = warm_target(w);

	while (w->n_making + w->n_ready < target && warm_now(w) >= w->again_ms)
		warm_begin(w);
}

static void warm_queue_fill(struct warm *w)
{
	if (!w->all->stopped)
		loop_queue(w->all->o.loop, &w->fill, warm_fill);
}

/* Nothing is made for a while, a longer one each time. */
static void warm_back_off(struct warm *w)
{
	uint64_t ms = TICK_MS;

	for (unsigned i = 0; i < w->failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	w->failures++;
	w->again_ms = warm_now(w) + warm_jitter(w, ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS);
}

static void warm_tick(struct timer *t)
{
	struct warm *w = container_of(t, struct warm, tick);
	struct health *h = &w->up->run->health;

	w->peak -= (w->peak + PEAK_ONE - 1) / PEAK_ONE;
	loop_timer(w->all->o.loop, t, TICK_MS, warm_tick);
	if (health_share(h, warm_now(w)) > 0)
		return warm_queue_fill(w);
	/* Whatever is ready may lead nowhere. */
	warm_drop_all(w);
	/* The trial, so that no client has to wait for its end; without a greeting it would show nothing. */
	if (w->n_making == 0 && warm_greets(w) && upstream_greets(w->up) &&
	    health_take_trial(h, warm_now(w)))
		warm_begin(w);
}

/* --- making one --- */

static void warm_conn_failed(struct warm_conn *c, enum upstream_failure kind, int err,
			     const char *detail)
{
	struct warm *w = c->warm;

	if (!c->told)
		upstream_failed(w->up, kind, err, detail, c->began_ms, warm_now(w));
	c->told = true;
	warm_conn_drop(c);
	warm_back_off(w);
}

static void warm_aged(struct timer *t)
{
	struct warm_conn *c = container_of(t, struct warm_conn, timer);
	struct warm *w = c->warm;

	/* It was patient for so long: for a little longer, perhaps. */
	w->age_ms += w->age_ms / 16;
	if (w->age_ms > WARM_AGE_MS)
		w->age_ms = WARM_AGE_MS;
	warm_conn_drop(c);
	warm_queue_fill(w);
}

static void warm_conn_ready(struct warm_conn *c)
{
	struct warm *w = c->warm;
	uint64_t now = warm_now(w), ms = now - c->began_ms;
	unsigned silent_ms = WARM_SILENT_MS;

	w->setup_ms =
		w->setup_ms == 0 ? ms : (w->setup_ms * (SETUP_WEIGHT - 1) + ms) / SETUP_WEIGHT;
	if (silent_ms < 4 * w->setup_ms)
		silent_ms = (unsigned)(4 * w->setup_ms);
	setsockopt(c->source->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof(silent_ms));
	sock_keepalive(c->source->fd, w->up->all->conf->timeouts.keepalive);
	list_del(&c->node);
	w->n_making--;
	c->ready_ms = now > 0 ? now : 1;
	w->n_ready++;
	atomic_fetch_add_explicit(&w->up->run->warm, 1, memory_order_relaxed);
	list_add_tail(&w->ready, &c->node);
	loop_timer(w->all->o.loop, &c->timer, warm_jitter(w, w->age_ms), warm_aged);
}

/* It was closed at this age. Once in a while only: a server that ends closes all of them together. */
static void warm_learn_patience(struct warm *w, uint64_t age)
{
	uint64_t now = warm_now(w);

	age -= age / 4;
	if (age >= w->age_ms || (w->shrunk_ms != 0 && now - w->shrunk_ms < w->age_ms))
		return;
	w->age_ms = age > w->age_ms / 2 ? age : w->age_ms / 2;
	w->shrunk_ms = now;
}

/* A connection that was ready is closed, or talks. */
static void warm_conn_lost(struct warm_conn *c)
{
	struct warm *w = c->warm;
	uint64_t age = warm_now(w) - c->ready_ms;

	if (age < PATIENCE_MIN_MS)
		warm_back_off(w); /* or it would go on so all the time */
	else
		warm_learn_patience(w, age);
	warm_conn_drop(c);
	warm_queue_fill(w);
}

/* How a greeting ended, in the words of HANDSHAKE_*. */
static void warm_conn_greeted(struct warm_conn *c, enum handshake_result r, size_t n_left)
{
	const struct handshake *h = &c->handshake;
	struct warm *w = c->warm;

	if (r != HANDSHAKE_READY)
		return warm_conn_failed(c, UPSTREAM_FAILED_GREETING, h->err, h->error);
	upstream_greeted(w->up, c->began_ms, warm_now(w));
	c->told = true;
	warm_conn_ready(c);
	if (n_left > 0 || c->readable || c->behind)
		warm_conn_lost(c);
}

static void warm_conn_greet(struct warm_conn *c)
{
	struct buf *in = *c->warm->all->o.scratch;
	enum handshake_result r;
	size_t n_left;

	memcpy(in->data, c->held, c->n_held);
	in->len = c->n_held;
	r = handshake_step(&c->handshake, c->source->fd, in, &c->readable, c->behind);
	n_left = in->len;
	if (n_left <= HELD_MAX)
		memcpy(c->held, buf_head(in), n_left);
	c->n_held = (uint8_t)n_left;
	in->off = in->len = 0;
	if (r == HANDSHAKE_WAIT && n_left <= HELD_MAX)
		return;
	warm_conn_greeted(c, r == HANDSHAKE_WAIT ? HANDSHAKE_BAD : r, n_left);
}

static void warm_conn_event(struct source *src, uint32_t events)
{
	struct warm_conn *c = src->owner;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->behind = true;
	if (c->ready_ms == 0)
		warm_conn_greet(c);
	else if (c->readable)
		warm_conn_lost(c);
}

static void warm_timeout(struct timer *t)
{
	struct warm_conn *c = container_of(t, struct warm_conn, timer);
	enum upstream_failure kind = UPSTREAM_FAILED_GREETING;

	if (c->source == NULL)
		kind = c->dial.phase == DIAL_RESOLVE ? UPSTREAM_FAILED_RESOLVE
						     : UPSTREAM_FAILED_CONNECT;
	warm_conn_failed(c, kind, ETIMEDOUT, NULL);
}

static void warm_conn_limit(struct warm_conn *c, int64_t ms)
{
	if (ms > 0)
		loop_timer(c->warm->all->o.loop, &c->timer, (uint64_t)ms, warm_timeout);
	else
		timer_cancel(&c->timer);
}

static void warm_dialled(struct dial *d, int status)
{
	struct warm_conn *c = d->owner;
	struct warm *w = c->warm;
	const struct conf *conf = w->up->all->conf;

	if (status < 0)
		return warm_conn_failed(c,
					d->phase == DIAL_RESOLVE ? UPSTREAM_FAILED_RESOLVE
								 : UPSTREAM_FAILED_CONNECT,
					-status,
					status == -ENOENT ? "the name has no address" : NULL);
	c->source = d->won;
	c->source->on_event = warm_conn_event;
	c->source->owner = c;
	c->peer = d->peer;
	c->egress = d->source;
	upstream_port_take(w->up, c->egress);
	upstream_connected(w->up);
	w->failures = 0;
	if (!warm_greets(w)) {
		warm_conn_ready(c);
		return warm_conn_event(c->source, d->events);
	}
	warm_conn_limit(c, conf->timeouts.greeting);
	handshake_start(&c->handshake, &w->up->conf->url, NULL, 0, false);
	warm_conn_event(c->source, d->events);
}

static int warm_conn_dial(struct warm_conn *c)
{
	struct warm *w = c->warm;
	const struct proxy_url *url = &w->up->conf->url;
	struct loop *loop = w->all->o.loop;
	const struct sock_options o =
		upstream_sock_options(w->up, warm_greets(w) && url->scheme == PROXY_SOCKS5);

	if (url->addr.family == AF_UNSPEC)
		return dial_name(&c->dial, loop, w->all->o.resolver, &o, url->host, url->port,
				 warm_dialled, c);
	dial_addr(&c->dial, loop, &o, &url->addr, warm_dialled, c);
	return 0;
}

static void warm_begin(struct warm *w)
{
	struct warm_conn *c = pool_get(&w->all->pool);

	if (c == NULL)
		return warm_back_off(w);
	memset(c, 0, offsetof(struct warm_conn, handshake));
	c->warm = w;
	c->began_ms = warm_now(w);
	timer_init(&c->timer);
	list_add_tail(&w->making, &c->node);
	w->n_making++;
	warm_conn_limit(c, w->up->all->conf->timeouts.connect);
	if (warm_conn_dial(c) < 0)
		warm_conn_failed(c, UPSTREAM_FAILED_RESOLVE, ENOMEM, NULL);
}

/* --- from outside --- */

static void warm_count(struct warm *w)
{
	uint64_t window = w->setup_ms > WINDOW_MIN_MS ? w->setup_ms : WINDOW_MIN_MS;

	if (warm_now(w) - w->window_ms >= window) {
		w->window_ms = warm_now(w);
		w->wanted = 0;
	}
	w->wanted++;
	if (w->wanted * PEAK_ONE > w->peak)
		w->peak = w->wanted * PEAK_ONE;
}

/* The kernel knows of an end a moment before the loop tells. */
static bool warm_conn_lives(const struct warm_conn *c)
{
	char byte;

	return recv(c->source->fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

bool warm_take(struct warms *ws, size_t upstream, struct handshake *h, struct warm_taken *out)
{
	struct warm *w = ws != NULL ? ws->by_index[upstream] : NULL;

	if (w == NULL || ws->stopped)
		return false;
	warm_count(w);
	warm_queue_fill(w);
	/* A trial has to show that it can be connected to. */
	if (health_share(&w->up->run->health, warm_now(w)) == 0)
		return false;
	while (!list_empty(&w->ready)) {
		struct warm_conn *c = container_of(w->ready.prev, struct warm_conn, node);

		if (!warm_conn_lives(c)) {
			warm_conn_lost(c);
			continue;
		}
		*out = (struct warm_taken){.source = c->source,
					   .peer = c->peer,
					   .egress = c->egress,
					   .greeted = warm_greets(w)};
		c->source->on_event = NULL;
		c->source = NULL;
		if (out->greeted)
			*h = c->handshake;
		warm_conn_end(c);
		return true;
	}
	return false;
}

void warm_proved(int fd)
{
	const int none = 0;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &none, sizeof(none));
}

static size_t warm_share(const struct upstream_conf *c, unsigned worker, unsigned n_workers)
{
	if (c->url.scheme == PROXY_DIRECT)
		return 0;
	return c->warm / n_workers + (worker < c->warm % n_workers);
}

size_t warms_descriptors(const struct conf *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_upstreams; i++)
		n += warm_share(&c->upstreams[i], 0, 1);
	return n;
}

static void warm_init(struct warm *w, struct warms *ws, struct upstream *up, size_t share)
{
	*w = (struct warm){.all = ws, .up = up, .share = share, .age_ms = WARM_AGE_MS};
	w->window_ms = ws->o.loop->now_ms;
	list_init(&w->making);
	list_init(&w->ready);
	loop_task_init(&w->fill);
	timer_init(&w->tick);
	loop_timer(ws->o.loop, &w->tick, warm_jitter(w, TICK_MS), warm_tick);
	warm_queue_fill(w);
}

static void warms_release(struct dying *d)
{
	struct warms *ws = container_of(d, struct warms, dying);

	pool_destroy(&ws->pool);
	upstreams_unref(ws->o.upstreams);
	free(ws->by_index);
	free(ws->items);
	free(ws);
}

int warms_new(const struct warms_options *o, struct warms **out, struct diag *d)
{
	size_t n = o->upstreams->n;
	struct warms *ws;

	*out = NULL;
	if (warms_descriptors(o->upstreams->conf) == 0)
		return 0;
	ws = calloc(1, sizeof(*ws));
	if (ws == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	ws->o = *o;
	upstreams_ref(o->upstreams);
	pool_init(&ws->pool, sizeof(struct warm_conn));
	ws->random = (uint32_t)o->loop->now_ms * 2654435761u + o->worker + 1;
	ws->random += ws->random == 0;
	ws->by_index = calloc(n, sizeof(struct warm *));
	ws->items = calloc(n, sizeof(struct warm));
	if (ws->by_index == NULL || ws->items == NULL) {
		warms_release(&ws->dying);
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	}
	for (size_t i = 0; i < n; i++) {
		struct upstream *up = &o->upstreams->items[i];
		size_t share = warm_share(up->conf, o->worker, o->n_workers);

		if (share == 0)
			continue;
		ws->by_index[i] = &ws->items[ws->n++];
		warm_init(ws->by_index[i], ws, up, share);
	}
	*out = ws;
	return 0;
}

void warms_stop(struct warms *ws)
{
	if (ws == NULL || ws->stopped)
		return;
	ws->stopped = true;
	for (size_t i = 0; i < ws->n; i++) {
		struct warm *w = &ws->items[i];
		struct list *node, *tmp;

		timer_cancel(&w->tick);
		loop_unqueue(&w->fill);
		warm_drop_all(w);
		list_for_each_safe (node, tmp, &w->making)
			warm_conn_drop(container_of(node, struct warm_conn, node));
	}
}

void warms_free(struct warms *ws)
{
	if (ws == NULL)
		return;
	warms_stop(ws);
	loop_bury(ws->o.loop, &ws->dying, warms_release);
}
