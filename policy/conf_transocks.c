/* SPDX-License-Identifier: MIT */
#include "policy/conf.h"

#include <errno.h>

#include "policy/conf_rows.h"

static const struct option options[] = {
	{
		.name = "listen",
		.type = &option_listen,
		.offset = FIELD(listen),
		.def = "\"localhost:1081\"",
		.min = 1,
		.max = LIST_MAX_ENTRIES,
		.help = "where redirected connections arrive; a gateway needs \":1081\"",
	},
	{
		.name = "proxy_url",
		.type = &option_proxy_url,
		.offset = FIELD(upstream),
		.help = "the upstream: socks5://[user:password@]host:port, or direct://",
	},
	{
		.name = "handshake",
		.type = &option_word,
		.offset = FIELD(handshake),
		.def = "\"auto\"",
		.words = handshake_mode_words,
		.help = "with a SOCKS5 upstream: auto, strict (a message at a time) or one-flight",
	},
	ROW_WORKERS,
	ROW_USER,
	ROW_MARK,
	ROW_CONTROL("/run/transocks/transocksd.sock"),
	ROWS_LOG,
	DURATION_ROW("timeouts.connect", timeouts.connect, "\"5s\"", PHASE_MAX,
		     "to connect to the upstream; 0: no limit"),
	DURATION_ROW("timeouts.greeting", timeouts.greeting, "\"2s\"", PHASE_MAX,
		     "until the upstream's first answer; 0: no limit"),
	DURATION_ROW("timeouts.reply", timeouts.reply, "\"30s\"", PHASE_MAX,
		     "until the upstream has reached the destination; 0: no limit"),
	DURATION_ROW("timeouts.flow_setup", timeouts.flow_setup, "\"45s\"", PHASE_MAX,
		     "all of that together; 0: no limit"),
	ROWS_FLOW_TIMEOUTS,
	ROWS_LIMITS,
	ROW_DNS_SERVERS,
	{0},
};

static int finish(struct conf *c, const char *file, struct diag *d)
{
	if (c->upstream.scheme == PROXY_NONE)
		return diag_set(d, EINVAL, file, 0,
				"option \"proxy_url\" must be set: \"socks5://host:port\", or "
				"\"direct://\" to connect to destinations without an upstream");
	c->listen_default = addr_list_has_both_families(&c->listen);
	return addr_list_check_distinct(&c->listen, "listen", file, d);
}

const struct conf_program conf_transocks = {
	.name = "transocksd",
	.default_file = "/etc/transocks.toml",
	.dropin_dir = "/etc/transocks.d",
	.options = options,
	.finish = finish,
};
