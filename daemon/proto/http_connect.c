/* SPDX-License-Identifier: MIT */
#include "daemon/proto/http_connect.h"

#include <string.h>
#include <strings.h>

#include "policy/strbuf.h"

enum client_state {
	CLIENT_START,
	CLIENT_STATUS, /* waits for a status line */
	CLIENT_SKIP,   /* in the fields of a 1xx */
	CLIENT_TUNNEL, /* in the fields of a 2xx */
	CLIENT_DENIED, /* in the fields of a 407 */
	CLIENT_DONE,
	CLIENT_FAILED,
};

/* Who is to blame (RFC 9110 section 15, and what proxies make of it). A status that is not listed counts as the
 * x00 of its class (section 15), and one above 599 as 5xx. */
static const struct status_row {
	unsigned status;
	enum proto_blame blame;
	const char *text;
} status_rows[] = {
	/* Nobody asked for another protocol. */
	{101, BLAME_UPSTREAM, "101 Switching Protocols"},
	/* To a page that says why not. */
	{300, BLAME_POLICY, "a redirection (3xx) instead of a tunnel"},
	/* All requests are alike but for the destination, so that is what is bad. */
	{400, BLAME_DEST, "400 Bad Request"},
	{401, BLAME_UPSTREAM, "401 Unauthorized"},
	{402, BLAME_POLICY, "402 Payment Required"},
	{403, BLAME_POLICY, "403 Forbidden"},
	{404, BLAME_DEST, "404 Not Found"},
	/* A server that is no proxy. */
	{405, BLAME_UPSTREAM, "405 Method Not Allowed"},
	{407, BLAME_UPSTREAM, "407 Proxy Authentication Required"},
	{408, BLAME_UPSTREAM, "408 Request Timeout"}, /* it was ours that it waited for */
	{426, BLAME_UPSTREAM, "426 Upgrade Required"},
	{429, BLAME_POLICY, "429 Too Many Requests"},
	{451, BLAME_POLICY, "451 Unavailable For Legal Reasons"},
	/* By the RFC 500 and 503 are the server's own trouble. Proxies give them where the destination cannot be
	 * reached or its name not be resolved: tinyproxy 500, Squid 503. */
	{500, BLAME_DEST, "500 Internal Server Error"},
	{501, BLAME_UPSTREAM, "501 Not Implemented"},
	{502, BLAME_DEST, "502 Bad Gateway"},
	{503, BLAME_DEST, "503 Service Unavailable"},
	{504, BLAME_DEST, "504 Gateway Timeout"},
	{505, BLAME_UPSTREAM, "505 HTTP Version Not Supported"},
	{511, BLAME_UPSTREAM, "511 Network Authentication Required"},
};

static const char other_4xx[] = "a client error (4xx)";
static const char other_5xx[] = "a server error (5xx)";

/* What a 407 may ask for (IANA, "HTTP Authentication Schemes"), in the order of what is told first. */
enum { ASKED_BASIC = 1 };
static const struct {
	uint8_t bit;
	const char *scheme;
	const char *text;
} asked_rows[] = {
	{ASKED_BASIC, "Basic",
	 "407 Proxy Authentication Required: the user name or password is not accepted"},
	{2, "Digest",
	 "407 Proxy Authentication Required: the upstream asks for Digest, and only Basic is "
	 "served"},
	{4, "NTLM",
	 "407 Proxy Authentication Required: the upstream asks for NTLM, and only Basic is served"},
	{8, "Negotiate",
	 "407 Proxy Authentication Required: the upstream asks for Negotiate, and only Basic is "
	 "served"},
	{16, "Bearer",
	 "407 Proxy Authentication Required: the upstream asks for Bearer, and only Basic is "
	 "served"},
};
static const char asked_no_user[] =
	"407 Proxy Authentication Required: the upstream asks for Basic, and no user is configured";

void http_connect_init(struct http_connect *c, const char *user, const char *password)
{
	BUG_ON(strlen(user) > 255 || strlen(password) > 255);
	*c = (struct http_connect){.state = CLIENT_START, .user = user, .password = password};
}

void http_connect_dest(struct http_connect *c, const struct proto_dest *dest)
{
	BUG_ON(c->state != CLIENT_START);
	c->dest = dest;
}

static enum proto_step client_fail(struct http_connect *c, enum proto_blame blame,
				   const char *error)
{
	c->state = CLIENT_FAILED;
	c->blame = blame;
	c->error = error;
	return PROTO_FAIL;
}

/* --- the request --- */

/* RFC 4648 section 4. */
static void put_base64(struct strbuf *sb, const char *text, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t bits = 0;

		for (size_t k = 0; k < 3; k++)
			bits = bits << 8 | (i + k < n ? (uint8_t)text[i + k] : 0u);
		for (size_t k = 0; k < 4; k++)
			strbuf_putc(sb, i + k > n ? '=' : digits[bits >> (18 - 6 * k) & 63]);
	}
}

/* Authority form (RFC 9112 section 3.2.3). False: the name cannot stand there. */
static bool put_authority(struct strbuf *sb, const struct proto_dest *d)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._";
	struct addr a = d->addr;
	char text[ADDR_TEXT_MAX];

	a.port = d->port;
	a.scope = 0; /* means nothing on another host */
	if (a.family != AF_UNSPEC) {
		strbuf_puts(sb, addr_format(&a, text, sizeof(text)));
		return true;
	}
	/* Nothing that could end the line, or the name in it. */
	if (d->name_len == 0 || strspn(d->name, allowed) != d->name_len)
		return false;
	strbuf_printf(sb, "%s:%u", d->name, d->port);
	return true;
}

static void put_credentials(struct strbuf *sb, const char *user, const char *password)
{
	char both[255 + 1 + 255];
	size_t user_len = strlen(user), password_len = strlen(password);

	memcpy(both, user, user_len);
	both[user_len] = ':';
	memcpy(both + user_len + 1, password, password_len);
	strbuf_puts(sb, "Proxy-Authorization: Basic ");
	put_base64(sb, both, user_len + 1 + password_len);
	strbuf_puts(sb, "\r\n");
}

static enum proto_step client_send_request(struct http_connect *c, uint8_t *out, size_t *out_len)
{
	char text[HTTP_CONNECT_OUT_MAX + 1];
	struct strbuf sb;

	if (c->dest == NULL)
		return PROTO_MORE;
	strbuf_init(&sb, text, sizeof(text));
	strbuf_puts(&sb, "CONNECT ");
	if (!put_authority(&sb, c->dest))
		return client_fail(c, BLAME_DEST, "HTTP has no way to write this name");
	strbuf_puts(&sb, " HTTP/1.1\r\nHost: ");
	put_authority(&sb, c->dest);
	strbuf_puts(&sb, "\r\n");
	if (c->user[0] != '\0')
		put_credentials(&sb, c->user, c->password);
	strbuf_puts(&sb, "\r\n");
	BUG_ON(sb.truncated);
	memcpy(out, text, sb.len);
	*out_len = sb.len;
	c->state = CLIENT_STATUS;
	return PROTO_SEND;
}

/* --- the answer --- */

static enum proto_step client_refused(struct http_connect *c, unsigned status)
{
	c->reply = status;
	for (size_t i = 0; i < ARRAY_LEN(status_rows); i++) {
		const struct status_row *row = &status_rows[i];

		if (row->status == status || (row->status == 300 && status / 100 == 3))
			return client_fail(c, row->blame, row->text);
	}
	return client_fail(c, BLAME_DEST, status < 500 ? other_4xx : other_5xx);
}

/* A 407 is told when its fields have been read: they say what it asks for. */
static enum proto_step client_denied(struct http_connect *c)
{
	enum proto_step step = client_refused(c, 407);

	if ((c->asked & ASKED_BASIC) && c->user[0] == '\0') {
		c->error = asked_no_user;
		return step;
	}
	for (size_t i = 0; i < ARRAY_LEN(asked_rows); i++) {
		if (c->asked & asked_rows[i].bit) {
			c->error = asked_rows[i].text;
			break;
		}
	}
	return step;
}

static enum proto_step client_bad(struct http_connect *c, const char *error)
{
	return c->state == CLIENT_DENIED ? client_denied(c) : client_fail(c, BLAME_UPSTREAM, error);
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static const char version[7] = "HTTP/1.";

/* RFC 9112 section 4; the space after the status may be missing. */
static enum proto_step client_read_status(struct http_connect *c, const uint8_t *line, size_t n)
{
	const uint8_t *code = line + sizeof(version) + 2;
	unsigned status;

	if (n < sizeof(version) + 5 || !is_digit(code[-2]) || code[-1] != ' ' ||
	    !is_digit(code[0]) || !is_digit(code[1]) || !is_digit(code[2]) || code[0] == '0' ||
	    (n > sizeof(version) + 5 && code[3] != ' '))
		return client_fail(c, BLAME_UPSTREAM, "the upstream's status line is malformed");
	status = (code[0] - '0') * 100u + (code[1] - '0') * 10u + (code[2] - '0');
	if (status / 100 == 2)
		c->state = CLIENT_TUNNEL;
	else if (status == 407)
		c->state = CLIENT_DENIED;
	else if (status / 100 == 1 && status != 101)
		c->state = CLIENT_SKIP;
	else
		return client_refused(c, status);
	return PROTO_MORE;
}

static void client_note_scheme(struct http_connect *c, const uint8_t *text, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(asked_rows); i++) {
		size_t len = strlen(asked_rows[i].scheme);

		if (n >= len && strncasecmp((const char *)text, asked_rows[i].scheme, len) == 0 &&
		    (n == len || text[len] == ' ' || text[len] == '\t'))
			c->asked |= asked_rows[i].bit;
	}
}

/* Proxy-Authenticate = #challenge (RFC 9110 section 11.7.1): schemes stand where an element of the list begins,
 * and so do parameters, which have a '='. */
static void client_read_field(struct http_connect *c, const uint8_t *line, size_t n)
{
	static const char field[] = "Proxy-Authenticate:";
	bool begins = true, quoted = false;

	if (n < sizeof(field) - 1 || strncasecmp((const char *)line, field, sizeof(field) - 1) != 0)
		return;
	for (size_t i = sizeof(field) - 1; i < n; i++) {
		if (quoted && line[i] == '\\') {
			i++;
		} else if (line[i] == '"') {
			quoted = !quoted;
		} else if (!quoted && line[i] == ',') {
			begins = true;
		} else if (begins && line[i] != ' ' && line[i] != '\t') {
			client_note_scheme(c, line + i, n - i);
			begins = false;
		}
	}
}

/* An empty line: the fields are over. */
static enum proto_step client_end_of_fields(struct http_connect *c)
{
	switch ((enum client_state)c->state) {
	case CLIENT_SKIP:
		c->state = CLIENT_STATUS;
		return PROTO_MORE;
	case CLIENT_TUNNEL:
		/* Content-Length and Transfer-Encoding mean nothing here (RFC 9110 section 9.3.6). */
		c->state = CLIENT_DONE;
		return PROTO_DONE;
	default:
		return client_denied(c);
	}
}

static enum proto_step client_read_line(struct http_connect *c, const uint8_t *line, size_t n)
{
	if (n > 0 && line[n - 1] == '\r')
		n--;
	if (c->state == CLIENT_STATUS)
		return client_read_status(c, line, n);
	if (n == 0)
		return client_end_of_fields(c);
	if (c->state == CLIENT_DENIED)
		client_read_field(c, line, n);
	return PROTO_MORE;
}

static enum proto_step client_read(struct http_connect *c, const uint8_t *in, size_t n,
				   size_t *used)
{
	enum proto_step step = PROTO_MORE;

	while (step == PROTO_MORE) {
		const uint8_t *line = in + *used, *end;
		size_t left = n - *used, room = HTTP_CONNECT_HEAD_MAX - c->head_len, len;

		/* What speaks another protocol may never send a line. */
		if (c->state == CLIENT_STATUS &&
		    memcmp(line, version, left < sizeof(version) ? left : sizeof(version)) != 0)
			return client_fail(c, BLAME_UPSTREAM, "the upstream does not speak HTTP");
		end = memchr(line, '\n', left < room ? left : room);
		if (end == NULL && left >= room)
			return client_bad(c, "the upstream's answer has no end within 8 KiB");
		if (end == NULL)
			return PROTO_MORE;
		len = (size_t)(end - line);
		*used += len + 1;
		c->head_len = (uint16_t)(c->head_len + len + 1);
		step = client_read_line(c, line, len);
	}
	return step;
}

enum proto_step http_connect_step(struct http_connect *c, const uint8_t *in, size_t n, size_t *used,
				  uint8_t *out, size_t *out_len)
{
	*used = 0;
	*out_len = 0;
	switch ((enum client_state)c->state) {
	case CLIENT_START:
		return client_send_request(c, out, out_len);
	case CLIENT_STATUS:
	case CLIENT_SKIP:
	case CLIENT_TUNNEL:
	case CLIENT_DENIED:
		return client_read(c, in, n, used);
	case CLIENT_DONE:
		return PROTO_DONE;
	case CLIENT_FAILED:
		break;
	}
	return PROTO_FAIL;
}

bool http_connect_closed(struct http_connect *c)
{
	if (c->state != CLIENT_DENIED)
		return false;
	client_denied(c);
	return true;
}
