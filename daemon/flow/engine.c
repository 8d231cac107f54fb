/* SPDX-License-Identifier: MIT */
#include "daemon/flow/engine.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/shared.h"
#include "daemon/flow/record.h"
#include "daemon/flow/rest.h"
#include "daemon/flow/session.h"

/* A paused worker looks again so often: the flow that ends may be another worker's. */
#define PAUSE_MS 100
/* A leg that moved nothing for so long gives its pipe back. */
#define SWEEP_MS 100

int engine_init(struct engine *e, unsigned id, const struct inbound *inbound, struct budget *budget,
		size_t max_listeners, size_t max_pipes, struct diag *d)
{
	int rc;

	*e = (struct engine){.id = id, .inbound = inbound, .budget = budget};
	rc = loop_init(&e->loop, d);
	if (rc < 0)
		return rc;
	pool_init(&e->sessions, sizeof(struct session));
	pool_init(&e->rares, sizeof(struct session_rare));
	pool_init(&e->setups, sizeof(struct setup));
	pool_init(&e->binds, sizeof(struct bind));
	pool_init(&e->bufs, sizeof(struct buf));
	pool_init(&e->udps, sizeof(struct udp));
	texts_init(&e->texts);
	pipes_init(&e->pipes, max_pipes);
	owner_init(&e->owns);
	login_desk_init(&e->desk, &budget->logins, &e->loop);
	rc = server_first_init(&e->server_first);
	if (rc < 0) {
		loop_destroy(&e->loop);
		return diag_set(d, -rc, NULL, 0, "no random bytes: %s", strerror(-rc));
	}
	list_init(&e->live);
	list_init(&e->bulky);
	timer_init(&e->sweep);
	timer_init(&e->pause);
	refusals_init(&e->refusals, &e->loop);
	half_open_init(&e->half_open);
	resolving_start(e);
	pool_init(&e->rests, sizeof(struct rest));
	e->scratch = pool_get(&e->bufs);
	e->listeners = calloc(max_listeners, sizeof(*e->listeners));
	if (e->scratch == NULL || e->listeners == NULL) {
		engine_destroy(e);
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	}
	e->scratch->off = e->scratch->len = 0;
	return 0;
}

static bool engine_has_room(const struct engine *e)
{
	return atomic_load_explicit(&e->budget->live, memory_order_relaxed) <
	       atomic_load_explicit(&e->budget->max, memory_order_relaxed);
}

static void engine_resume(struct engine *e)
{
	e->paused = false;
	timer_cancel(&e->pause);
	for (size_t i = 0; i < e->n_listeners; i++)
		listener_resume(&e->listeners[i]);
}

static void engine_pause_over(struct timer *t)
{
	struct engine *e = container_of(t, struct engine, pause);

	if (engine_has_room(e))
		engine_resume(e);
	else
		loop_timer(&e->loop, &e->pause, PAUSE_MS, engine_pause_over);
}

/* New connections wait in the kernel's queue. */
static void engine_pause(struct engine *e)
{
	struct log_line line;

	e->paused = true;
	SHARED_ADD(e->counts.pauses, 1);
	for (size_t i = 0; i < e->n_listeners; i++)
		listener_pause(&e->listeners[i]);
	loop_timer(&e->loop, &e->pause, PAUSE_MS, engine_pause_over);
	if (log_once_a_second(&e->budget->said_ms, e->loop.now_ms) &&
	    log_begin(&line, LOG_LEVEL_WARNING, "as many flows as there may be, new ones wait")) {
		log_add_uint(&line, "max_flows", atomic_load(&e->budget->max));
		log_end(&line);
	}
}

static void engine_accept(struct listener *l, int fd, const struct addr *peer)
{
	struct engine *e = l->owner;

	if (e->draining && !engine_has_room(e)) {
		record_write_refused(peer, WHY_CUT, 0);
		engine_flow_ended(e, WHY_CUT);
		counts_dropped(e);
		sock_close_reset(fd);
		return;
	}
	SHARED_ADD(e->n_live, 1);
	atomic_fetch_add_explicit(&e->budget->live, 1, memory_order_relaxed);
	if (!e->paused && !e->draining && !engine_has_room(e))
		engine_pause(e);
	session_accept(e, l, fd, peer);
}

int engine_listen(struct engine *e, int fd, const struct addr *addr, struct diag *d)
{
	int rc =
		listener_start(&e->listeners[e->n_listeners], &e->loop, fd, addr, engine_accept, e);

	if (rc < 0) {
		close(fd);
		return diag_set(d, -rc, NULL, 0, "cannot watch a listener: %s", strerror(-rc));
	}
	e->n_listeners++;
	return 0;
}

struct view *view_ref(struct view *v)
{
	v->refs++;
	return v;
}

void view_unref(struct view *v)
{
	if (v == NULL || --v->refs > 0)
		return;
	warms_free(v->warms);
	resolver_free(v->resolver);
	plan_unref(v->plan);
	free(v);
}

static struct view *view_new(struct plan *plan)
{
	const struct conf *c = plan->conf;
	struct view *v = calloc(1, sizeof(*v) + c->n_upstreams * sizeof(v->upstreams[0]));

	if (v == NULL)
		return NULL;
	v->sock = (struct sock_options){.mark = c->mark, .iface = c->egress.iface};
	return v;
}

/* Those of the view before are closed first: there are descriptors for one set. */
static int view_warm_up(struct view *v, struct engine *e, struct diag *d)
{
	const struct warms_options o = {
		.loop = &e->loop,
		.upstreams = v->plan->upstreams,
		.resolver = v->resolver,
		.scratch = &e->scratch,
		.worker = e->id,
		.n_workers = e->budget->n_workers,
	};

	if (e->view != NULL)
		warms_stop(e->view->warms);
	return warms_new(&o, &v->warms, d);
}

/* Whoever may connect to where a client says must know which addresses are its own. */
static int engine_guard(struct engine *e, struct view *v, const struct plan *plan, struct diag *d)
{
	const struct conf *c = plan->conf;
	int rc;

	if (!c->acl.enforced && !plan->goes_direct)
		return 0;
	rc = e->own_addrs.set == NULL ? own_addrs_init(&e->own_addrs, &e->loop, d) : 0;
	guard_init(&v->guard, &c->acl, &e->own_addrs, plan->egress);
	return rc;
}

int engine_use(struct engine *e, struct plan *plan, struct diag *d)
{
	const struct conf *c = plan->conf;
	struct view *v = view_new(plan);
	int rc;

	if (v == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	rc = engine_guard(e, v, plan, d);
	if (rc == 0)
		rc = resolver_new(&e->loop, &c->dns.servers, &v->sock, &v->resolver, d);
	if (rc < 0) {
		free(v);
		return rc;
	}
	resolver_count(v->resolver, &e->counts.resolve);
	v->engine = e;
	v->plan = plan_ref(plan);
	v->refs = 1;
	rc = view_warm_up(v, e, d);
	if (rc < 0) {
		view_unref(v);
		return rc;
	}
	view_unref(e->view);
	e->view = v;
	for (size_t i = 0; i < e->n_listeners; i++)
		listener_keepalive(&e->listeners[i], c->timeouts.keepalive);
	return 0;
}

static void *engine_thread(void *arg)
{
	struct engine *e = arg;

	loop_run(&e->loop);
	refusals_end(&e->refusals);
	e->on_finish(e);
	return NULL;
}

int engine_start(struct engine *e, void (*on_finish)(struct engine *e), void *owner, struct diag *d)
{
	int rc;

	e->on_finish = on_finish;
	e->owner = owner;
	rc = pthread_create(&e->thread, NULL, engine_thread, e);
	return rc == 0 ? 0 : diag_set(d, rc, NULL, 0, "cannot start a worker: %s", strerror(rc));
}

/* On its way to all workers. The last one that is done with it says so, and frees it. */
struct reload {
	struct plan *plan;
	atomic_uint n_left;
	atomic_bool failed;
	struct reload_part {
		struct post post;
		struct reload *reload;
		struct engine *engine;
	} parts[];
};

/* How much there is of what an operator may have meant to change. */
static void reload_log(const struct conf *c)
{
	size_t domains = 0, networks = 0;
	struct log_line line;

	if (!log_begin(&line, LOG_LEVEL_INFO, "configuration reloaded"))
		return;
	for (size_t i = 0; i < c->rules.n; i++) {
		const struct flow_rule *r = &c->rules.rules[i];

		domains += r->domain_set != NULL ? domain_set_count(r->domain_set) : 0;
		networks += r->network_set != NULL ? prefix_set_count(r->network_set) : 0;
	}
	log_add_uint(&line, "files", c->files.n);
	if (c->n_upstreams > 0) {
		log_add_uint(&line, "upstreams", c->n_upstreams);
		log_add_uint(&line, "rules", c->rules.n);
		log_add_uint(&line, "domains", domains);
		log_add_uint(&line, "networks", networks);
	}
	log_end(&line);
}

static void reload_done(struct reload *r)
{
	if (atomic_fetch_sub(&r->n_left, 1) > 1)
		return;
	if (!atomic_load(&r->failed))
		reload_log(r->plan->conf);
	plan_unref(r->plan);
	free(r);
}

static void engine_do_reload(struct post *p)
{
	struct reload_part *part = container_of(p, struct reload_part, post);
	struct engine *e = part->engine;
	struct diag d;
	int rc = engine_use(e, part->reload->plan, &d);

	if (rc < 0) {
		log_text(LOG_LEVEL_ERROR, "worker %u keeps its configuration: %s", e->id, d.text);
		atomic_store(&part->reload->failed, true);
	}
	/* There may be more flows than there may be from now on. */
	if (!e->paused && !e->draining && !engine_has_room(e))
		engine_pause(e);
	reload_done(part->reload);
}

void engines_reload(struct engine *engines, unsigned n, struct plan *plan)
{
	struct reload *r = malloc(sizeof(*r) + n * sizeof(r->parts[0]));

	if (r == NULL) {
		log_text(LOG_LEVEL_ERROR, "the workers keep their configuration: out of memory");
		return;
	}
	r->plan = plan_ref(plan);
	atomic_init(&r->n_left, n);
	atomic_init(&r->failed, false);
	for (unsigned i = 0; i < n; i++) {
		r->parts[i] = (struct reload_part){.reload = r, .engine = &engines[i]};
		loop_post(&engines[i].loop, &r->parts[i].post, engine_do_reload);
	}
}

static void engine_check_drained(struct engine *e)
{
	if (e->draining && e->n_live == 0)
		loop_stop(&e->loop);
}

static void engine_do_drain(struct post *p)
{
	struct engine *e = container_of(p, struct engine, drain);

	e->draining = true;
	timer_cancel(&e->pause);
	warms_stop(e->view->warms);
	for (size_t i = 0; i < e->n_listeners; i++)
		listener_drain(&e->listeners[i]);
	engine_check_drained(e);
}

static void engine_do_cut(struct post *p)
{
	struct engine *e = container_of(p, struct engine, cut);
	struct list *node, *tmp;

	list_for_each_safe (node, tmp, &e->live)
		session_end(container_of(node, struct session, node), WHY_CUT, 0, NULL);
}

void engine_drain(struct engine *e)
{
	loop_post(&e->loop, &e->drain, engine_do_drain);
}

void engine_cut(struct engine *e)
{
	loop_post(&e->loop, &e->cut, engine_do_cut);
}

void engine_flow_ended(struct engine *e, enum why why)
{
	SHARED_ADD(e->ended[why], 1);
}

void engine_flow_released(struct engine *e)
{
	SHARED_SUB(e->n_live, 1);
	atomic_fetch_sub_explicit(&e->budget->live, 1, memory_order_relaxed);
	if (e->paused && !e->draining && engine_has_room(e))
		engine_resume(e);
	engine_check_drained(e);
}

struct buf *engine_keep_scratch(struct engine *e)
{
	struct buf *fresh = pool_get(&e->bufs);
	struct buf *kept = e->scratch;

	if (fresh == NULL) {
		kept->off = kept->len = 0;
		return NULL;
	}
	fresh->off = fresh->len = 0;
	e->scratch = fresh;
	return kept;
}

static void engine_sweep(struct timer *t)
{
	struct engine *e = container_of(t, struct engine, sweep);
	struct list *node, *tmp;

	list_for_each_safe (node, tmp, &e->bulky) {
		struct pipe *pipe = container_of(node, struct pipe, node);
		struct leg *leg = pipe->user;

		if (pipe->fill == 0 && pipe->seen == leg->nbytes)
			engine_take_pipe(e, leg);
		else
			pipe->seen = leg->nbytes;
	}
	if (!list_empty(&e->bulky))
		loop_timer(&e->loop, &e->sweep, SWEEP_MS, engine_sweep);
}

bool engine_give_pipe(struct engine *e, struct leg *leg)
{
	struct pipe *pipe = pipes_get(&e->pipes);

	if (pipe == NULL)
		return false;
	leg->pipe = pipe;
	pipe->user = leg;
	pipe->seen = leg->nbytes;
	list_add_tail(&e->bulky, &pipe->node);
	if (!timer_is_set(&e->sweep))
		loop_timer(&e->loop, &e->sweep, SWEEP_MS, engine_sweep);
	return true;
}

void engine_take_pipe(struct engine *e, struct leg *leg)
{
	pipes_put(&e->pipes, leg->pipe);
	leg->pipe = NULL;
}

void engine_destroy(struct engine *e)
{
	for (size_t i = 0; i < e->n_listeners; i++)
		listener_stop(&e->listeners[i]);
	resolving_stop(e);
	view_unref(e->view);
	pool_put(&e->bufs, e->scratch);
	free(e->listeners);
	timer_cancel(&e->sweep);
	timer_cancel(&e->half_open.timer);
	pipes_destroy(&e->pipes);
	owner_close(&e->owns);
	own_addrs_destroy(&e->own_addrs);
	server_first_destroy(&e->server_first);
	loop_destroy(&e->loop);
	pool_destroy(&e->sessions);
	pool_destroy(&e->rares);
	pool_destroy(&e->setups);
	pool_destroy(&e->binds);
	pool_destroy(&e->rests);
	pool_destroy(&e->bufs);
	pool_destroy(&e->udps);
	texts_destroy(&e->texts);
}
