/* SPDX-License-Identifier: MIT */
#include "policy/conf.h"

#include <errno.h>

#include "policy/conf_rows.h"

static const struct option options[] = {
	ROW_WORKERS,
	ROW_USER,
	ROW_MARK,
	ROW_CONTROL("/run/transocks/usocksd.sock"),
	{
		.name = "incoming.port",
		.type = &option_port,
		.offset = FIELD(incoming.port),
		.def = "1080",
		.min = 1,
		.max = UINT16_MAX,
		.at_start = true,
		.help = "TCP port that clients connect to",
	},
	{
		.name = "incoming.addresses",
		.type = &option_addresses,
		.offset = FIELD(incoming.addresses),
		.def = "[]",
		.min = 0,
		.max = LIST_MAX_ENTRIES,
		.at_start = true,
		.help = "own addresses to listen on; empty: this host only (127.0.0.1 and ::1)",
	},
	ROWS_LOG,
	DURATION_ROW("timeouts.handshake", timeouts.handshake, "\"10s\"", PHASE_MAX,
		     "from accept to the end of the client's request; 0: no limit"),
	DURATION_ROW("timeouts.connect", timeouts.connect, "\"10s\"", PHASE_MAX,
		     "to resolve the destination and connect to it; 0: no limit"),
	ROWS_FLOW_TIMEOUTS,
	ROWS_LIMITS,
	ROW_DNS_SERVERS,
	{0},
};

/* An open relay would be the worst default: who wants other hosts as clients says so. */
static const uint8_t loopback4[4] = {127, 0, 0, 1};
static const uint8_t loopback6[16] = {[15] = 1};

static int finish(struct conf *c, const char *file, struct diag *d)
{
	const struct addr_list *own = &c->incoming.addresses;
	struct addr *addrs = calloc(own->n + 2, sizeof(*addrs));
	size_t n = own->n;

	if (addrs == NULL)
		return diag_set(d, ENOMEM, file, 0, "out of memory");
	for (size_t i = 0; i < n; i++) {
		addrs[i] = own->addrs[i];
		addrs[i].port = c->incoming.port;
	}
	if (n == 0) {
		addrs[n++] = addr_from_bytes(loopback4, 4, c->incoming.port);
		addrs[n++] = addr_from_bytes(loopback6, 16, c->incoming.port);
	}
	c->listen = (struct addr_list){.addrs = addrs, .n = n};
	c->listen_default = addr_list_has_both_families(&c->listen);
	return addr_list_check_distinct(&c->listen, "incoming.addresses", file, d);
}

const struct conf_program conf_usocks = {
	.name = "usocksd",
	.default_file = "/etc/usocksd.toml",
	.dropin_dir = "/etc/usocksd.d",
	.file_optional = true,
	.options = options,
	.finish = finish,
};
