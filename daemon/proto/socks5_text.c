/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5.h"

const char *socks5_reply_text(uint8_t reply)
{
	static const char *const text[] = {
		[SOCKS5_SUCCEEDED] = "succeeded",
		[SOCKS5_GENERAL_FAILURE] = "general SOCKS server failure",
		[SOCKS5_NOT_ALLOWED] = "connection not allowed by ruleset",
		[SOCKS5_NETWORK_UNREACHABLE] = "network unreachable",
		[SOCKS5_HOST_UNREACHABLE] = "host unreachable",
		[SOCKS5_REFUSED] = "connection refused",
		[SOCKS5_TTL_EXPIRED] = "TTL expired",
		[SOCKS5_BAD_COMMAND] = "command not supported",
		[SOCKS5_BAD_ADDRESS_TYPE] = "address type not supported",
	};

	return reply < ARRAY_LEN(text) ? text[reply] : "unassigned reply code";
}
