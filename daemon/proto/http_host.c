/* SPDX-License-Identifier: MIT */
#include "daemon/proto/http_host.h"

#include <string.h>
#include <strings.h>

enum http_state {
	HTTP_START,
	HTTP_START_LF, /* the empty line that may come first (RFC 9112 section 2.2) */
	HTTP_METHOD_FIRST,
	HTTP_METHOD,
	HTTP_TARGET_FIRST,
	HTTP_SCHEME,
	HTTP_SLASHES, /* of "://" */
	HTTP_AUTHORITY,
	HTTP_TARGET,
	HTTP_ASTERISK,
	HTTP_VERSION, /* "HTTP/" */
	HTTP_MAJOR,
	HTTP_DOT,
	HTTP_MINOR,
	HTTP_LINE_END,
	HTTP_LINE_LF,
	HTTP_FIELDS,
};

void http_host_init(struct sniff_http *h)
{
	*h = (struct sniff_http){.state = HTTP_START};
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 9110 section 5.6.2. */
static bool is_token(uint8_t c)
{
	return is_digit(c) || is_alpha(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* RFC 3986 section 3.1, behind the first letter. */
static bool is_scheme(uint8_t c)
{
	return is_digit(c) || is_alpha(c) || c == '+' || c == '-' || c == '.';
}

/* What may be in a target or a value: no control bytes. Bytes above 0x7f are let through in both, as servers do. */
static bool is_text(uint8_t c)
{
	return c > ' ' && c != 0x7f;
}

static enum sniff_result malformed(struct sniff *s)
{
	return sniff_end_none(s, "malformed request");
}

/* Nothing has shown yet that this is HTTP. */
static enum sniff_result neither(struct sniff *s)
{
	return sniff_end_none(s, SNIFF_NEITHER);
}

static enum sniff_result go(struct sniff_http *h, enum http_state state)
{
	h->state = state;
	h->matched = 0;
	return SNIFF_MORE;
}

/* ---- the host, once the header is complete ---- */

/* The usual port of a scheme (RFC 9110 section 4.2); 0: not known. */
static uint16_t scheme_port(const uint8_t *scheme, size_t n)
{
	if (n == 4 && strncasecmp((const char *)scheme, "http", n) == 0)
		return 80;
	return n == 5 && strncasecmp((const char *)scheme, "https", n) == 0 ? 443 : 0;
}

/* RFC 3986 section 3.2.3; an empty port means the usual one, and leaves *out. */
static bool read_port(const char *port, size_t n, uint16_t *out)
{
	uint32_t value = 0;

	for (size_t i = 0; i < n; i++) {
		if (!is_digit((uint8_t)port[i]))
			return false;
		value = value * 10 + (uint32_t)(port[i] - '0');
		if (value > UINT16_MAX)
			return false;
	}
	if (n > 0)
		*out = (uint16_t)value;
	return true;
}

/* uri-host [ ":" port ] */
static enum sniff_result read_host(struct sniff *s, const char *host, size_t n)
{
	const char *bracket = n > 0 && host[0] == '[' ? memchr(host, ']', n) : NULL;
	const char *after = bracket != NULL ? bracket + 1 : memchr(host, ':', n);
	size_t len = after != NULL ? (size_t)(after - host) : n;
	uint16_t port = s->http.usual_port;

	if (memchr(host, '@', n) != NULL)
		return sniff_end_none(s, "a user name before the host");
	if (len == 0)
		return sniff_end_none(s, "an empty host");
	if (len < n && (host[len] != ':' || !read_port(host + len + 1, n - len - 1, &port)))
		return malformed(s);
	/* RFC 9110 section 9.3.6. */
	if (s->http.connect && n - len < 2)
		return malformed(s);
	s->to_port = s->to_proxy ? port : 0;
	return sniff_end_name(s, host, len);
}

static enum sniff_result read_header_end(struct sniff *s, const uint8_t *bytes)
{
	const struct sniff_http *h = &s->http;

	if (!h->named_by_target && !h->has_host)
		return sniff_end_none(s, "no Host");
	s->to_proxy = h->named_by_target;
	s->tunnel = h->connect;
	return read_host(s, (const char *)bytes + h->host, h->host_len);
}

/* ---- the fields ---- */

/* A field's value, or an authority in a target that wins over it. */
static enum sniff_result read_host_field(struct sniff *s, const uint8_t *bytes, size_t begin,
					 size_t end)
{
	struct sniff_http *h = &s->http;

	if (h->has_host)
		return sniff_end_none(s, "duplicate Host");
	h->has_host = true;
	if (h->named_by_target)
		return SNIFF_MORE;
	while (begin < end && (bytes[begin] == ' ' || bytes[begin] == '\t'))
		begin++;
	while (begin < end && (bytes[end - 1] == ' ' || bytes[end - 1] == '\t'))
		end--;
	h->host = (uint32_t)begin;
	h->host_len = (uint32_t)(end - begin);
	return SNIFF_MORE;
}

/* The line from `begin` up to its end, which does not belong to it. Nothing is made good that RFC 9112 section 5
 * has a server refuse or repair: a name that ends in a space, a line that continues the one before. */
static enum sniff_result read_line(struct sniff *s, const uint8_t *bytes, size_t begin, size_t end)
{
	size_t colon = begin;

	if (begin == end)
		return read_header_end(s, bytes);
	if (bytes[begin] == ' ' || bytes[begin] == '\t')
		return sniff_end_none(s, "a folded line");
	while (colon < end && is_token(bytes[colon]))
		colon++;
	if (colon == begin || colon == end || bytes[colon] != ':')
		return malformed(s);
	for (size_t i = colon + 1; i < end; i++) {
		if (!is_text(bytes[i]) && bytes[i] != ' ' && bytes[i] != '\t')
			return malformed(s);
	}
	if (colon - begin != 4 || strncasecmp((const char *)bytes + begin, "host", 4) != 0)
		return SNIFF_MORE;
	return read_host_field(s, bytes, colon + 1, end);
}

/* Line by line; a line feed alone ends one, too (RFC 9112 section 2.2). */
static enum sniff_result read_fields(struct sniff *s, const uint8_t *bytes, size_t n)
{
	struct sniff_http *h = &s->http;
	enum sniff_result result = SNIFF_MORE;

	while (result == SNIFF_MORE && s->at < n) {
		const uint8_t *feed = memchr(bytes + s->at, '\n', n - s->at);
		size_t end = feed != NULL ? (size_t)(feed - bytes) : n;

		s->at = (uint32_t)(feed != NULL ? end + 1 : n);
		if (feed == NULL)
			break;
		if (end > h->begin && bytes[end - 1] == '\r')
			end--;
		result = read_line(s, bytes, h->begin, end);
		h->begin = s->at;
	}
	return result;
}

/* ---- the first line ---- */

static enum sniff_result read_method(struct sniff *s, const uint8_t *method, size_t n)
{
	s->http.connect = n == 7 && memcmp(method, "CONNECT", 7) == 0;
	s->http.prior = n == 3 && memcmp(method, "PRI", 3) == 0;
	return go(&s->http, HTTP_TARGET_FIRST);
}

static enum sniff_result read_target_first(struct sniff *s, uint8_t c)
{
	struct sniff_http *h = &s->http;

	h->begin = s->at;
	if (h->connect)
		return is_text(c) ? go(h, HTTP_AUTHORITY) : neither(s);
	if (c == '/')
		return go(h, HTTP_TARGET);
	if (c == '*')
		return go(h, HTTP_ASTERISK);
	return is_alpha(c) ? go(h, HTTP_SCHEME) : neither(s);
}

static enum sniff_result read_slash(struct sniff *s, uint8_t c)
{
	struct sniff_http *h = &s->http;

	if (c != '/')
		return neither(s);
	if (++h->matched < 2)
		return SNIFF_MORE;
	h->begin = s->at + 1;
	return go(h, HTTP_AUTHORITY);
}

static enum sniff_result read_authority(struct sniff *s, uint8_t c)
{
	struct sniff_http *h = &s->http;

	if (is_text(c) && (h->connect || (c != '/' && c != '?' && c != '#')))
		return SNIFF_MORE;
	if (c != ' ' && !is_text(c))
		return neither(s);
	h->named_by_target = true;
	h->host = h->begin;
	h->host_len = s->at - h->begin;
	return go(h, c == ' ' ? HTTP_VERSION : HTTP_TARGET);
}

static enum sniff_result read_version(struct sniff *s, uint8_t c)
{
	static const char word[] = "HTTP/";
	struct sniff_http *h = &s->http;

	if (c != (uint8_t)word[h->matched])
		return neither(s);
	return ++h->matched < sizeof(word) - 1 ? SNIFF_MORE : go(h, HTTP_MAJOR);
}

static enum sniff_result read_major(struct sniff *s, uint8_t c)
{
	struct sniff_http *h = &s->http;

	if (c == '2' && h->prior)
		return sniff_end_none(s, "HTTP/2 with prior knowledge");
	if (c != '1')
		return neither(s);
	s->protocol = SNIFF_HTTP;
	return go(h, HTTP_DOT);
}

/* The next byte of the first line, and of the empty one that may precede it. */
static enum sniff_result read_first_line(struct sniff *s, const uint8_t *bytes)
{
	struct sniff_http *h = &s->http;
	uint8_t c = bytes[s->at];

	switch ((enum http_state)h->state) {
	case HTTP_START:
		if (c == '\r')
			return go(h, HTTP_START_LF);
		if (c == '\n')
			return go(h, HTTP_METHOD_FIRST);
		return is_token(c) ? go(h, HTTP_METHOD) : neither(s);
	case HTTP_START_LF:
		return c == '\n' ? go(h, HTTP_METHOD_FIRST) : neither(s);
	case HTTP_METHOD_FIRST:
		h->begin = s->at;
		return is_token(c) ? go(h, HTTP_METHOD) : neither(s);
	case HTTP_METHOD:
		if (c == ' ')
			return read_method(s, bytes + h->begin, s->at - h->begin);
		return is_token(c) ? SNIFF_MORE : neither(s);
	case HTTP_TARGET_FIRST:
		return read_target_first(s, c);
	case HTTP_SCHEME:
		if (c == ':') {
			h->usual_port = scheme_port(bytes + h->begin, s->at - h->begin);
			return go(h, HTTP_SLASHES);
		}
		return is_scheme(c) ? SNIFF_MORE : neither(s);
	case HTTP_SLASHES:
		return read_slash(s, c);
	case HTTP_AUTHORITY:
		return read_authority(s, c);
	case HTTP_TARGET:
		if (c == ' ')
			return go(h, HTTP_VERSION);
		return is_text(c) ? SNIFF_MORE : neither(s);
	case HTTP_ASTERISK:
		return c == ' ' ? go(h, HTTP_VERSION) : neither(s);
	case HTTP_VERSION:
		return read_version(s, c);
	case HTTP_MAJOR:
		return read_major(s, c);
	case HTTP_DOT:
		return c == '.' ? go(h, HTTP_MINOR) : malformed(s);
	case HTTP_MINOR:
		return is_digit(c) ? go(h, HTTP_LINE_END) : malformed(s);
	case HTTP_LINE_END:
		if (c == '\r')
			return go(h, HTTP_LINE_LF);
		h->begin = s->at + 1;
		return c == '\n' ? go(h, HTTP_FIELDS) : malformed(s);
	case HTTP_LINE_LF:
		h->begin = s->at + 1;
		return c == '\n' ? go(h, HTTP_FIELDS) : malformed(s);
	case HTTP_FIELDS:
		break;
	}
	return SNIFF_MORE;
}

enum sniff_result http_host_step(struct sniff *s, const uint8_t *bytes, size_t n)
{
	enum sniff_result result = SNIFF_MORE;

	while (result == SNIFF_MORE && s->at < n && s->http.state != HTTP_FIELDS) {
		result = read_first_line(s, bytes);
		s->at++;
	}
	if (result == SNIFF_MORE && s->http.state == HTTP_FIELDS)
		result = read_fields(s, bytes, n);
	return result;
}
