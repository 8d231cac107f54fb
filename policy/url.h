/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The URL of an upstream: scheme://[user[:password]@]host[:port], or direct://. Pure; a value.
 */
#include "policy/addr.h"
#include "policy/diag.h"
#include "policy/strbuf.h"

enum proxy_scheme {
	PROXY_NONE, /* not configured */
	PROXY_DIRECT,
	PROXY_SOCKS5,
	PROXY_SOCKS4A,
	PROXY_HTTP, /* CONNECT */
};

/* Whether there is somebody to speak with before the destination. */
static inline bool proxy_scheme_is_proxy(enum proxy_scheme scheme)
{
	return scheme != PROXY_NONE && scheme != PROXY_DIRECT;
}

struct proxy_url {
	enum proxy_scheme scheme;
	char host[254];   /* a name (RFC 1035 length) or an IP literal without brackets */
	struct addr addr; /* set with the port if the host is a literal, else AF_UNSPEC */
	uint16_t port;    /* 1..65535; of SOCKS 1080 if the URL has none */
	char user[256];   /* percent-decoded, RFC 1929 lengths; "" : no authentication */
	char password[256];
};

/* Scheme case-insensitive as in the Go transocks. 0 or -EINVAL with the reason in `d->text`
 * (no file or line: the caller knows those). */
int proxy_url_parse(struct proxy_url *u, const char *text, struct diag *d);

/* Whether user and password, as proxy_url_parse() and files give them, can be said to such an upstream: 0, or
 * -EINVAL with the reason in `d->text`, which quotes neither. */
int proxy_url_check_auth(const struct proxy_url *u, struct diag *d);

/* "socks5://host:port" or "direct://", never with user or password: it goes to logs.
 * Returns `out`. */
#define PROXY_URL_TEXT_MAX 280
const char *proxy_url_format(const struct proxy_url *u, char *out, size_t cap);

/* Appends the whole URL, user and password included, in a form that proxy_url_parse() reads back to the
 * same value. For the operator's own configuration dump only, never for a log. */
void proxy_url_write(const struct proxy_url *u, struct strbuf *out);

/* The word of the scheme in a URL, such as "socks5". */
const char *proxy_scheme_name(enum proxy_scheme scheme);
