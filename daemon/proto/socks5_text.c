/* SPDX-License-Identifier: MIT */
#include "daemon/proto/socks5.h"

struct reply_row {
	const char *text;
	enum proto_blame blame;
};

static const struct reply_row *reply_row(uint8_t reply)
{
	static const struct reply_row rows[] = {
		[SOCKS5_SUCCEEDED] = {"succeeded", BLAME_DEST},
		/* By the RFC the server's own, but many have no other word for a name that does not resolve, and
		 * some none for a connection that times out. */
		[SOCKS5_GENERAL_FAILURE] = {"general SOCKS server failure", BLAME_DEST},
		[SOCKS5_NOT_ALLOWED] = {"connection not allowed by ruleset", BLAME_POLICY},
		[SOCKS5_NETWORK_UNREACHABLE] = {"network unreachable", BLAME_DEST},
		[SOCKS5_HOST_UNREACHABLE] = {"host unreachable", BLAME_DEST},
		[SOCKS5_REFUSED] = {"connection refused", BLAME_DEST},
		[SOCKS5_TTL_EXPIRED] = {"TTL expired", BLAME_DEST},
		/* The command is CONNECT, whatever the destination. */
		[SOCKS5_BAD_COMMAND] = {"command not supported", BLAME_UPSTREAM},
		/* IPv6, say; of others the destination may be IPv4. */
		[SOCKS5_BAD_ADDRESS_TYPE] = {"address type not supported", BLAME_DEST},
	};
	/* 09 is 3proxy's for its own address: nothing says that others would end so. */
	static const struct reply_row unassigned = {"unassigned reply code", BLAME_DEST};

	return reply < ARRAY_LEN(rows) ? &rows[reply] : &unassigned;
}

const char *socks5_reply_text(uint8_t reply)
{
	return reply_row(reply)->text;
}

enum proto_blame socks5_reply_blame(uint8_t reply)
{
	return reply_row(reply)->blame;
}
