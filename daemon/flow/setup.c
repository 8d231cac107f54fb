/* SPDX-License-Identifier: MIT */
#include "daemon/flow/setup.h"

#include <errno.h>
#include <string.h>

#include "daemon/flow/outgoing.h"
#include "daemon/flow/relay.h"
#include "daemon/proto/proxy_v2.h"

static const struct upstream_conf *setup_conf(const struct session *s)
{
	return s->upstream->conf;
}

/* What this worker has learned of the upstream that is being tried. */
static struct view_upstream *setup_view(const struct session *s)
{
	return &s->view->upstreams[s->setup->order[s->setup->at]];
}

static uint64_t setup_now(const struct session *s)
{
	return s->engine->loop.now_ms;
}

static bool setup_is_over(const struct session *s)
{
	return s->setup->deadline_ms != 0 && setup_now(s) >= s->setup->deadline_ms;
}

static void setup_drop_remote(struct session *s)
{
	dial_cancel(&s->setup->dial);
	session_close_remote(s);
}

/* The attempt at this upstream is over without having shown whether it works. */
static void setup_abandon(struct session *s)
{
	struct setup *p = s->setup;

	if (s->upstream == NULL)
		return;
	if (!p->told)
		upstream_unknown(s->upstream, p->began_ms);
	p->told = true;
	flight_forget(&setup_view(s)->flight, p->way);
}

void setup_stop(struct session *s)
{
	login_cancel(&s->setup->login);
	resolving_abandon(s);
	dial_cancel(&s->setup->dial);
	if (s->state == SES_BIND)
		bind_stop(s);
	setup_abandon(s);
}

void setup_release(struct session *s)
{
	struct engine *e = s->engine;

	if (s->setup == NULL)
		return;
	rest_drop(&e->rests, &s->setup->rest);
	pool_put(&e->binds, s->setup->bind);
	pool_put(&e->setups, s->setup);
	s->setup = NULL;
}

static void setup_dial(struct session *s);
static void setup_next(struct session *s);

/* Past all that upstreams allow: not because one attempt has failed, but because they are known to be down. */
static bool setup_may_go_direct(const struct session *s)
{
	const struct plan *plan = s->view->plan;
	size_t group = s->setup->verdict.group;

	return plan->conf->groups[group].when_all_down == GROUP_ALL_DOWN_DIRECT &&
	       !s->setup->never_direct && upstreams_are_down(plan->upstreams, group, setup_now(s));
}

/* No upstream is left, and the group allows that. */
static void setup_go_direct(struct session *s)
{
	s->all_down = true;
	s->setup->proxied = false;
	setup_dial(s);
}

/* For the record. */
static void setup_note_failed(struct session *s, enum why why, int err, const char *detail)
{
	struct session_rare *rare = session_rare(s);

	if (rare == NULL)
		return;
	rare->failed = (uint16_t)(s->setup->order[s->setup->at] + 1);
	rare->failed_why = (uint8_t)why;
	rare->failed_err = err;
	rare->failed_detail = detail;
}

/* The upstream that was tried is not there, or does not answer: the next one is tried. */
static void setup_failed(struct session *s, enum why why, int err, const char *detail)
{
	struct setup *p = s->setup;
	bool last = p->at + 1 >= p->n_order;

	p->never_direct = p->never_direct || !upstream_is_to_blame(err);
	if (setup_is_over(s) || (last && !setup_may_go_direct(s)))
		return session_end(s, why, err, detail);
	setup_note_failed(s, why, err, detail);
	setup_drop_remote(s);
	setup_abandon(s);
	session_leave_upstream(s);
	p->again = p->told_address = false;
	p->reply_spent_ms = 0;
	if (last) {
		setup_go_direct(s);
	} else {
		p->at++;
		setup_next(s);
	}
}

/* The same, and it is the upstream's fault, if there is one in between. */
static void setup_blame(struct session *s, enum upstream_failure kind, enum why why, int err,
			const char *detail)
{
	struct setup *p = s->setup;

	if (sock_is_shortage(err))
		return session_end(s, WHY_NO_MEMORY, err, NULL);
	if (!p->proxied)
		return session_end(s, why, err, detail);
	p->told = true;
	upstream_failed(s->upstream, kind, err, detail, p->began_ms, setup_now(s));
	setup_failed(s, why, err, detail);
}

static void setup_replied(struct session *s, enum upstream_reply reply)
{
	upstream_replied(s->upstream, reply, s->setup->began_ms, setup_now(s));
}

static bool setup_go_again(struct session *s);
static bool setup_leaves_warm(struct session *s);

static void setup_timeout(struct timer *t)
{
	struct session *s = container_of(t, struct session, timer);
	struct setup *p = s->setup;
	enum why why = p->timeout_why;

	if (why == WHY_CONNECT_TIMEOUT && p->dial.phase == DIAL_RESOLVE)
		why = WHY_RESOLVE_TIMEOUT;
	else if (why == WHY_CONNECT_TIMEOUT)
		counts_dial(s->engine, COUNTS_DIAL_TIMEOUT, p->dial.connect_ms);
	if (setup_is_over(s))
		return session_end(s, WHY_SETUP_TIMEOUT, 0, why_rows[why].word);
	if (s->state == SES_DIAL)
		return setup_blame(s,
				   why == WHY_CONNECT_TIMEOUT ? UPSTREAM_FAILED_CONNECT
							      : UPSTREAM_FAILED_RESOLVE,
				   why, ETIMEDOUT, NULL);
	if (s->state != SES_HANDSHAKE)
		return session_end(s, why, ETIMEDOUT, NULL);
	if (setup_leaves_warm(s))
		return;
	if (why == WHY_GREETING_TIMEOUT) {
		flight_silent(&setup_view(s)->flight, p->way, setup_now(s));
		setup_blame(s, UPSTREAM_FAILED_GREETING, why, ETIMEDOUT, NULL);
	} else if (!setup_go_again(s)) {
		setup_replied(s, UPSTREAM_REPLY_NONE);
		session_end(s, why, ETIMEDOUT, NULL);
	}
}

void setup_phase(struct session *s, enum why timeout_why, int64_t ms)
{
	uint64_t now = setup_now(s);
	uint64_t end = ms > 0 ? now + (uint64_t)ms : UINT64_MAX;

	s->setup->timeout_why = timeout_why;
	if (s->setup->deadline_ms != 0 && s->setup->deadline_ms < end)
		end = s->setup->deadline_ms;
	if (end == UINT64_MAX)
		timer_cancel(&s->timer);
	else
		loop_timer(&s->engine->loop, &s->timer, end > now ? end - now : 0, setup_timeout);
}

void setup_established(struct session *s)
{
	struct engine *e = s->engine;
	int rc;

	if (e->inbound->answer != NULL) {
		rc = e->inbound->answer(s, WHY_DONE, 0);
		if (rc < 0)
			return session_end_failed(s, WHY_CLIENT_GONE, -rc);
	}
	timer_cancel(&s->timer);
	counts_granted(s);
	setup_release(s);
	s->state = SES_RELAY;
	relay_start(s);
}

/* --- the handshake --- */

/* Whether the upstream that is tried is told the name instead of the address. */
static bool setup_tells_name(const struct session *s)
{
	const struct setup *p = s->setup;

	if (s->name == NULL || p->told_address)
		return s->dest.family == AF_UNSPEC;
	return upstream_address_is_name(setup_conf(s)->address, p->verdict.by_name);
}

static void setup_tell_dest(struct session *s)
{
	struct setup *p = s->setup;
	struct proto_dest dest = {.addr = s->dest, .port = s->port};

	p->tells_name = setup_tells_name(s);
	if (p->tells_name) {
		dest.addr = (struct addr){.family = AF_UNSPEC};
		dest.name_len = (uint8_t)strlen(s->name);
		memcpy(dest.name, s->name, dest.name_len + 1u);
	}
	handshake_dest(&p->handshake, &dest);
}

static void setup_handshake_begin(struct session *s)
{
	struct setup *p = s->setup;
	const struct upstream_conf *up = setup_conf(s);
	uint8_t header[PROXY_V2_OUT_MAX];
	size_t header_len = 0;

	if (up->url.scheme != PROXY_SOCKS5)
		p->way = FLIGHT_STRICT;
	else if (!p->again)
		p->way = flight_begin(&setup_view(s)->flight, s->view->plan->conf->handshake,
				      setup_now(s));
	if (up->proxy_protocol)
		header_len = proxy_v2_write(header, &s->client_addr, &s->dest, s->name);
	handshake_start(&p->handshake, &up->url, header, header_len, flight_is_one(p->way));
	setup_tell_dest(s);
}

/* This attempt is not the last one at the upstream, but timeouts.reply is for all of them. */
static void setup_note_spent(struct session *s)
{
	struct setup *p = s->setup;

	if (!handshake_greeting(&p->handshake))
		p->reply_spent_ms += setup_now(s) - p->reply_ms;
}

/* The upstream did not answer as one that takes everything at once does. True: the flow goes again, strictly,
 * once; no byte of its client has been sent. */
static bool setup_go_again(struct session *s)
{
	struct setup *p = s->setup;

	if (!flight_may_fail(p->way))
		return false;
	p->way = flight_failed(&setup_view(s)->flight, p->way);
	p->again = true;
	setup_note_spent(s);
	setup_drop_remote(s);
	setup_dial(s);
	return true;
}

/* The upstream could not resolve the name, perhaps. True: it is asked for the address instead, once, because that is
 * written: it is a way around rules on domains. */
static bool setup_falls_back(struct session *s, enum handshake_result r)
{
	struct setup *p = s->setup;

	if (!setup_conf(s)->name_fallback || !p->tells_name ||
	    !handshake_may_be_name(&p->handshake, r))
		return false;
	/* Another question: how the one about the name went says nothing of how this one does. */
	flight_forget(&setup_view(s)->flight, p->way);
	p->again = false;
	p->told_address = true;
	setup_drop_remote(s);
	setup_dial(s);
	return true;
}

static void setup_flight_worked(struct session *s)
{
	struct flight *f = &setup_view(s)->flight;
	bool given_up = f->state == FLIGHT_NO;
	uint64_t now = setup_now(s);

	flight_worked(f, s->setup->way, now - s->setup->reply_ms, now);
	s->setup->way = FLIGHT_STRICT; /* nothing is left to be told */
	if (f->state == FLIGHT_NO && !given_up)
		log_text(LOG_LEVEL_INFO,
			 "upstream %s does not take the handshake in one flight; going on step by "
			 "step",
			 setup_conf(s)->name);
}

/* All attempts together have timeouts.reply and what is left of flow_setup; one that may be followed by another
 * leaves half of that. */
static int64_t setup_reply_limit(const struct session *s)
{
	const struct setup *p = s->setup;
	int64_t ms = s->view->plan->conf->timeouts.reply, left;

	if (ms > 0 && (ms -= (int64_t)p->reply_spent_ms) <= 0)
		ms = 1;
	if (!flight_may_fail(p->way) && !p->warm)
		return ms;
	left = ms;
	if (p->deadline_ms != 0 && (left == 0 || p->reply_ms + (uint64_t)left > p->deadline_ms))
		left = (int64_t)(p->deadline_ms - p->reply_ms);
	return flight_patience(p->way, left);
}

/* The upstream is ready for requests; the reply waits for the destination. */
static void setup_await_reply(struct session *s)
{
	struct setup *p = s->setup;

	p->reply_ms = setup_now(s);
	if (!p->told && upstream_greets(s->upstream)) {
		upstream_greeted(s->upstream, p->began_ms, p->reply_ms);
		p->told = true;
	}
	setup_phase(s, WHY_REPLY_TIMEOUT, setup_reply_limit(s));
}

static enum upstream_reply setup_reply(enum proto_blame blame)
{
	static const enum upstream_reply replies[] = {
		[BLAME_UPSTREAM] = UPSTREAM_REPLY_UPSTREAM,
		[BLAME_DEST] = UPSTREAM_REPLY_DEST,
		[BLAME_POLICY] = UPSTREAM_REPLY_POLICY,
	};

	return replies[blame];
}

static enum why setup_why_failed(const struct handshake *h, enum handshake_result r)
{
	if (r == HANDSHAKE_REFUSED)
		return WHY_REPLY_REFUSED;
	return handshake_greeting(h) ? WHY_GREETING_FAILED : WHY_REPLY_FAILED;
}

/* The connection ended where a reply should have come: the upstream was killed, perhaps. True: the next one is tried. Not
 * the way without one, since this may be how a proxy refuses. */
static bool setup_was_cut(struct session *s, enum handshake_result r)
{
	struct setup *p = s->setup;
	const struct handshake *h = &p->handshake;

	if ((r != HANDSHAKE_CLOSED && r != HANDSHAKE_FAILED) || p->at + 1 >= p->n_order)
		return false;
	p->never_direct = true;
	setup_failed(s, WHY_REPLY_FAILED, h->err, h->error);
	return true;
}

/* The upstream refused, or the handshake broke. */
static void setup_handshake_failed(struct session *s, enum handshake_result r)
{
	struct setup *p = s->setup;
	const struct handshake *h = &p->handshake;
	enum why why = setup_why_failed(h, r);

	if (sock_is_shortage(h->err)) /* says nothing of the upstream */
		return session_end(s, WHY_NO_MEMORY, h->err, NULL);
	if (r != HANDSHAKE_REFUSED && setup_leaves_warm(s))
		return;
	/* Or did it take the rest of the flight for something else? */
	if ((why != WHY_REPLY_REFUSED || p->way == FLIGHT_PROBE) && setup_go_again(s))
		return;
	setup_replied(s, r == HANDSHAKE_REFUSED ? setup_reply(h->blame) : UPSTREAM_REPLY_NONE);
	if (h->blame == BLAME_UPSTREAM)
		setup_blame(s, UPSTREAM_FAILED_GREETING, why, h->err, h->error);
	else if (!setup_falls_back(s, r) && !setup_was_cut(s, r))
		session_end(s, why, h->err, h->error);
}

void setup_remote_ready(struct session *s)
{
	struct engine *e = s->engine;
	struct handshake *h = &s->setup->handshake;
	struct buf *in = s->remote.pending != NULL ? s->remote.pending : e->scratch;
	bool greeting = handshake_greeting(h);
	enum handshake_result r =
		handshake_step(h, s->remote.source->fd, in, &s->remote.readable, s->remote.behind);

	if (in == e->scratch && in->len > 0 && (s->remote.pending = engine_keep_scratch(e)) == NULL)
		return session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
	if (greeting && !handshake_greeting(h))
		setup_await_reply(s);
	if (r == HANDSHAKE_WAIT)
		return;
	if (r != HANDSHAKE_DONE)
		return setup_handshake_failed(s, r);
	setup_flight_worked(s);
	if (s->setup->warm)
		warm_proved(s->remote.source->fd);
	setup_replied(s, UPSTREAM_REPLY_DONE);
	setup_established(s);
}

/* --- dialling --- */

static void setup_handshake(struct session *s)
{
	s->state = SES_HANDSHAKE;
	setup_handshake_begin(s);
	if (handshake_greeting(&s->setup->handshake))
		setup_phase(s, WHY_GREETING_TIMEOUT, s->view->plan->conf->timeouts.greeting);
	else
		setup_await_reply(s);
	setup_remote_ready(s);
}

/* Of the upstream's, until session_close_remote() or session_leave_upstream(). */
static void setup_take_port(struct session *s, int source)
{
	s->has_port = true;
	s->egress = (int16_t)source;
}

/* What says more than the errno; or NULL. */
static const char *setup_source_trouble(const struct session *s, int status)
{
	if (!s->setup->proxied)
		return outgoing_trouble(s, status);
	if (setup_conf(s)->source.n == 0)
		return NULL;
	if (status == -EADDRNOTAVAIL)
		return s->setup->dial.no_port
			       ? "no source address has a port left towards the upstream"
			       : "no source address is one of this host";
	if (status == -EAFNOSUPPORT)
		return "no source address is of the upstream's family";
	return NULL;
}

static const char *setup_refused_text(const struct session *s, int said)
{
	const struct setup *p = s->setup;

	return p->dial.filter == &p->name_guard.filter ? name_guard_text(said)
						       : acl_text((enum acl_verdict)said);
}

/* Where the flow goes, or may not go, by its name. */
static void setup_note_dest(struct session *s, const struct addr *peer)
{
	if (s->dest.family == AF_UNSPEC) /* a name was asked for, and nothing else */
		s->dest = *peer;
	else if (!addr_equal(&s->dest, peer) && session_rare(s) != NULL)
		s->rare->dialled = *peer;
}

void setup_resolve_failed(struct session *s, int status)
{
	enum upstream_failure kind = UPSTREAM_FAILED_RESOLVE;

	if (status == -ENOENT)
		setup_blame(s, kind, WHY_RESOLVE_FAILED, 0, "the name has no address");
	else if (status == -ETIMEDOUT)
		setup_blame(s, kind, WHY_RESOLVE_TIMEOUT, 0, "no name server answered");
	else if (status == -EIO)
		setup_blame(s, kind, WHY_RESOLVE_FAILED, 0, "the name servers refuse or fail");
	else
		setup_blame(s, kind, WHY_RESOLVE_FAILED, -status, NULL);
}

static void setup_dial_failed(struct session *s, const struct dial *d, int status)
{
	if (d->phase == DIAL_REFUSED) {
		setup_note_dest(s, &d->peer);
		if (d->filter == &s->view->guard.filter)
			counts_acl(s, (enum acl_verdict)d->refused);
		return session_end(s, WHY_NETWORK_REFUSED, 0, setup_refused_text(s, d->refused));
	}
	if (!s->setup->proxied)
		outgoing_failed(s, d->source);
	if (d->phase == DIAL_CONNECT)
		setup_blame(s, UPSTREAM_FAILED_CONNECT, WHY_CONNECT_FAILED, -status,
			    setup_source_trouble(s, status));
	else
		setup_resolve_failed(s, status);
}

/* Whether the client speaks first: it has done so, or it is one of SOCKS, that has asked for a way and waits until that is
 * open. */
static bool setup_client_speaks(const struct session *s)
{
	return s->client.pending != NULL || s->engine->inbound->answer != NULL;
}

static void setup_dialled(struct dial *d, int status)
{
	struct session *s = d->owner;

	if (d->phase == DIAL_CONNECT)
		counts_dial(s->engine, status < 0 ? COUNTS_DIAL_FAILED : COUNTS_DIAL_CONNECTED,
			    d->connect_ms);
	if (status < 0)
		return setup_dial_failed(s, d, status);
	session_take_remote(s, d->won, d->events);
	if (s->setup->proxied) {
		setup_take_port(s, d->source);
		upstream_port_take(s->upstream, d->source);
		upstream_connected(s->upstream);
		setup_handshake(s);
	} else {
		setup_note_dest(s, &d->peer);
		outgoing_take(s, d->source);
		s->ack_held = setup_client_speaks(s) && s->client.pending == NULL;
		setup_established(s);
	}
}

/* What the rules are asked with. */
static struct flow_facts setup_facts(const struct session *s)
{
	return (struct flow_facts){
		.client = &s->client_addr,
		.dest = &s->dest,
		.port = s->port,
		.name = s->name,
		.name_expected = port_list_contains(&s->view->plan->conf->sniff.ports, s->port),
	};
}

/* Of transocksd; that of usocksd is there already. */
static void setup_guard_name(struct session *s)
{
	struct setup *p = s->setup;
	const struct flow_facts facts = setup_facts(s);

	if (p->dial.filter != NULL)
		return;
	name_guard_init(&p->name_guard, s->view->plan->conf, &s->engine->own_addrs, &facts);
	p->dial.filter = &p->name_guard.filter;
}

/* To the destination itself. Where a rule on domains has decided, only to where the name leads: the client could
 * name one site and mean another one's address. */
static int setup_dial_dest(struct session *s)
{
	const struct setup *p = s->setup;
	struct loop *loop = &s->engine->loop;
	struct sock_options o = outgoing_options(s);
	bool by_name;
	int rc;

	s->direct = true;
	o.speaks_first = setup_client_speaks(s);
	by_name = s->name != NULL && (p->verdict.by_name || s->dest.family == AF_UNSPEC);

	if (by_name) {
		setup_guard_name(s);
		rc = resolving_begin(s);
		if (rc < 0)
			return rc;
		return dial_name(&s->setup->dial, loop, s->view->resolver, &o, s->name, s->port,
				 setup_dialled, s);
	}
	dial_addr(&s->setup->dial, loop, &o, &s->dest, setup_dialled, s);
	return 0;
}

static int setup_dial_upstream(struct session *s)
{
	const struct proxy_url *url = &setup_conf(s)->url;
	const struct sock_options o = upstream_sock_options(s->upstream, true);
	struct dial *dial = &s->setup->dial;
	struct loop *loop = &s->engine->loop;

	if (url->addr.family == AF_UNSPEC)
		return dial_name(dial, loop, s->view->resolver, &o, url->host, url->port,
				 setup_dialled, s);
	dial_addr(dial, loop, &o, &url->addr, setup_dialled, s);
	return 0;
}

static void setup_dial(struct session *s)
{
	int rc;

	s->state = SES_DIAL;
	s->setup->warm = false;
	setup_phase(s, WHY_CONNECT_TIMEOUT, s->view->plan->conf->timeouts.connect);
	rc = s->setup->proxied ? setup_dial_upstream(s) : setup_dial_dest(s);
	if (rc == -EDQUOT)
		session_end(s, WHY_RESOLVE_LIMIT, 0, "limits.max_resolving is reached");
	else if (rc < 0)
		session_end(s, WHY_NO_MEMORY, -rc, NULL);
}

/* Goes on over a connection that was kept ready, if there is one. */
static bool setup_takes_warm(struct session *s)
{
	struct setup *p = s->setup;
	struct warm_taken t;

	if (!p->proxied || !warm_take(s->view->warms, p->order[p->at], &p->handshake, &t))
		return false;
	session_take_remote(s, t.source, EPOLLOUT);
	setup_take_port(s, t.egress);
	p->warm = true;
	if (!t.greeted) {
		setup_handshake(s);
		return true;
	}
	s->state = SES_HANDSHAKE;
	p->told = upstream_greets(s->upstream); /* by whoever made it ready */
	p->way = FLIGHT_STRICT;
	setup_tell_dest(s);
	setup_await_reply(s);
	setup_remote_ready(s);
	return true;
}

/* The connection that was kept ready broke, or nothing comes over it. True: the flow goes again over one of its own,
 * where the greeting tells whether the upstream is there; no byte of its client has been sent. */
static bool setup_leaves_warm(struct session *s)
{
	struct setup *p = s->setup;

	if (!p->warm)
		return false;
	setup_note_spent(s);
	setup_drop_remote(s);
	setup_abandon(s);
	p->told = p->again = false;
	p->began_ms = setup_now(s);
	setup_dial(s);
	return true;
}

/* Begins with the upstream whose turn it is. */
static void setup_next(struct session *s)
{
	struct setup *p = s->setup;

	s->upstream = &s->view->plan->upstreams->items[p->order[p->at]];
	s->n_tries++;
	upstream_flow_begin(s->upstream);
	p->proxied = setup_conf(s)->url.scheme != PROXY_DIRECT;
	p->told = p->warm = false;
	p->began_ms = setup_now(s);
	if (!setup_takes_warm(s))
		setup_dial(s);
}

/* Through a group of upstreams. */
static void setup_proxy(struct session *s)
{
	struct setup *p = s->setup;
	size_t n = upstreams_order(s->view->plan->upstreams, p->verdict.group, &s->client_addr,
				   setup_now(s), p->order);

	p->n_order = (uint8_t)n;
	p->at = 0;
	if (n == 0) /* and the group says "direct" */
		setup_go_direct(s);
	else
		setup_next(s);
}

static void setup_decide(struct session *s)
{
	struct rule_verdict *v = &s->setup->verdict;
	const struct flow_facts facts = setup_facts(s);

	rules_match(&s->view->plan->conf->rules, &facts, v);
	s->rule = v->rule == RULE_NONE ? 0 : (uint16_t)(v->rule + 1);
	s->observed = v->observed == RULE_NONE ? 0 : (uint16_t)(v->observed + 1);
	plan_count(s->view->plan, &facts, v);
}

void setup_start(struct session *s)
{
	if (s->view->plan->conf->n_upstreams == 0) { /* usocksd */
		s->setup->verdict.action = RULE_DIRECT;
		s->setup->dial.filter = &s->view->guard.filter;
		return setup_dial(s);
	}
	setup_decide(s);
	switch (s->setup->verdict.action) {
	case RULE_PROXY:
		setup_proxy(s);
		break;
	case RULE_DIRECT:
		setup_dial(s);
		break;
	case RULE_REFUSE:
		session_end(s, WHY_RULE_REFUSED, 0, NULL);
		break;
	}
}
