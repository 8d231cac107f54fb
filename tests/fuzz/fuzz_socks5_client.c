/* SPDX-License-Identifier: MIT */
/*
 * What an upstream may answer to our SOCKS5 client; the input is that of client_fuzz.h.
 */
#include "tests/fuzz/client_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct client_fuzz m;

	if (size < CLIENT_FUZZ_HEAD)
		return 0;
	client_fuzz(PROXY_SOCKS5, data, size, &m);
	BUG_ON(m.client.reply > 255);
	return 0;
}
