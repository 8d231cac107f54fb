/* SPDX-License-Identifier: MIT */
#include "policy/conf_sections.h"

#include "policy/conf_rows.h"

#define SOURCES_MAX      64
#define WEIGHT_MAX       1000
#define WARM_MAX         1000
#define RULE_DOMAINS_MAX 100000
#define RULE_PORTS_MAX   1024
#define RULE_NETS_MAX    100000
/* "FILE:LINE", with the longest path that open(2) takes. */
#define RULE_NAME_MAX 4110

OPTION_ELEMENTS_AT(conf, upstreams, n_upstreams);
OPTION_ELEMENTS_AT(conf, groups, n_groups);
OPTION_ELEMENTS_AT(flow_rules, rules, n);

#define UPSTREAM(member) offsetof(struct upstream_conf, member)

static const struct option upstream_options[] = {
	{
		.name = "upstream.name",
		.type = &option_string,
		.offset = UPSTREAM(name),
		.min = 1,
		.max = PROXY_URL_TEXT_MAX - 1,
		.help = "what logs and counters call it; without: its URL",
	},
	{
		.name = "upstream.url",
		.type = &option_upstream_url,
		.offset = UPSTREAM(url),
		.help = "as proxy_url",
	},
	{
		.name = "upstream.auth_file",
		.type = &option_path,
		.offset = UPSTREAM(auth_file),
		.def = "\"\"",
		.min = 0,
		.max = 4095,
		.help = "a file with \"user:password\" instead of those in the URL",
	},
	{
		.name = "upstream.group",
		.type = &option_key,
		.offset = UPSTREAM(group),
		.def = "\"" DEFAULT_GROUP "\"",
		.min = 1,
		.max = OPTION_KEY_MAX,
		.help = "the group that it belongs to",
	},
	{
		.name = "upstream.weight",
		.type = &option_integer,
		.offset = UPSTREAM(weight),
		.def = "1",
		.min = 1,
		.max = WEIGHT_MAX,
		.help = "its share of the flows, beside the weights of the others in its group",
	},
	{
		.name = "upstream.warm",
		.type = &option_integer,
		.offset = UPSTREAM(warm),
		.def = "0",
		.min = 0,
		.max = WARM_MAX,
		.help = "connections kept ready, with the greeting done",
	},
	{
		.name = "upstream.address",
		.type = &option_word,
		.offset = UPSTREAM(address),
		.def = "\"name\"",
		.words = upstream_address_words,
		.help = "what it is told: name (where known), ip (always), auto (as a rule "
			"decided)",
	},
	{
		.name = "upstream.name_fallback",
		.type = &option_boolean,
		.offset = UPSTREAM(name_fallback),
		.def = "false",
		.help = "tell it the address where it cannot resolve the name; a way around rules",
	},
	{
		.name = "upstream.proxy_protocol",
		.type = &option_boolean,
		.offset = UPSTREAM(proxy_protocol),
		.def = "false",
		.help = "send a PROXY v2 header first, with the client's address and the name",
	},
	{
		.name = "upstream.source",
		.type = &option_addresses,
		.offset = UPSTREAM(source),
		.def = "[]",
		.min = 0,
		.max = SOURCES_MAX,
		.help = "own addresses to connect from; empty: the kernel chooses",
	},
	{0},
};

#define GROUP(member) offsetof(struct group_conf, member)

static const struct option group_options[] = {
	{
		.name = "group.NAME.choose",
		.type = &option_word,
		.offset = GROUP(choose),
		.def = "\"hash-client\"",
		.words = group_choose_words,
		.help = "hash-client, round-robin, least-flows, or failover (in the file's order)",
	},
	{
		.name = "group.NAME.when_all_down",
		.type = &option_word,
		.offset = GROUP(when_all_down),
		.def = "\"refuse\"",
		.words = group_all_down_words,
		.help = "what becomes of flows while no upstream is usable: refuse or direct",
	},
	{
		.name = "group.NAME.probe_interval",
		.type = &option_duration,
		.offset = GROUP(probe_interval),
		.def = "0",
		.min = 0,
		.max = HOURS(24),
		.help = "how often each upstream is tried without a flow; 0: never",
	},
	{
		.name = "group.NAME.probe_dest",
		.type = &option_endpoint,
		.offset = GROUP(probe_dest),
		.def = "\"\"",
		.min = 0,
		.max = 300,
		.help = "what a probe asks for, \"host:port\"; empty: it ends with the greeting",
	},
	{0},
};

#define RULE(member) offsetof(struct flow_rule, member)
/* Not written is no condition; written, it has entries. */
#define CONDITION_ROW(member, list_type, most, help_text)                                      \
	{                                                                                      \
		.name = "rule." #member, .type = &list_type, .offset = RULE(member), .min = 1, \
		.max = most, .help = help_text,                                                \
	}
#define RULE_FILE_ROW(member, help_text)                                               \
	{                                                                              \
		.name = "rule." #member, .type = &option_path, .offset = RULE(member), \
		.def = "\"\"", .min = 0, .max = 4095, .help = help_text,               \
	}

static const struct option rule_options[] = {
	{
		.name = "rule.name",
		.type = &option_string,
		.offset = RULE(name),
		.min = 1,
		.max = RULE_NAME_MAX,
		.help = "what logs and counters call it; without: FILE:LINE",
	},
	CONDITION_ROW(domains, option_domains, RULE_DOMAINS_MAX,
		      "names \"example.com\", with a dot in front also all below"),
	RULE_FILE_ROW(domains_file, "a file with more of them, one a line"),
	CONDITION_ROW(networks, option_prefixes, RULE_NETS_MAX,
		      "networks and addresses that the flow is on its way to"),
	RULE_FILE_ROW(networks_file, "a file with more of them, one a line"),
	CONDITION_ROW(ports, option_ports, RULE_PORTS_MAX,
		      "destination ports and ranges \"8000-8999\""),
	CONDITION_ROW(clients, option_prefixes, RULE_NETS_MAX,
		      "networks and addresses that the flow comes from"),
	{
		.name = "rule.unknown_name",
		.type = &option_word,
		.offset = RULE(unknown_name),
		.def = "\"auto\"",
		.words = rule_unknown_name_words,
		.help = "on domains, where no name is known: skip, match, or auto",
	},
	{
		.name = "rule.observe",
		.type = &option_boolean,
		.offset = RULE(observe),
		.def = "false",
		.help = "log and count what it would decide, and go on to the next rule",
	},
	{
		.name = "rule.action",
		.type = &option_word,
		.offset = RULE(action),
		.def = "\"proxy\"",
		.words = rule_action_words,
		.help = "proxy, direct or refuse",
	},
	{
		.name = "rule.group",
		.type = &option_key,
		.offset = RULE(group),
		.min = 1,
		.max = OPTION_KEY_MAX,
		.help = "of action proxy: the group of upstreams; without: \"default\"",
	},
	{0},
};

const struct option_section conf_sections[] = {
	{
		.name = "upstream",
		.options = upstream_options,
		.offset = FIELD(upstreams),
		.size = sizeof(struct upstream_conf),
		.place = UPSTREAM(place),
		.places = UPSTREAM(places),
		.max = UPSTREAMS_MAX,
	},
	{
		.name = "group",
		.named = true,
		.options = group_options,
		.offset = FIELD(groups),
		.size = sizeof(struct group_conf),
		.place = GROUP(place),
		.places = GROUP(places),
		.key = GROUP(name),
		.max = GROUPS_MAX,
	},
	{
		.name = "rule",
		.options = rule_options,
		.offset = FIELD(rules),
		.size = sizeof(struct flow_rule),
		.place = RULE(place),
		.places = RULE(places),
		.max = RULES_MAX,
	},
	{0},
};
