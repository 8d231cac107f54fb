/* SPDX-License-Identifier: MIT */
#include "daemon/proto/client.h"

#include <assert.h>

static_assert(PROTO_OUT_MAX >= SOCKS5_OUT_MAX && PROTO_OUT_MAX >= SOCKS4_OUT_MAX,
	      "one size of buffer for all");

void proto_client_init(struct proto_client *c, enum proxy_scheme scheme, const char *user,
		       const char *password)
{
	BUG_ON(!proxy_scheme_is_proxy(scheme));
	*c = (struct proto_client){.scheme = scheme};
	if (scheme == PROXY_SOCKS5)
		socks5_client_init(&c->socks5, user, password, NULL);
	else if (scheme == PROXY_SOCKS4A)
		socks4_client_init(&c->socks4, user);
	else
		http_connect_init(&c->http, user, password);
}

void proto_client_one_flight(struct proto_client *c)
{
	if (c->scheme == PROXY_SOCKS5)
		socks5_client_one_flight(&c->socks5);
}

void proto_client_dest(struct proto_client *c, const struct proto_dest *dest)
{
	if (c->scheme == PROXY_SOCKS5)
		socks5_client_dest(&c->socks5, dest);
	else if (c->scheme == PROXY_SOCKS4A)
		socks4_client_dest(&c->socks4, dest);
	else
		http_connect_dest(&c->http, dest);
}

bool proto_client_greeting(const struct proto_client *c)
{
	return c->scheme == PROXY_SOCKS5 && socks5_client_greeting(&c->socks5);
}

bool proto_client_ready(const struct proto_client *c)
{
	if (c->scheme == PROXY_SOCKS5)
		return socks5_client_ready(&c->socks5);
	return (c->scheme == PROXY_SOCKS4A ? c->socks4.dest : c->http.dest) == NULL;
}

/* HTTP: 401 is what some proxies say for 407. */
static void client_note(struct proto_client *c, unsigned reply, const char *error,
			enum proto_blame blame)
{
	c->refused_user = c->scheme == PROXY_HTTP && (reply == 401 || reply == 407);
	c->reply = reply;
	c->error = error;
	c->blame = blame;
}

enum proto_step proto_client_step(struct proto_client *c, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len)
{
	enum proto_step step;

	if (c->scheme == PROXY_SOCKS5) {
		step = socks5_client_step(&c->socks5, in, n, used, out, out_len);
		if (step == PROTO_FAIL)
			client_note(c, c->socks5.reply, c->socks5.error, c->socks5.blame);
		c->refused_user = c->socks5.refused_user;
	} else if (c->scheme == PROXY_SOCKS4A) {
		step = socks4_client_step(&c->socks4, in, n, used, out, out_len);
		if (step == PROTO_FAIL)
			client_note(c, c->socks4.reply, c->socks4.error, c->socks4.blame);
	} else {
		step = http_connect_step(&c->http, in, n, used, out, out_len);
		if (step == PROTO_FAIL)
			client_note(c, c->http.reply, c->http.error, c->http.blame);
	}
	return step;
}

enum proto_blame proto_client_silence(const struct proto_client *c)
{
	return proto_client_greeting(c) ? BLAME_UPSTREAM : BLAME_DEST;
}

void proto_client_closed(struct proto_client *c)
{
	if (c->scheme == PROXY_HTTP && http_connect_closed(&c->http))
		client_note(c, c->http.reply, c->http.error, c->http.blame);
	else
		client_note(c, 0, "the upstream closed the connection during the handshake",
			    proto_client_silence(c));
}
