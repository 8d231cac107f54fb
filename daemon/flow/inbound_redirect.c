/* SPDX-License-Identifier: MIT */
#include "daemon/flow/inbound.h"

#include <errno.h>

#include "daemon/flow/session.h"
#include "daemon/net/origdst.h"
#include "daemon/net/owner.h"

/* Whether we ourselves may have wanted to go there. */
static bool redirect_may_be_ours(const struct session *s)
{
	const struct proxy_url *up = &s->view->conf->upstream;

	if (up->scheme == PROXY_DIRECT)
		return true;
	return up->addr.family != AF_UNSPEC ? addr_equal(&s->dest, &up->addr)
					    : s->dest.port == up->port;
}

static bool redirect_is_transparent(const struct session *s)
{
	return s->view->conf->mode == REDIRECT_MODE_TPROXY;
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
	local = s->listener->addr;
	if (addr_is_any(&local))
		local = sock_local(s->client.source->fd);
	return (local.family == AF_UNSPEC || addr_is_loopback(&local)) &&
	       owner_is_self(&s->engine->owns, &s->client_addr, &s->dest);
}

static void redirect_start(struct session *s)
{
	bool transparent = redirect_is_transparent(s);
	const struct addr *listener = &s->listener->addr;
	int fd = s->client.source->fd;
	int rc = transparent ? origdst_get_transparent(fd, listener, &s->dest)
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
		session_connect(s);
}

const struct inbound inbound_redirect = {
	.start = redirect_start,
};
