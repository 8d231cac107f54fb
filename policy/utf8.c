/* SPDX-License-Identifier: MIT */
#include "policy/utf8.h"

#include <string.h>

size_t utf8_decode(const char *bytes, size_t n, uint32_t *code)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800,
					 0x10000}; /* of a length: shorter ones are other bytes */
	unsigned char lead = n > 0 ? (unsigned char)bytes[0] : 0xff;
	size_t len = lead < 0x80       ? 1
		     : lead >> 5 == 6  ? 2
		     : lead >> 4 == 14 ? 3
		     : lead >> 3 == 30 ? 4
				       : 0;
	uint32_t c = len <= 1 ? lead : lead & (0x7fu >> len);

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if (((unsigned char)bytes[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | ((unsigned char)bytes[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*code = c;
	return len;
}

size_t utf8_cut(const char *text, size_t n)
{
	size_t whole = strlen(text), end = n;
	uint32_t code;

	if (whole <= n)
		return whole;
	/* Of bytes that are no UTF-8, any may be the last. */
	for (size_t back = 1; back < 4 && back <= n; back++) {
		size_t len = utf8_decode(text + n - back, whole - (n - back), &code);

		if (len > back)
			end = n - back;
		if (len != 0)
			break;
	}
	return end;
}
