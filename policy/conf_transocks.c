/* SPDX-License-Identifier: MIT */
#include "policy/conf.h"

#include <errno.h>

#include "policy/conf_rows.h"
#include "policy/conf_sections.h"

/* What rulemgr/want.h has room for. */
#define GATEWAYS_MAX 64
/* Ranges that do not meet; more than anybody writes by hand. */
#define PORTS_MAX    1024
#define PREFIXES_MAX 100000

#define REDIRECT_WORD_ROW(member, default_text, word_list, help_text)                      \
	{                                                                                  \
		.name = "redirect." #member, .type = &option_word,                         \
		.offset = FIELD(redirect.member), .def = default_text, .words = word_list, \
		.help = help_text,                                                         \
	}
#define REDIRECT_LIST_ROW(member, list_type, most, help_text)                                      \
	{                                                                                          \
		.name = "redirect." #member, .type = &list_type, .offset = FIELD(redirect.member), \
		.def = "[]", .min = 0, .max = most, .help = help_text,                             \
	}

static const struct option options[] = {
	{
		.name = "listen",
		.type = &option_listen,
		.offset = FIELD(listen),
		.def = "\"localhost:1081\"",
		.min = 1,
		.max = LIST_MAX_ENTRIES,
		.at_start = true,
		.help = "where redirected connections arrive; a gateway needs \":1081\"",
	},
	{
		.name = "mode",
		.type = &option_word,
		.offset = FIELD(mode),
		.def = "\"redirect\"",
		.words = redirect_mode_words,
		.at_start = true,
		.help = "how flows get here: redirect (NAT) or tproxy (transparent, without NAT)",
	},
	{
		.name = "proxy_url",
		.type = &option_proxy_url,
		.offset = FIELD(proxy_url),
		.help = "the upstream: socks5, socks4a or http://[user:password@]host:port, or "
			"direct://",
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
	{
		.name = "tproxy_mark",
		.type = &option_mark,
		.offset = FIELD(tproxy_mark),
		.def = "\"" DEFAULT_TPROXY_MARK_TEXT "\"",
		.help = "mode tproxy: mark of packets on their way here, VALUE/MASK",
	},
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
	ROWS_LIMITS("128"),
	ROW_DNS_SERVERS,
	ROW_METRICS,
	{
		.name = "sniff.ports",
		.type = &option_ports,
		.offset = FIELD(sniff.ports),
		.def = "[80, 443]",
		.min = 0,
		.max = PORTS_MAX,
		.help = "where a flow's first bytes are read for the name of its destination",
	},
	{
		.name = "sniff.timeout",
		.type = &option_duration,
		.offset = FIELD(sniff.timeout),
		.def = "\"300ms\"",
		.min = 1,
		.max = SECONDS(10),
		.help = "how long they are waited for",
	},
	REDIRECT_WORD_ROW(backend, "\"auto\"", redirect_backend_words,
			  "what holds the rules: auto, nft or iptables"),
	REDIRECT_LIST_ROW(gateway, option_interfaces, GATEWAYS_MAX,
			  "interfaces whose forwarded flows are taken as well"),
	REDIRECT_LIST_ROW(bypass, option_prefixes, PREFIXES_MAX,
			  "networks that are never redirected, beside the special-purpose ones"),
	REDIRECT_LIST_ROW(redirect_anyway, option_special_prefixes, LIST_MAX_ENTRIES,
			  "special-purpose networks that are redirected all the same"),
	REDIRECT_LIST_ROW(ports, option_ports, PORTS_MAX,
			  "only flows to these ports and ranges \"8000-8999\"; empty: all"),
	REDIRECT_LIST_ROW(exempt_uids, option_users, LIST_MAX_ENTRIES,
			  "users of this host, by name or number, whose flows go direct"),
	REDIRECT_LIST_ROW(exempt_cgroups, option_cgroups, LIST_MAX_ENTRIES,
			  "control groups, below /sys/fs/cgroup, whose flows go direct"),
	REDIRECT_LIST_ROW(exempt_marks, option_marks, LIST_MAX_ENTRIES,
			  "marks, VALUE/MASK, of packets that go direct"),
	{
		.name = "redirect.priority",
		.type = &option_signed,
		.offset = FIELD(redirect.priority),
		.def = DEFAULT_REDIRECT_PRIORITY_TEXT,
		/* At or before NF_IP_PRI_CONNTRACK (-200) the kernel takes no nat chain; at or
		 * behind NF_IP_PRI_NAT_SRC (100) a tool would look for source NAT. */
		.min = -199,
		.max = 99,
		.help = "of the nat chains: lower is earlier, nft's dstnat is -100",
	},
	REDIRECT_WORD_ROW(family, "\"both\"", redirect_family_words,
			  "which flows are taken: both, ipv4 or ipv6"),
	{
		.name = "redirect.share",
		.type = &option_integer,
		.offset = FIELD(redirect.share),
		.def = "100",
		.min = 0,
		.max = 100,
		.help = "percent of the clients taken, by hash of their address",
	},
	REDIRECT_WORD_ROW(quic, "\"pass\"", redirect_quic_words,
			  "UDP 443: pass, or reject, so that browsers use TCP at once"),
	REDIRECT_WORD_ROW(
		when_daemon_down, "\"closed\"", redirect_down_words,
		"new flows while transocksd is not there: closed (refused) or open (direct)"),
	{0},
};

/* Whether a packet can match both for the bits that they share. */
static bool marks_meet(struct mark a, struct mark b)
{
	uint32_t common = a.mask & b.mask;

	return common != 0 && ((a.value ^ b.value) & common) == 0;
}

/* TPROXY sees its packets a second time, marked. */
static int check_exempt_marks(const struct conf *c, const char *file, struct diag *d)
{
	const struct mark_list *exempt = &c->redirect.exempt_marks;

	for (size_t i = 0; i < exempt->n; i++) {
		struct mark m = exempt->marks[i];

		if (marks_meet(m, c->tproxy_mark))
			return diag_set(d, EINVAL, file, 0,
					"option \"redirect.exempt_marks\": 0x%x/0x%x would exempt "
					"what \"tproxy_mark\" (0x%x/0x%x) marks: choose other bits "
					"for one of them",
					m.value, m.mask, c->tproxy_mark.value, c->tproxy_mark.mask);
	}
	return 0;
}

/* What the daemon and its rules have to agree on. */
static int finish_rules(struct conf *c, const char *file, struct diag *d)
{
	if (c->mode == REDIRECT_MODE_TPROXY && c->tproxy_mark.mask == 0)
		return diag_set(d, EINVAL, file, 0,
				"option \"tproxy_mark\": mode \"tproxy\" does not work without");
	if (c->mode == REDIRECT_MODE_TPROXY && (c->tproxy_mark.mask & c->mark.mask) != 0)
		return diag_set(d, EINVAL, file, 0,
				"options \"mark\" and \"tproxy_mark\" share bits of their masks: "
				"one would hide the other");
	if (c->mode == REDIRECT_MODE_TPROXY && check_exempt_marks(c, file, d) < 0)
		return -EINVAL;
	c->listen_default = addr_list_has_both_families(&c->listen);
	return addr_list_check_distinct(&c->listen, "listen", file, d);
}

static int finish(struct conf *c, const char *file, struct diag *d)
{
	if (c->proxy_url.scheme == PROXY_NONE && c->n_upstreams == 0)
		return diag_set(
			d, EINVAL, file, 0,
			"option \"proxy_url\" must be set, or an [[upstream]] be there: "
			"\"socks5://host:port\", or \"direct://\" to connect to destinations "
			"without an upstream");
	if (finish_rules(c, file, d) < 0)
		return -EINVAL;
	return conf_finish_metrics(c, 0, file, d);
}

const struct conf_program conf_transocks = {
	.name = "transocksd",
	.default_file = "/etc/transocks.toml",
	.dropin_dir = "/etc/transocks.d",
	.options = options,
	.sections = conf_sections,
	.lists = true,
	.finish = finish,
};

/* The rules may come before the daemon, and its file with its upstream. */
const struct conf_program conf_transocks_rules = {
	.name = "transocks-rules",
	.default_file = "/etc/transocks.toml",
	.dropin_dir = "/etc/transocks.d",
	.file_optional = true,
	.options = options,
	.sections = conf_sections,
	.finish = finish_rules,
};
