/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Every reason for which a flow ends, one row each: the word in the log, the phase it belongs to, the
 * level it is logged at, and the SOCKS5 reply that usocksd gives where the client still waits for one.
 * The manuals list the same words; a test compares them.
 */
#include "daemon/core/log.h"
#include "daemon/proto/socks5.h"

/* clang-format off */
/* phase "any": the one that the flow was in. */
/*          id                    word                  phase       level    SOCKS5 reply */
#define WHY_TABLE(ROW) \
	ROW(WHY_DONE,             "done",               "relay",    INFO,    SUCCEEDED) \
	ROW(WHY_CLIENT_LOST,      "client-lost",        "relay",    INFO,    GENERAL_FAILURE) \
	ROW(WHY_REMOTE_LOST,      "remote-lost",        "relay",    INFO,    GENERAL_FAILURE) \
	ROW(WHY_IDLE,             "idle-timeout",       "relay",    INFO,    GENERAL_FAILURE) \
	ROW(WHY_HALF_CLOSE,       "half-close-timeout", "relay",    INFO,    GENERAL_FAILURE) \
	ROW(WHY_CUT,              "cut",                "any",      WARNING, GENERAL_FAILURE) \
	ROW(WHY_NO_MEMORY,        "no-memory",          "any",      ERROR,   GENERAL_FAILURE) \
	ROW(WHY_SETUP_TIMEOUT,    "setup-timeout",      "any",      WARNING, TTL_EXPIRED) \
	ROW(WHY_CLIENT_GONE,      "client-gone",        "any",      INFO,    GENERAL_FAILURE) \
	ROW(WHY_NOT_REDIRECTED,   "not-redirected",     "accept",   WARNING, NOT_ALLOWED) \
	ROW(WHY_LOOP,             "loop",               "accept",   ERROR,   NOT_ALLOWED) \
	ROW(WHY_ORIGDST_FAILED,   "no-destination",     "accept",   ERROR,   GENERAL_FAILURE) \
	ROW(WHY_CLIENT_LIMIT,     "client-limit",       "accept",   WARNING, NOT_ALLOWED) \
	ROW(WHY_CLIENT_REFUSED,   "client-refused",     "accept",   WARNING, NOT_ALLOWED) \
	ROW(WHY_REQUEST_BAD,      "bad-request",        "request",  WARNING, GENERAL_FAILURE) \
	ROW(WHY_HANDSHAKE_LIMIT,  "handshake-limit",    "request",  WARNING, NOT_ALLOWED) \
	ROW(WHY_REQUEST_TIMEOUT,  "request-timeout",    "request",  INFO,    GENERAL_FAILURE) \
	ROW(WHY_COMMAND_REFUSED,  "command-refused",    "request",  WARNING, BAD_COMMAND) \
	ROW(WHY_AUTH_FAILED,      "auth-failed",        "auth",     WARNING, NOT_ALLOWED) \
	ROW(WHY_UDP_LIMIT,        "udp-limit",          "request",  WARNING, GENERAL_FAILURE) \
	ROW(WHY_UDP_FAILED,       "udp-failed",         "request",  ERROR,   GENERAL_FAILURE) \
	ROW(WHY_NAME_BAD,         "bad-name",           "request",  WARNING, HOST_UNREACHABLE) \
	ROW(WHY_RULE_REFUSED,     "rule-refused",       "rules",    INFO,    NOT_ALLOWED) \
	ROW(WHY_SITE_REFUSED,     "site-refused",       "rules",    INFO,    NOT_ALLOWED) \
	ROW(WHY_PORT_REFUSED,     "port-refused",       "rules",    INFO,    NOT_ALLOWED) \
	ROW(WHY_NETWORK_REFUSED,  "network-refused",    "rules",    INFO,    NOT_ALLOWED) \
	ROW(WHY_RESOLVE_LIMIT,    "resolve-limit",      "resolve",  WARNING, GENERAL_FAILURE) \
	ROW(WHY_RESOLVE_FAILED,   "resolve-failed",     "resolve",  WARNING, HOST_UNREACHABLE) \
	ROW(WHY_RESOLVE_TIMEOUT,  "resolve-timeout",    "resolve",  WARNING, HOST_UNREACHABLE) \
	ROW(WHY_CONNECT_FAILED,   "connect-failed",     "connect",  WARNING, GENERAL_FAILURE) \
	ROW(WHY_CONNECT_TIMEOUT,  "connect-timeout",    "connect",  WARNING, TTL_EXPIRED) \
	ROW(WHY_BIND_LIMIT,       "bind-limit",         "bind",     WARNING, NOT_ALLOWED) \
	ROW(WHY_BIND_FAILED,      "bind-failed",        "bind",     WARNING, GENERAL_FAILURE) \
	ROW(WHY_BIND_TIMEOUT,     "bind-timeout",       "bind",     WARNING, TTL_EXPIRED) \
	ROW(WHY_GREETING_FAILED,  "greeting-failed",    "greeting", ERROR,   GENERAL_FAILURE) \
	ROW(WHY_GREETING_TIMEOUT, "greeting-timeout",   "greeting", ERROR,   TTL_EXPIRED) \
	ROW(WHY_REPLY_FAILED,     "reply-failed",       "reply",    ERROR,   GENERAL_FAILURE) \
	ROW(WHY_REPLY_REFUSED,    "reply-refused",      "reply",    WARNING, GENERAL_FAILURE) \
	ROW(WHY_REPLY_TIMEOUT,    "reply-timeout",      "reply",    WARNING, TTL_EXPIRED)
/* clang-format on */

enum why {
#define WHY_ID(id, word, phase, level, reply) id,
	WHY_TABLE(WHY_ID)
#undef WHY_ID
		WHY_COUNT,
};

struct why_row {
	const char *word;
	const char *phase;
	enum log_level level;
	enum socks5_reply reply;
};

extern const struct why_row why_rows[WHY_COUNT];

/* The reply for a flow that ended so; `err` (errno, 0: none) decides where the connection to the
 * destination, or a port for it, failed (RFC 1928 section 6). */
enum socks5_reply why_reply(enum why why, int err);
