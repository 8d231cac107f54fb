/* SPDX-License-Identifier: MIT */
#include "daemon/flow/why.h"

#include <errno.h>

const struct why_row why_rows[WHY_COUNT] = {
#define WHY_ROW(id, word, phase, level, reply) \
	[id] = {word, phase, LOG_LEVEL_##level, SOCKS5_##reply},
	WHY_TABLE(WHY_ROW)
#undef WHY_ROW
};

enum socks5_reply why_reply(enum why why, int err)
{
	if (why != WHY_CONNECT_FAILED && why != WHY_BIND_FAILED)
		return why_rows[why].reply;
	switch (err) {
	case ECONNREFUSED:
		return SOCKS5_REFUSED;
	case ENETUNREACH:
	case EAFNOSUPPORT:
		return SOCKS5_NETWORK_UNREACHABLE;
	case EHOSTUNREACH:
		return SOCKS5_HOST_UNREACHABLE;
	case ETIMEDOUT:
		return SOCKS5_TTL_EXPIRED;
	case EACCES:
	case EPERM:
		return SOCKS5_NOT_ALLOWED;
	default:
		return SOCKS5_GENERAL_FAILURE;
	}
}
