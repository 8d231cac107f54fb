/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The rows that both daemons' option tables share, so that an option means and says the same in both.
 * Included by conf_transocks.c and conf_usocks.c only.
 */
#include <stddef.h>

#include "policy/conf.h"
#include "policy/option_types.h"

#define FIELD(member) offsetof(struct conf, member)

#define SECONDS(n) ((n)*INT64_C(1000))
#define HOURS(n)   ((n)*INT64_C(3600000))

/* A phase of a flow: nobody waits longer than an hour for one. */
#define PHASE_MAX HOURS(1)
/* What may take its time. */
#define LONG_MAX_MS HOURS(24 * 7)
/* TCP_KEEPIDLE ends at 32767 s (Linux include/net/tcp.h, MAX_TCP_KEEPIDLE). */
#define KEEPALIVE_MAX HOURS(9)

#define LIST_MAX_ENTRIES   64
#define METRICS_LISTEN_MAX 8
/* More than descriptors allow for: fs.nr_open is 2^20 where nobody has raised it. */
#define FLOWS_MAX 1000000

#define DURATION_ROW(option_name, member, default_text, longest, help_text)             \
	{                                                                               \
		.name = option_name, .type = &option_duration, .offset = FIELD(member), \
		.def = default_text, .min = 0, .max = longest, .help = help_text,       \
	}

#define ROW_WORKERS                                                                               \
	{                                                                                         \
		.name = "workers", .type = &option_integer, .offset = FIELD(workers), .def = "0", \
		.min = 0, .max = 256, .at_start = true,                                           \
		.help = "worker threads; 0: one for each CPU",                                    \
	}

#define ROW_USER                                                                      \
	{                                                                             \
		.name = "user", .type = &option_string, .offset = FIELD(user),        \
		.def = "\"" DEFAULT_USER "\"", .min = 1, .max = 32, .at_start = true, \
		.help = "the user to become when started as root",                    \
	}

#define ROW_MARK                                                                               \
	{                                                                                      \
		.name = "mark", .type = &option_mark, .offset = FIELD(mark),                   \
		.def = "\"" DEFAULT_MARK_TEXT "\"",                                            \
		.help = "mark of every socket towards the network, VALUE/MASK; \"0/0\": none", \
	}

/* A path that fits into struct sockaddr_un. */
#define ROW_CONTROL(default_path)                                                      \
	{                                                                              \
		.name = "control", .type = &option_string, .offset = FIELD(control),   \
		.def = "\"" default_path "\"", .min = 0, .max = 107, .at_start = true, \
		.help = "socket that --status asks; empty: none",                      \
	}

#define ROWS_LOG                                                                                \
	{                                                                                       \
		.name = "log.filename",                                                         \
		.type = &option_string,                                                         \
		.offset = FIELD(log.filename),                                                  \
		.def = "\"\"",                                                                  \
		.min = 0,                                                                       \
		.max = 4095,                                                                    \
		.help = "file to append to; empty: standard error",                             \
	},                                                                                      \
		{                                                                               \
			.name = "log.level",                                                    \
			.type = &option_word,                                                   \
			.offset = FIELD(log.level),                                             \
			.def = "\"info\"",                                                      \
			.words = log_level_words,                                               \
			.aliases = log_level_aliases,                                           \
			.help = "critical, error, warning, info or debug",                      \
		},                                                                              \
	{                                                                                       \
		.name = "log.format", .type = &option_word, .offset = FIELD(log.format),        \
		.def = "\"plain\"", .words = log_format_words, .help = "plain, logfmt or json", \
	}

#define ROWS_FLOW_TIMEOUTS                                                                       \
	DURATION_ROW("timeouts.idle", timeouts.idle, "0", LONG_MAX_MS,                           \
		     "end a flow that carries nothing for so long; 0: never"),                   \
		DURATION_ROW("timeouts.half_close", timeouts.half_close, "\"10m\"", LONG_MAX_MS, \
			     "the same once one direction has ended; 0: never"),                 \
		DURATION_ROW("timeouts.drain", timeouts.drain, "\"60s\"", LONG_MAX_MS,           \
			     "at TERM, how long live flows may go on; 0: as long as they live"), \
		DURATION_ROW(                                                                    \
			"timeouts.keepalive", timeouts.keepalive, "\"60s\"", KEEPALIVE_MAX,      \
			"idle time before TCP keepalive asks whether the peer is there; 0: never")

#define LIMIT_ROW(option_name, member, default_text, help_text)                        \
	{                                                                              \
		.name = option_name, .type = &option_integer, .offset = FIELD(member), \
		.def = default_text, .min = 0, .max = FLOWS_MAX, .help = help_text,    \
	}

/* Whether the other hosts of a network of IPv6 are other clients depends on where the clients are. */
#define ROWS_LIMITS(default_ipv6_bits)                                                         \
	LIMIT_ROW("limits.max_flows", limits.max_flows, "0",                                   \
		  "flows at once; 0: as many as the descriptor limit allows"),                 \
		LIMIT_ROW("limits.max_flows_per_client", limits.max_flows_per_client, "0",     \
			  "flows at once of one client; 0: no limit"),                         \
	{                                                                                      \
		.name = "limits.client_ipv6_bits", .type = &option_integer,                    \
		.offset = FIELD(limits.client_ipv6_bits), .def = default_ipv6_bits, .min = 16, \
		.max = 128, .at_start = true,                                                  \
		.help = "so many bits of an IPv6 address are a client",                        \
	}

#define ROW_METRICS                                                                                \
	{                                                                                          \
		.name = "metrics.listen", .type = &option_listen, .offset = FIELD(metrics.listen), \
		.def = "[]", .min = 0, .max = METRICS_LISTEN_MAX, .at_start = true,                \
		.help = "where metrics are served by HTTP, ADDRESS:PORT; empty: nowhere",          \
	}

/* For finish(), after `listen`: where metrics are served. `port` is usocksd's incoming.metrics_port, else 0. 0 or
 * -errno with `d`. */
int conf_finish_metrics(struct conf *c, unsigned port, const char *file, struct diag *d);

#define ROW_DNS_SERVERS                                                                           \
	{                                                                                         \
		.name = "dns.servers", .type = &option_dns_servers, .offset = FIELD(dns.servers), \
		.def = "[]", .min = 0, .max = LIST_MAX_ENTRIES,                                   \
		.help = "name servers to ask; empty: those of /etc/resolv.conf",                  \
	}
