/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5_udp.h"

#include <errno.h>

#include "daemon/proto/socks5_wire.h"

/* But for its first three bytes it is laid out as a request is. */
int socks5_udp_head_len(const uint8_t *in, size_t n)
{
	int len = socks5_message_len(in, n);

	if (len <= 0 || (size_t)len > n)
		return -EINVAL;
	return in[2] != 0 ? -EOPNOTSUPP : len;
}

int socks5_udp_parse(const uint8_t *in, size_t n, struct proto_dest *dest)
{
	int len = socks5_udp_head_len(in, n);

	if (len > 0)
		socks5_message_dest(in, dest);
	return len;
}

size_t socks5_udp_write(const struct addr *from, uint8_t out[SOCKS5_UDP_HEAD_ADDR_MAX])
{
	size_t len = socks5_put_addr(out, 0, from, from->port);

	out[0] = 0; /* where a reply has its version */
	return len;
}
