/* SPDX-License-Identifier: MIT */
#include "policy/url.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "policy/name.h"

#define DEFAULT_SOCKS_PORT 1080 /* IANA: socks */

static const char letters_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

const char *proxy_scheme_name(enum proxy_scheme scheme)
{
	switch (scheme) {
	case PROXY_DIRECT:
		return "direct";
	case PROXY_SOCKS5:
		return "socks5";
	case PROXY_SOCKS4A:
		return "socks4a";
	case PROXY_HTTP:
		return "http";
	case PROXY_NONE:
		break;
	}
	return "none";
}

/* What goes wrong after the scheme is told without quoting the URL: any part of it may be a piece
 * of a password whose '/', '#' or '@' was not percent-encoded. */
static int url_error(struct diag *d, const char *text)
{
	return diag_set(d, EINVAL, NULL, 0, "%s", text);
}

static int url_parse_scheme(enum proxy_scheme *scheme, const char *text, size_t n, struct diag *d)
{
	static const enum proxy_scheme known[] = {PROXY_SOCKS5, PROXY_SOCKS4A, PROXY_HTTP,
						  PROXY_DIRECT};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		const char *name = proxy_scheme_name(known[i]);

		if (n == strlen(name) && strncasecmp(text, name, n) == 0) {
			*scheme = known[i];
			return 0;
		}
	}
	return diag_set(
		d, EINVAL, NULL, 0,
		"scheme %.*s is not supported (socks5, socks4a, http, direct)%s", (int)n, text,
		n == 5 && strncasecmp(text, "https", n) == 0 ? ": there is no TLS to an upstream"
							     : "");
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes (RFC 3986 section 2.1) into 256 bytes. */
static int url_decode(char out[256], const char *text, size_t n, struct diag *d)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)text[i];

		if (c == '%') {
			int high = i + 2 < n ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < n ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return url_error(d, "'%' must be followed by two hexadecimal "
						    "digits; write '%' itself as %25");
			c = high * 16 + low;
			i += 2;
		} else if (c <= ' ' || c == 0x7f) {
			return url_error(d, "a space or control byte must be percent-encoded");
		}
		if (c == '\0')
			return url_error(d, "%00 cannot be part of a user name or password");
		if (len == 255)
			return url_error(d, "user name and password may have 255 bytes each");
		out[len++] = (char)c;
	}
	out[len] = '\0';
	return 0;
}

static int url_parse_userinfo(struct proxy_url *u, const char *text, size_t n, struct diag *d)
{
	const char *colon = memchr(text, ':', n);
	size_t user_len = colon != NULL ? (size_t)(colon - text) : n;
	int r;

	if (user_len == 0)
		return url_error(d, "the user name before '@' is empty");
	r = url_decode(u->user, text, user_len, d);
	if (r == 0 && colon != NULL)
		r = url_decode(u->password, colon + 1, n - user_len - 1, d);
	return r;
}

static int url_parse_host(struct proxy_url *u, const char *text, size_t n, struct diag *d)
{
	bool bracket = n > 0 && text[0] == '[';
	char name[NAME_MAX_LEN + 1];
	struct addr literal;

	if (bracket) {
		text++;
		n -= 2; /* the caller has seen the closing one */
	}
	if (n == 0)
		return url_error(d, "the host is missing");
	if (n >= sizeof(u->host))
		return url_error(d, "the host is longer than 253 bytes");
	memcpy(u->host, text, n);
	u->host[n] = '\0';
	if (addr_parse(&u->addr, u->host) == 0) {
		if (bracket == (strchr(u->host, ':') != NULL))
			return 0;
		return url_error(d, "brackets belong around an IPv6 address and nothing else");
	}
	if (bracket)
		return url_error(d, "what is between the brackets is not an IPv6 address");
	/* The host stays as written: a dot at its end keeps the resolver from its search list. */
	if (name_is_other_script(u->host, n))
		return url_error(
			d,
			"the host is not as it is on the wire: write it in the form \"xn--...\"");
	if (name_normalise(u->host, n, name, &literal) != 0)
		return url_error(d, "the host is neither a domain name nor an IP address");
	return 0;
}

/* What follows the host: nothing, or ':' and the port. */
static int url_parse_port(struct proxy_url *u, const char *text, size_t n, struct diag *d)
{
	char port[6];

	if (n == 0 && u->scheme == PROXY_HTTP)
		return url_error(d,
				 "the port is missing: write http://host:port (an HTTP proxy has "
				 "no usual one)");
	u->port = DEFAULT_SOCKS_PORT;
	if (n == 0)
		return 0;
	if (text[0] != ':' || n > sizeof(port))
		return url_error(d, "after the host only :PORT may follow, 1..65535");
	memcpy(port, text + 1, n - 1);
	port[n - 1] = '\0';
	if (port_parse(&u->port, port) < 0 || u->port == 0)
		return url_error(d, "the port must be a number 1..65535");
	return 0;
}

/* host, host:port, [ipv6] or [ipv6]:port */
static int url_parse_hostport(struct proxy_url *u, const char *text, size_t n, struct diag *d)
{
	bool bracket = n > 0 && text[0] == '[';
	const char *end = memchr(text, bracket ? ']' : ':', n);
	size_t host_len = end != NULL ? (size_t)(end - text) + bracket : n;
	int r;

	if (bracket && end == NULL)
		return url_error(d, "']' is missing");
	if (!bracket && end != NULL && memchr(end + 1, ':', n - host_len - 1) != NULL)
		return url_error(d, "an IPv6 address must be written in brackets");
	r = url_parse_host(u, text, host_len, d);
	if (r == 0)
		r = url_parse_port(u, text + host_len, n - host_len, d);
	if (u->addr.family != AF_UNSPEC)
		u->addr.port = u->port;
	return r;
}

static int url_parse_authority(struct proxy_url *u, const char *text, size_t n, struct diag *d)
{
	const char *at = memrchr(text, '@', n);
	int r;

	if (u->scheme == PROXY_DIRECT)
		return n == 0 ? 0 : url_error(d, "direct:// takes no host");
	if (at != NULL) {
		r = url_parse_userinfo(u, text, (size_t)(at - text), d);
		if (r < 0)
			return r;
		n -= (size_t)(at - text) + 1;
		text = at + 1;
	}
	r = url_parse_hostport(u, text, n, d);
	return r == 0 ? proxy_url_check_auth(u, d) : r;
}

int proxy_url_check_auth(const struct proxy_url *u, struct diag *d)
{
	if (u->scheme == PROXY_DIRECT && u->user[0] != '\0')
		return url_error(d, "direct:// takes no user");
	if (u->scheme == PROXY_SOCKS4A && u->password[0] != '\0')
		return url_error(d, "SOCKS4 knows a user and no password");
	/* RFC 7617 section 2. */
	if (u->scheme == PROXY_HTTP && strchr(u->user, ':') != NULL)
		return url_error(d, "the user name of an HTTP proxy cannot have a ':'");
	return 0;
}

int proxy_url_parse(struct proxy_url *u, const char *text, struct diag *d)
{
	struct proxy_url parsed = {0};
	size_t scheme_len = strcspn(text, ":/?#@ ");
	const char *authority, *rest;
	int r;

	if (scheme_len == 0 || strncmp(text + scheme_len, "://", 3) != 0 ||
	    strspn(text, letters_digits) < 1 || scheme_len > 32)
		return url_error(d, "not a URL such as \"socks5://host:1080\" or \"direct://\"");
	for (size_t i = 0; i < scheme_len; i++) {
		if (text[i] <= ' ' || text[i] > '~')
			return url_error(d, "the scheme contains bytes that no scheme may have");
	}
	r = url_parse_scheme(&parsed.scheme, text, scheme_len, d);
	if (r < 0)
		return r;
	authority = text + scheme_len + 3;
	rest = authority + strcspn(authority, "/?#");
	if (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0)
		return url_error(d, "path, query and fragment have no meaning here (in a password, "
				    "write '/' as %2F, '?' as %3F, '#' as %23)");
	r = url_parse_authority(&parsed, authority, (size_t)(rest - authority), d);
	if (r == 0)
		*u = parsed;
	return r;
}

static void url_put_host(const struct proxy_url *u, struct strbuf *out)
{
	bool bracket = strchr(u->host, ':') != NULL;

	if (u->scheme != PROXY_DIRECT)
		strbuf_printf(out, bracket ? "[%s]:%u" : "%s:%u", u->host, u->port);
}

const char *proxy_url_format(const struct proxy_url *u, char *out, size_t cap)
{
	struct strbuf sb;

	strbuf_init(&sb, out, cap);
	strbuf_printf(&sb, "%s://", proxy_scheme_name(u->scheme));
	url_put_host(u, &sb);
	return out;
}

static void url_put_encoded(const char *text, struct strbuf *out)
{
	for (; *text != '\0'; text++) {
		if (strchr(letters_digits, *text) != NULL || strchr("-._~", *text) != NULL)
			strbuf_putc(out, *text);
		else
			strbuf_printf(out, "%%%02X", (unsigned char)*text);
	}
}

void proxy_url_write(const struct proxy_url *u, struct strbuf *out)
{
	strbuf_printf(out, "%s://", proxy_scheme_name(u->scheme));
	if (u->user[0] != '\0') {
		url_put_encoded(u->user, out);
		if (u->password[0] != '\0') {
			strbuf_putc(out, ':');
			url_put_encoded(u->password, out);
		}
		strbuf_putc(out, '@');
	}
	url_put_host(u, out);
}
