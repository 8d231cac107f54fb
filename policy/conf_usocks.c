/* SPDX-License-Identifier: MIT */
#include "policy/conf.h"

#include <errno.h>

#include "policy/conf_rows.h"

#define NETWORKS_MAX 100000
#define SITES_MAX    100000
#define PORTS_MAX    1024
#define USERS_MAX    1024
#define LOGINS_MAX   100000

#define COMMANDS_MAX 16 /* words in a list, the same one twice among them */

const char *const incoming_command_words[] = {"connect", "bind", "udp-associate", NULL};

#define ACL_ROW(option_name, member, list_type, most, help_text)                                   \
	{                                                                                          \
		.name = option_name, .type = &list_type, .offset = FIELD(acl.member), .def = "[]", \
		.min = 0, .max = most, .help = help_text,                                          \
	}

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
		.help = "own addresses to listen on; empty: all with allow_from or auth.file, "
			"else loopback",
	},
	ACL_ROW("incoming.allow_from", allow_from, option_clients, NETWORKS_MAX,
		"networks and addresses of clients; empty: this host, or with "
		"auth.file all"),
	ACL_ROW("incoming.trusted_proxies", trusted_proxies, option_clients, NETWORKS_MAX,
		"proxies whose PROXY v2 header says who the client is"),
	{
		.name = "incoming.commands",
		.type = &option_word_set,
		.offset = FIELD(incoming.commands),
		.def = "[\"connect\", \"bind\", \"udp-associate\"]",
		.min = 1,
		.max = COMMANDS_MAX,
		.words = incoming_command_words,
		.help = "what clients may ask for: connect, bind, udp-associate",
	},
	{
		.name = "incoming.metrics_port",
		.type = &option_integer,
		.offset = FIELD(incoming.metrics_port),
		.def = "0",
		.min = 0,
		.max = UINT16_MAX,
		.at_start = true,
		.help = "port on loopback where metrics are served, as metrics.listen; 0: none",
	},
	{
		.name = "auth.file",
		.type = &option_path,
		.offset = FIELD(auth.file),
		.def = "\"\"",
		.min = 0,
		.max = 4095,
		.help = "file of lines user:hash, who may log in; empty: no passwords",
	},
	ACL_ROW("outgoing.allow_sites", allow_sites.written, option_sites, SITES_MAX,
		"only these sites; \"x\", \".x\" for all below x, \"\" for addresses; empty: all"),
	ACL_ROW("outgoing.deny_sites", deny_sites.written, option_sites, SITES_MAX,
		"not these sites, also where allow_sites has them"),
	ACL_ROW("outgoing.deny_ports", deny_ports, option_ports, PORTS_MAX,
		"destination ports and ranges \"8000-8999\" that are refused"),
	ACL_ROW("outgoing.deny_networks", deny_networks, option_prefixes, NETWORKS_MAX,
		"networks that are not connected to, also where a name leads there"),
	ACL_ROW("outgoing.allow_anyway", allow_anyway, option_prefixes, NETWORKS_MAX,
		"networks refused by themselves (loopback, link-local, own) that are opened"),
	{
		.name = "outgoing.addresses",
		.type = &option_egress,
		.offset = FIELD(egress.addresses),
		.def = "[]",
		.min = 0,
		.max = EGRESS_ADDRESSES_MAX,
		.help = "own addresses to connect from, one for each client; empty: the kernel "
			"chooses",
	},
	{
		.name = "outgoing.iface",
		.type = &option_string,
		.offset = FIELD(egress.iface),
		.def = "\"\"",
		.min = 0,
		.max = 255,
		.help = "interface that all connections go out through; empty: as routes say",
	},
	{
		.name = "outgoing.dnsbl_domain",
		.type = &option_string,
		.offset = FIELD(egress.dnsbl_domain),
		.def = "\"\"",
		.min = 0,
		.max = 255,
		.help = "DNS blocklist that is asked about these addresses; empty: none",
	},
	{
		.name = "outgoing.dnsbl_interval",
		.type = &option_duration,
		.offset = FIELD(egress.dnsbl_interval),
		.def = "\"15s\"",
		.min = SECONDS(1),
		.max = HOURS(24),
		.help = "how long after its last answer it is asked again, 1s or more",
	},
	ROWS_LOG,
	DURATION_ROW("timeouts.handshake", timeouts.handshake, "\"10s\"", PHASE_MAX,
		     "from accept to the end of the client's request; 0: no limit"),
	DURATION_ROW("timeouts.request", timeouts.request, "\"10m\"", PHASE_MAX,
		     "the same for connections of trusted proxies, kept ready; 0: no limit"),
	DURATION_ROW("timeouts.connect", timeouts.connect, "\"10s\"", PHASE_MAX,
		     "to resolve the destination and connect to it; 0: no limit"),
	DURATION_ROW("timeouts.bind", timeouts.bind, "\"2m\"", PHASE_MAX,
		     "how long a BIND waits for its peer to connect; 0: no limit"),
	ROWS_FLOW_TIMEOUTS,
	DURATION_ROW("timeouts.udp_idle", timeouts.udp_idle, "\"2m\"", LONG_MAX_MS,
		     "end a UDP association that carries nothing for so long; 0: never"),
	ROWS_LIMITS("64"),
	LIMIT_ROW("limits.max_handshakes", limits.max_handshakes, "0",
		  "connections without a request at once; 0: a quarter of max_flows"),
	LIMIT_ROW("limits.max_handshakes_per_client", limits.max_handshakes_per_client, "64",
		  "connections of one client without a request after a second; 0: no limit"),
	LIMIT_ROW("limits.max_binds_per_client", limits.max_binds_per_client, "64",
		  "flows of one client by the command BIND at once; 0: no limit"),
	LIMIT_ROW("limits.max_resolving", limits.max_resolving, "1024",
		  "requests that wait for name servers at once; 0: no limit"),
	LIMIT_ROW("limits.max_udp_associations", limits.max_udp_associations, "0",
		  "UDP associations at once; 0: 1024, or what descriptors allow if that is less"),
	ROW_DNS_SERVERS,
	ROW_METRICS,
	{0},
};

OPTION_ELEMENTS_AT(egress_conf, users, n_users);

#define USERS(member) offsetof(struct egress_users, member)

static const struct option users_options[] = {
	{
		.name = "outgoing.users.clients",
		.type = &option_clients,
		.offset = USERS(clients),
		.min = 1,
		.max = NETWORKS_MAX,
		.help = "networks and addresses of the clients that this is for",
	},
	{
		.name = "outgoing.users.users",
		.type = &option_logins,
		.offset = USERS(users),
		.min = 1,
		.max = LOGINS_MAX,
		.help = "users of auth.file that this is for; with clients as well: both",
	},
	{
		.name = "outgoing.users.addresses",
		.type = &option_egress,
		.offset = USERS(addresses),
		.min = 1,
		.max = EGRESS_ADDRESSES_MAX,
		.help = "own addresses that they have, as outgoing.addresses",
	},
	{0},
};

static const struct option_section sections[] = {
	{
		.name = "outgoing.users",
		.options = users_options,
		.offset = FIELD(egress.users),
		.size = sizeof(struct egress_users),
		.place = USERS(place),
		.places = USERS(places),
		.max = USERS_MAX,
	},
	{0},
};

/* An open relay would be the worst default: who wants other hosts as clients says so. */
static const uint8_t loopback4[4] = {127, 0, 0, 1};
static const uint8_t loopback6[16] = {[15] = 1};

static const uint8_t any[16];

static bool knows_clients(const struct conf *c)
{
	return c->acl.allow_from.n > 0 || c->acl.passwords;
}

/* Where clients may connect to, if the file does not say. */
static size_t listen_default(const struct conf *c, struct addr *out)
{
	bool all = knows_clients(c);

	out[0] = addr_from_bytes(all ? any : loopback4, 4, c->incoming.port);
	out[1] = addr_from_bytes(all ? any : loopback6, 16, c->incoming.port);
	return 2;
}

static int check_open_relay(const struct conf *c, struct diag *d)
{
	const struct place *at = &c->incoming.addresses_place;
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < c->listen.n && !knows_clients(c); i++) {
		if (!addr_is_loopback(&c->listen.addrs[i]))
			return diag_set(
				d, EINVAL, at->file, at->line,
				"option \"incoming.addresses\": %s without "
				"\"incoming.allow_from\" is an open relay: write the networks of "
				"your clients, such as allow_from = [\"10.0.0.0/8\"], or "
				"\"auth.file\"",
				addr_format_ip(&c->listen.addrs[i], text, sizeof(text)));
	}
	return 0;
}

static int finish(struct conf *c, const char *file, struct diag *d)
{
	const struct addr_list *own = &c->incoming.addresses;
	struct addr *addrs = calloc(own->n + 2, sizeof(*addrs));
	size_t n = own->n;
	int r;

	if (addrs == NULL)
		return diag_set(d, ENOMEM, file, 0, "out of memory");
	c->acl.passwords = c->auth.file[0] != '\0';
	for (size_t i = 0; i < n; i++) {
		addrs[i] = own->addrs[i];
		addrs[i].port = c->incoming.port;
	}
	if (n == 0)
		n = listen_default(c, addrs);
	c->listen = (struct addr_list){.addrs = addrs, .n = n};
	c->listen_default = addr_list_has_both_families(&c->listen);
	r = addr_list_check_distinct(&c->listen, "incoming.addresses", file, d);
	if (r == 0)
		r = check_open_relay(c, d);
	if (r == 0)
		r = conf_finish_metrics(c, c->incoming.metrics_port, file, d);
	if (r == 0)
		r = egress_finish(&c->egress, file, d);
	return r == 0 ? acl_compile(&c->acl, d) : r;
}

const struct conf_program conf_usocks = {
	.name = "usocksd",
	.default_file = "/etc/usocksd.toml",
	.dropin_dir = "/etc/usocksd.d",
	.file_optional = true,
	.options = options,
	.sections = sections,
	.lists = true,
	.parse_users = users_parse,
	.finish = finish,
};
