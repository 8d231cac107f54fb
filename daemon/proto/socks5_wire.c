/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5_wire.h"

#include <errno.h>
#include <string.h>

#define HEAD 4 /* VER CODE RSV ATYP */

int socks5_message_len(const uint8_t *in, size_t n)
{
	if (n < HEAD)
		return 0;
	switch (in[3]) {
	case SOCKS5_ATYP_IPV4:
		return HEAD + 4 + 2;
	case SOCKS5_ATYP_IPV6:
		return HEAD + 16 + 2;
	case SOCKS5_ATYP_NAME:
		return n > HEAD ? HEAD + 1 + in[HEAD] + 2 : 0;
	default:
		return -EINVAL;
	}
}

void socks5_message_dest(const uint8_t *in, struct proto_dest *dest)
{
	const uint8_t *port = in + socks5_message_len(in, HEAD + 1) - 2;

	dest->port = (uint16_t)(port[0] << 8 | port[1]);
	dest->addr = (struct addr){.family = AF_UNSPEC};
	dest->name_len = 0;
	if (in[3] == SOCKS5_ATYP_NAME) {
		dest->name_len = in[HEAD];
		memcpy(dest->name, in + HEAD + 1, dest->name_len);
	} else {
		dest->addr = addr_from_bytes(in + HEAD, (size_t)(port - in) - HEAD, dest->port);
	}
	dest->name[dest->name_len] = '\0';
}

static size_t put_head(uint8_t *out, uint8_t code, enum socks5_atyp atyp)
{
	out[0] = SOCKS5_VERSION;
	out[1] = code;
	out[2] = 0;
	out[3] = atyp;
	return HEAD;
}

static size_t put_port(uint8_t *out, size_t len, uint16_t port)
{
	out[len] = (uint8_t)(port >> 8);
	out[len + 1] = (uint8_t)port;
	return len + 2;
}

size_t socks5_put_addr(uint8_t *out, uint8_t code, const struct addr *a, uint16_t port)
{
	size_t len =
		put_head(out, code, a->family == AF_INET6 ? SOCKS5_ATYP_IPV6 : SOCKS5_ATYP_IPV4);
	size_t ip_len = a->family == AF_INET6 ? 16 : 4;

	memcpy(out + len, a->ip, ip_len);
	return put_port(out, len + ip_len, port);
}

size_t socks5_put_name(uint8_t *out, uint8_t code, const char *name, uint8_t name_len,
		       uint16_t port)
{
	size_t len = put_head(out, code, SOCKS5_ATYP_NAME);

	out[len++] = name_len;
	memcpy(out + len, name, name_len);
	return put_port(out, len + name_len, port);
}
