/* SPDX-License-Identifier: MIT */
/*
 * A datagram as a client of a UDP association might send it. Input: its bytes.
 */
#include <errno.h>
#include <string.h>

#include "daemon/proto/socks5_udp.h"

/* What came from an address goes to it again. */
static void check_again(const struct addr *a)
{
	uint8_t out[SOCKS5_UDP_HEAD_ADDR_MAX];
	struct proto_dest dest;
	size_t n = socks5_udp_write(a, out);

	BUG_ON(n > sizeof(out) || socks5_udp_parse(out, n, &dest) != (int)n);
	BUG_ON(!addr_equal(&dest.addr, a) || dest.port != a->port || dest.name_len != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *in = malloc(size); /* ends with its memory */
	struct proto_dest dest;
	int len;

	BUG_ON(in == NULL && size > 0);
	if (size > 0)
		memcpy(in, data, size);
	memset(&dest, 0xee, sizeof(dest));
	len = socks5_udp_parse(in, size, &dest);
	BUG_ON(len != socks5_udp_head_len(in, size));
	BUG_ON(len == 0 || len > SOCKS5_UDP_HEAD_MAX || (len > 0 && (size_t)len > size));
	BUG_ON(len < 0 && len != -EINVAL && len != -EOPNOTSUPP);
	BUG_ON(len == -EOPNOTSUPP && in[2] == 0);
	if (len > 0) {
		BUG_ON(dest.name[dest.name_len] != '\0');
		BUG_ON(dest.addr.family != AF_UNSPEC && dest.addr.port != dest.port);
		if (dest.addr.family != AF_UNSPEC)
			check_again(&dest.addr);
	}
	free(in);
	return 0;
}
