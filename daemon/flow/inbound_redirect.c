/* SPDX-License-Identifier: MIT */
#include "daemon/flow/inbound.h"

#include <errno.h>

#include "daemon/flow/session.h"
#include "daemon/net/origdst.h"

/* A flow of this host to the upstream itself: our own connection, redirected back to us because the rules
 * know neither our mark nor our user. Carrying it would open another one, and so on without end. */
static bool redirect_is_loop(const struct session *s)
{
	const struct proxy_url *up = &s->view->conf->upstream;
	struct addr local;

	if (up->scheme != PROXY_SOCKS5 || !addr_equal(&s->dest, &up->addr))
		return false;
	/* Redirected flows of this host arrive at a loopback address, forwarded ones do not. */
	local = sock_local(s->client.source->fd);
	return addr_is_loopback(&local);
}

static void redirect_start(struct session *s)
{
	int rc = origdst_get(s->client.source->fd, &s->listener->addr, &s->dest);

	if (rc == -ENOENT)
		session_end(s, WHY_NOT_REDIRECTED, 0,
			    "the client connected to this port itself; nothing redirected it");
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
