/* SPDX-License-Identifier: MIT */
/* Any bytes as a domain name: what is let through has one form, and no resolver reads it as an
 * address. */
#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/name.h"

static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char out[NAME_MAX_LEN + 1], again[NAME_MAX_LEN + 1], text[ADDR_TEXT_MAX];
	struct addr addr = {.family = AF_UNSPEC}, same;
	struct in_addr in;
	int ret;

	memset(out, 'x', sizeof(out));
	ret = name_normalise((const char *)data, size, out, &addr);
	if (ret == 1) {
		BUG_ON(out[0] != '\0');
		BUG_ON(addr.family != AF_INET && addr.family != AF_INET6);
		addr_format_ip(&addr, text, sizeof(text));
		BUG_ON(name_normalise(text, strlen(text), again, &same) != 1);
		BUG_ON(!addr_equal(&addr, &same));
	} else if (ret == 0) {
		size_t n = strnlen(out, sizeof(out));

		BUG_ON(n == 0 || n > NAME_MAX_LEN || strspn(out, allowed) != n);
		BUG_ON(n != size && n + 1 != size);
		BUG_ON(out[0] == '.' || out[n - 1] == '.' || strstr(out, "..") != NULL);
		BUG_ON(inet_aton(out, &in) != 0);
		BUG_ON(name_normalise(out, n, again, &same) != 0 || strcmp(out, again) != 0);
	} else {
		BUG_ON(addr.family != AF_UNSPEC || out[0] != 'x');
	}
	return 0;
}
