/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/probe.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/log.h"
#include "daemon/net/dial.h"
#include "daemon/proto/proxy_v2.h"
#include "daemon/upstream/handshake.h"

#define FIRST_MS 1000
/* Sockets of a dial that race, and the name servers'. */
#define DESCRIPTORS_EACH 2
#define DESCRIPTORS_ALL  8

/* Those of one upstream, one after the other. */
struct probe {
	struct probes *all;
	struct upstream *up;
	const struct group_conf *group;
	struct timer timer; /* until the next one begins, or the limit of its phase */
	uint64_t began_ms;
	uint64_t reached_ms; /* probe_dest, the last time; 0: never */
	bool missed;         /* the last one has not */
	bool said;           /* of the group: that nobody does */
	struct dial dial;
	struct source *source;
	struct buf *in; /* while it is under way */
	bool readable, behind, greeting;
	struct handshake handshake;
};

struct probes {
	struct loop *loop;
	struct upstreams *upstreams;
	struct resolver *resolver;
	struct dying dying;
	uint32_t random;
	size_t n;
	struct probe items[];
};

static uint64_t probe_now(const struct probe *p)
{
	return p->all->loop->now_ms;
}

/* xorshift32: only so that not all of them are sent together. */
static uint32_t probes_random(struct probes *ps)
{
	ps->random ^= ps->random << 13;
	ps->random ^= ps->random >> 17;
	ps->random ^= ps->random << 5;
	return ps->random;
}

/* --- the end of one, and the next --- */

static void probe_begin(struct timer *t);

/* Within a tenth of the interval; sooner where an ejection ends before that. */
static void probe_schedule(struct probe *p)
{
	const struct health *h = &p->up->run->health;
	uint64_t ms = (uint64_t)p->group->probe_interval, now = probe_now(p);
	uint64_t until = atomic_load_explicit(&h->until_ms, memory_order_relaxed);

	ms = ms - ms / 10 + probes_random(p->all) % (ms / 5 + 1);
	if (health_share(h, now) == 0 && until > now && until - now < ms)
		ms = until - now;
	loop_timer(p->all->loop, &p->timer, ms, probe_begin);
}

static void probe_stop(struct probe *p)
{
	int fd;

	dial_cancel(&p->dial);
	timer_cancel(&p->timer);
	free(p->in);
	p->in = NULL;
	if (p->source == NULL)
		return;
	fd = p->source->fd;
	loop_unwatch(p->all->loop, p->source);
	p->source = NULL;
	close(fd);
}

static bool probe_is_full(const struct probe *p)
{
	return p->group->probe_dest[0] != '\0';
}

/* Whether another member of the group has lately reached what `p` has not. */
static bool probe_others_reach(const struct probe *p)
{
	uint64_t interval = (uint64_t)p->group->probe_interval;

	for (size_t i = 0; i < p->all->n; i++) {
		const struct probe *other = &p->all->items[i];

		if (other != p && other->group == p->group && other->reached_ms != 0 &&
		    other->reached_ms + interval >= p->began_ms)
			return true;
	}
	return false;
}

/* Once, when the last probe of each member has missed it. */
static void probe_say_missed(struct probe *p, const char *error)
{
	struct log_line line;

	for (size_t i = 0; i < p->all->n; i++)
		if (p->all->items[i].group == p->group && !p->all->items[i].missed)
			return;
	if (!p->said && log_begin(&line, LOG_LEVEL_WARNING,
				  "no upstream of the group reaches probe_dest, which is held "
				  "against none of them")) {
		log_add(&line, "group", p->group->name);
		log_add(&line, "probe_dest", p->group->probe_dest);
		log_add(&line, "error", error);
		log_end(&line);
	}
	for (size_t i = 0; i < p->all->n; i++)
		if (p->all->items[i].group == p->group)
			p->all->items[i].said = true;
}

static void probe_reached(struct probe *p)
{
	p->reached_ms = probe_now(p);
	p->missed = false;
	for (size_t i = 0; i < p->all->n; i++)
		if (p->all->items[i].group == p->group)
			p->all->items[i].said = false;
}

static void probe_worked(struct probe *p, bool connected)
{
	upstream_probed(p->up, connected, p->began_ms, probe_now(p));
	probe_stop(p);
	probe_schedule(p);
}

static void probe_failed(struct probe *p, enum upstream_failure kind, int err, const char *detail)
{
	p->missed = true;
	upstream_failed(p->up, kind, err, detail, p->began_ms, probe_now(p));
	probe_stop(p);
	probe_schedule(p);
}

/* The destination was not reached, and the upstream does not say that it is to blame. */
static void probe_missed(struct probe *p, bool answered, int err, const char *detail)
{
	if (probe_others_reach(p))
		return probe_failed(p, UPSTREAM_FAILED_PROBE, err, detail);
	p->missed = true;
	probe_say_missed(p, detail != NULL ? detail : strerror(err));
	if (answered)
		return probe_worked(p, false);
	upstream_unknown(p->up, p->began_ms);
	probe_stop(p);
	probe_schedule(p);
}

static void probe_timeout(struct timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	if (p->source == NULL)
		probe_failed(p,
			     p->dial.phase == DIAL_RESOLVE ? UPSTREAM_FAILED_RESOLVE
							   : UPSTREAM_FAILED_CONNECT,
			     ETIMEDOUT, NULL);
	else if (p->greeting)
		probe_failed(p, UPSTREAM_FAILED_GREETING, ETIMEDOUT, NULL);
	else
		probe_missed(p, false, ETIMEDOUT, NULL);
}

static void probe_limit(struct probe *p, int64_t ms)
{
	if (ms > 0)
		loop_timer(p->all->loop, &p->timer, (uint64_t)ms, probe_timeout);
	else
		timer_cancel(&p->timer);
}

/* --- on its way --- */

/* It was not made to the end. */
static void probe_broke(struct probe *p, enum handshake_result r)
{
	const struct handshake *h = &p->handshake;
	bool answered = r == HANDSHAKE_REFUSED;

	if (p->greeting)
		probe_failed(p, UPSTREAM_FAILED_GREETING, h->err, h->error);
	else if (h->blame == BLAME_UPSTREAM)
		probe_failed(p, UPSTREAM_FAILED_PROBE, h->err, h->error);
	else if (h->blame == BLAME_POLICY) /* such a destination is not for all of them */
		probe_worked(p, false);
	else
		probe_missed(p, answered, h->err, h->error);
}

static void probe_step(struct probe *p)
{
	struct handshake *h = &p->handshake;
	enum handshake_result r = handshake_step(h, p->source->fd, p->in, &p->readable, p->behind);

	if (r == HANDSHAKE_DONE && probe_is_full(p))
		probe_reached(p);
	if (r == HANDSHAKE_READY || r == HANDSHAKE_DONE)
		return probe_worked(p, r == HANDSHAKE_READY && !upstream_greets(p->up));
	if (r != HANDSHAKE_WAIT)
		return probe_broke(p, r);
	if (p->greeting && !handshake_greeting(h)) {
		p->greeting = false;
		probe_limit(p, p->up->all->conf->timeouts.reply);
	}
}

static void probe_event(struct source *src, uint32_t events)
{
	struct probe *p = src->owner;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLHUP | EPOLLERR))
		p->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLPRI))
		p->behind = true;
	probe_step(p);
}

/* `text` is "host:port", as the configuration has checked. */
static struct proto_dest probe_dest(const char *text)
{
	struct proto_dest dest = {.addr = {.family = AF_UNSPEC}};
	const char *colon = strrchr(text, ':');

	if (addr_parse_endpoint(&dest.addr, text) == 0) {
		dest.port = dest.addr.port;
		return dest;
	}
	dest.addr = (struct addr){.family = AF_UNSPEC};
	if (colon == NULL || port_parse(&dest.port, colon + 1) < 0)
		return dest;
	dest.name_len = (uint8_t)(colon - text);
	memcpy(dest.name, text, dest.name_len);
	return dest;
}

static void probe_dialled(struct dial *d, int status)
{
	struct probe *p = d->owner;
	const struct upstream_conf *conf = p->up->conf;
	uint8_t header[PROXY_V2_OUT_MAX];
	struct proto_dest dest;

	if (status < 0)
		return probe_failed(p,
				    d->phase == DIAL_RESOLVE ? UPSTREAM_FAILED_RESOLVE
							     : UPSTREAM_FAILED_CONNECT,
				    -status, status == -ENOENT ? "the name has no address" : NULL);
	p->source = d->won;
	p->source->on_event = probe_event;
	p->source->owner = p;
	p->readable = p->behind = false;
	handshake_start(&p->handshake, &conf->url, header,
			conf->proxy_protocol ? proxy_v2_write_local(header) : 0, false);
	if (probe_is_full(p)) {
		dest = probe_dest(p->group->probe_dest);
		handshake_dest(&p->handshake, &dest);
	}
	p->greeting = handshake_greeting(&p->handshake);
	probe_limit(p, p->greeting ? p->up->all->conf->timeouts.greeting
				   : p->up->all->conf->timeouts.reply);
	probe_event(p->source, d->events);
}

static int probe_dial(struct probe *p)
{
	const struct proxy_url *url = &p->up->conf->url;
	const struct sock_options o = upstream_sock_options(p->up, true);

	if (url->addr.family == AF_UNSPEC)
		return dial_name(&p->dial, p->all->loop, p->all->resolver, &o, url->host, url->port,
				 probe_dialled, p);
	dial_addr(&p->dial, p->all->loop, &o, &url->addr, probe_dialled, p);
	return 0;
}

static void probe_begin(struct timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	p->in = malloc(sizeof(*p->in));
	if (p->in == NULL)
		return probe_schedule(p);
	p->in->off = p->in->len = 0;
	p->began_ms = probe_now(p);
	health_take_trial(&p->up->run->health, p->began_ms);
	probe_limit(p, p->up->all->conf->timeouts.connect);
	if (probe_dial(p) < 0)
		probe_failed(p, UPSTREAM_FAILED_RESOLVE, ENOMEM, NULL);
}

/* --- all of them --- */

static const struct group_conf *probe_group(const struct conf *c, size_t upstream)
{
	const struct upstream_conf *up = &c->upstreams[upstream];
	const struct group_conf *g = &c->groups[up->group_index];

	return g->probe_interval > 0 && up->url.scheme != PROXY_DIRECT ? g : NULL;
}

static size_t probes_count(const struct conf *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_upstreams; i++)
		n += probe_group(c, i) != NULL;
	return n;
}

size_t probes_descriptors(const struct conf *c)
{
	size_t n = probes_count(c);
	return n > 0 ? n * DESCRIPTORS_EACH + DESCRIPTORS_ALL : 0;
}

static void probes_release(struct dying *d)
{
	struct probes *ps = container_of(d, struct probes, dying);

	resolver_free(ps->resolver);
	upstreams_unref(ps->upstreams);
	free(ps);
}

static void probe_init(struct probe *p, struct probes *ps, size_t upstream)
{
	*p = (struct probe){.all = ps,
			    .up = &ps->upstreams->items[upstream],
			    .group = probe_group(ps->upstreams->conf, upstream)};
	timer_init(&p->timer);
	loop_timer(ps->loop, &p->timer, probes_random(ps) % FIRST_MS, probe_begin);
}

int probes_new(struct loop *loop, struct upstreams *u, struct probes **out, struct diag *d)
{
	const struct sock_options o = {.mark = u->conf->mark};
	size_t n = probes_count(u->conf);
	struct probes *ps;
	int rc;

	*out = NULL;
	if (n == 0)
		return 0;
	ps = calloc(1, sizeof(*ps) + n * sizeof(ps->items[0]));
	if (ps == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	rc = resolver_new(loop, &u->conf->dns.servers, &o, &ps->resolver, d);
	if (rc < 0) {
		free(ps);
		return rc;
	}
	ps->loop = loop;
	ps->upstreams = upstreams_ref(u);
	ps->random = (uint32_t)loop->now_ms | 1;
	for (size_t i = 0; i < u->n; i++)
		if (probe_group(u->conf, i) != NULL)
			probe_init(&ps->items[ps->n++], ps, i);
	*out = ps;
	return 0;
}

void probes_free(struct probes *ps)
{
	if (ps == NULL)
		return;
	for (size_t i = 0; i < ps->n; i++) {
		if (ps->items[i].in != NULL) /* under way */
			upstream_unknown(ps->items[i].up, ps->items[i].began_ms);
		probe_stop(&ps->items[i]);
	}
	loop_bury(ps->loop, &ps->dying, probes_release);
}
