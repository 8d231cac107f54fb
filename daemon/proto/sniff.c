/* SPDX-License-Identifier: MIT */
#include "daemon/proto/sniff.h"

#include "daemon/proto/http_host.h"
#include "daemon/proto/tls_hello.h"

void sniff_init(struct sniff *s)
{
	*s = (struct sniff){.result = SNIFF_MORE};
}

enum sniff_result sniff_end_none(struct sniff *s, const char *none)
{
	s->none = none;
	s->ech = s->to_proxy = s->tunnel = false;
	s->to_port = 0;
	return SNIFF_NONE;
}

enum sniff_result sniff_end_name(struct sniff *s, const char *name, size_t n)
{
	struct addr addr;

	switch (name_normalise(name, n, s->name, &addr)) {
	case 0:
		return SNIFF_FOUND;
	case 1:
		return sniff_end_none(s, "an address");
	default:
		return sniff_end_none(s, "not a domain name");
	}
}

enum sniff_result sniff_step(struct sniff *s, const uint8_t *bytes, size_t n)
{
	bool enough = n >= SNIFF_BYTES_MAX;

	if (s->result != SNIFF_MORE || n == 0)
		return s->result;
	if (enough)
		n = SNIFF_BYTES_MAX;
	BUG_ON(n < s->at);
	if (s->at == 0) {
		if (bytes[0] == TLS_HANDSHAKE)
			tls_hello_init(&s->tls);
		else
			http_host_init(&s->http);
	}
	s->result = bytes[0] == TLS_HANDSHAKE ? tls_hello_step(s, bytes, n)
					      : http_host_step(s, bytes, n);
	if (s->result == SNIFF_MORE && enough)
		s->result = sniff_end_none(s, "too many bytes");
	return s->result;
}
