/* SPDX-License-Identifier: MIT */
#include "daemon/flow/inbound.h"

#include <errno.h>
#include <string.h>

#include "daemon/flow/setup.h"
#include "daemon/net/origdst.h"
#include "daemon/net/owner.h"

/* Whether we ourselves may have wanted to go there. */
static bool redirect_may_be_ours(const struct session *s)
{
	const struct plan *plan = s->view->plan;

	if (plan->goes_direct)
		return true;
	for (size_t i = 0; i < plan->conf->n_upstreams; i++) {
		const struct proxy_url *url = &plan->conf->upstreams[i].url;

		if (url->addr.family != AF_UNSPEC ? addr_equal(&s->dest, &url->addr)
						  : s->dest.port == url->port)
			return true;
	}
	return false;
}

static bool redirect_is_transparent(const struct session *s)
{
	return s->view->plan->conf->mode == REDIRECT_MODE_TPROXY;
}

/* Our own connection, redirected back to us because some rule knows neither our mark nor our user: carrying
 * it would open another one, and so on without end. */
static bool redirect_is_loop(const struct session *s)
{
	struct addr local;

	if (!redirect_may_be_ours(s))
		return false;
	/* Redirected flows of this host arrive at a loopback address, forwarded ones do not.
	 * By TPROXY both arrive at their destination. */
	if (redirect_is_transparent(s))
		return owner_is_self(&s->engine->owns, &s->client_addr, &s->dest);
	local = s->setup->listener->addr;
	if (addr_is_any(&local))
		local = sock_local(s->client.source->fd);
	return (local.family == AF_UNSPEC || addr_is_loopback(&local)) &&
	       owner_is_self(&s->engine->owns, &s->client_addr, &s->dest);
}

/* How the name was said. */
static enum name_from redirect_name_from(const struct sniff *sniff)
{
	if (sniff->protocol != SNIFF_TLS)
		return NAME_FROM_HTTP;
	return sniff->ech ? NAME_FROM_TLS_OUTER : NAME_FROM_TLS;
}

/* The client's first bytes name the site. */
static void redirect_found(struct session *s)
{
	const struct sniff *sniff = &s->setup->sniff;

	if (session_keep_name(s, sniff->name, redirect_name_from(sniff)))
		setup_start(s);
}

/* The client has said nothing, or not enough: it may be waiting for the server. */
static void redirect_patience_over(struct timer *t)
{
	struct session *s = container_of(t, struct session, timer);

	s->watch_first = s->client.pending == NULL;
	setup_start(s);
}

/* Reads what is there into `in`, and looks at it. SNIFF_NONE also where nothing more can come; *err is an errno if
 * the client's connection failed. */
static enum sniff_result redirect_sniff(struct session *s, struct buf *in, int *err)
{
	enum sniff_result result = SNIFF_MORE;

	while (result == SNIFF_MORE) {
		ssize_t n = leg_receive(&s->client, in);

		if (n == -EAGAIN)
			return SNIFF_MORE;
		if (n <= 0) {
			*err = (int)-n;
			return SNIFF_NONE;
		}
		result = sniff_step(&s->setup->sniff, buf_head(in), in->len);
	}
	return result;
}

/* Whether what is said to a proxy of the client's own names a site that the flow itself does not go to. By the port, since
 * a server, too, has to take a target with its own name (RFC 9112 section 3.2.2). */
static bool redirect_is_for_proxy(const struct session *s)
{
	const struct sniff *sniff = &s->setup->sniff;

	return sniff->tunnel || (sniff->to_proxy && sniff->to_port != s->port);
}

/* What was read waits in `client.pending` and is the first that the remote end gets. */
static void redirect_client_ready(struct session *s)
{
	struct engine *e = s->engine;
	struct buf *in = s->client.pending != NULL ? s->client.pending : e->scratch;
	int err = 0;
	enum sniff_result result = redirect_sniff(s, in, &err);

	if (in == e->scratch && in->len > 0 && (s->client.pending = engine_keep_scratch(e)) == NULL)
		return session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
	if (err != 0)
		session_end_failed(s, WHY_CLIENT_GONE, err);
	else if (result == SNIFF_FOUND && !redirect_is_for_proxy(s))
		redirect_found(s);
	else if (result != SNIFF_MORE)
		setup_start(s);
}

/* Whether the client's first bytes are waited for, because they may name where it wants to go. */
static bool redirect_awaits_name(struct session *s)
{
	const struct conf *c = s->view->plan->conf;
	const struct flow_facts facts = {
		.client = &s->client_addr,
		.dest = &s->dest,
		.port = s->port,
		.name_expected = true,
	};

	if (!port_list_contains(&c->sniff.ports, s->port) || c->sniff.timeout == 0)
		return false;
	if (!server_first_has(&s->engine->server_first, &s->dest))
		return true;
	s->watch_first = true;
	return rules_want_name(&c->rules, &facts);
}

/* Where it was going is known, and that it may go on. */
static void redirect_go(struct session *s)
{
	s->port = s->dest.port;
	if (!redirect_awaits_name(s))
		return setup_start(s);
	s->state = SES_REQUEST;
	sniff_init(&s->setup->sniff);
	loop_timer(&s->engine->loop, &s->timer, (uint64_t)s->view->plan->conf->sniff.timeout,
		   redirect_patience_over);
}

static void redirect_start(struct session *s)
{
	bool transparent = redirect_is_transparent(s);
	const struct addr *listener = &s->setup->listener->addr;
	int fd = s->client.source->fd, rc;

	if (!session_admit(s))
		return;
	rc = transparent ? origdst_get_transparent(fd, listener, &s->dest)
			 : origdst_get(fd, listener, &s->dest);
	if (rc == -ENOENT)
		session_end(s, WHY_NOT_REDIRECTED, 0,
			    transparent ? "the client connected to this port itself, or the rules "
					  "redirect, which mode \"tproxy\" does not take"
					: "the client connected to this port itself; nothing "
					  "redirected it");
	else if (rc < 0)
		session_end(s, WHY_ORIGDST_FAILED, -rc, NULL);
	else if (redirect_is_loop(s))
		session_end(
			s, WHY_LOOP, 0,
			"the way to the upstream is redirected to us; the rules must skip our mark "
			"or our user, or the upstream's address");
	else
		redirect_go(s);
}

const struct inbound inbound_redirect = {
	.start = redirect_start,
	.client_ready = redirect_client_ready,
};
