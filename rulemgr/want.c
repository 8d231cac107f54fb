/* SPDX-License-Identifier: MIT */
#include "rulemgr/want.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <string.h>

#include "policy/strbuf.h"
#include "rulemgr/emit.h"
#include "rulemgr/want_sets.h"

/* Before the host's own filter (0), which may accept the port. */
#define WANT_FILTER_PRIORITY (-1)
/* nft's "mangle": behind conntrack, before routing is decided or, on output, decided again. */
#define WANT_TPROXY_PRIORITY (-150)
/* Any number will do, but always the same, so that the same clients are taken each time. */
#define WANT_SHARE_SEED 0x7472616e

/* Offsets in the headers, bytes. */
enum { IPV4_SADDR = 12, IPV4_DADDR = 16, IPV6_SADDR = 8, IPV6_DADDR = 24 };
#define UDP_PAYLOAD 8

struct family {
	uint8_t nfproto;
	uint32_t saddr, daddr, len;
	const char *name;
	const char *special, *configured, *bypass, *upstream; /* sets */
};

/* In the order of want.family. */
static const struct family families[2] = {
	{NFPROTO_IPV4, IPV4_SADDR, IPV4_DADDR, 4, "IPv4", WANT_SET_SPECIAL4, WANT_SET_CONFIGURED4,
	 WANT_SET_BYPASS4, WANT_SET_UPSTREAM4},
	{NFPROTO_IPV6, IPV6_SADDR, IPV6_DADDR, 16, "IPv6", WANT_SET_SPECIAL6, WANT_SET_CONFIGURED6,
	 WANT_SET_BYPASS6, WANT_SET_UPSTREAM6},
};

/* It comes before any look at an address: the bytes at an IPv4 header's offset are part of the source
 * address in an IPv6 header. */
static void match_family(struct build *b, const struct family *f)
{
	emit_load_meta(b, NFT_META_NFPROTO);
	emit_compare_u8(b, NFT_CMP_EQ, f->nfproto);
}

static void skip_other_protocols(struct build *b, uint8_t protocol)
{
	emit_rule(b, "not %s", protocol == IPPROTO_TCP ? "TCP" : "UDP");
	emit_load_meta(b, NFT_META_L4PROTO);
	emit_compare_u8(b, NFT_CMP_NEQ, protocol);
	emit_end(b, EXPR_RETURN);
}

/* Without conntrack before us, the next packet of a live connection looks like a new flow
 * (nf_conntrack_tcp_loose); redirecting it would kill the connection. */
static void skip_not_syn(struct build *b)
{
	emit_rule(b, "not the first packet of a connection");
	emit_match_protocol(b, IPPROTO_TCP);
	emit_load_syn_flags(b);
	emit_compare_u8(b, NFT_CMP_NEQ, TH_SYN);
	emit_end(b, EXPR_RETURN);
}

static void skip_not_quic(struct build *b)
{
	emit_rule(b, "not to port 443");
	emit_match_protocol(b, IPPROTO_UDP);
	emit_load_port(b, 0);
	emit_compare_u16_be(b, NFT_CMP_NEQ, 443);
	emit_end(b, EXPR_RETURN);
}

static void skip_families(struct build *b)
{
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		if (b->w->family[i])
			continue;
		emit_rule(b, WANT_COMMENT_FAMILY, families[i].name);
		match_family(b, &families[i]);
		emit_end(b, EXPR_RETURN);
	}
}

static void skip_other_interfaces(struct build *b)
{
	emit_rule(b, "not from a gateway interface");
	emit_load_meta(b, NFT_META_IIFNAME);
	emit_lookup(b, WANT_SET_GATEWAY, true);
	emit_end(b, EXPR_RETURN);
}

static void skip_mark(struct build *b, struct mark mark, const char *why)
{
	if (mark.mask == 0)
		return;
	emit_rule(b, "%s", why);
	emit_load_meta(b, NFT_META_MARK);
	emit_compare_mark(b, mark, NFT_CMP_EQ);
	emit_end(b, EXPR_RETURN);
}

static void skip_marks(struct build *b)
{
	const struct mark_list *exempt = &b->w->redirect->exempt_marks;
	char why[64];

	skip_mark(b, b->w->mark, "marked by transocksd or usocksd");
	for (size_t i = 0; i < exempt->n; i++) {
		snprintf(why, sizeof(why), "exempt mark 0x%x/0x%x", exempt->marks[i].value,
			 exempt->marks[i].mask);
		skip_mark(b, exempt->marks[i], why);
	}
}

static void skip_users(struct build *b)
{
	emit_rule(b, "user of transocksd and usocksd");
	emit_load_meta(b, NFT_META_SKUID);
	emit_compare_u32(b, NFT_CMP_EQ, b->w->uid);
	emit_end(b, EXPR_RETURN);
	if (b->w->n_exempt_uids == 0)
		return;
	emit_rule(b, "exempt user");
	emit_load_meta(b, NFT_META_SKUID);
	emit_lookup(b, WANT_SET_UIDS, false);
	emit_end(b, EXPR_RETURN);
}

/* The kernel asks for the ancestor of one level, so there is a rule for each level that occurs. */
static void skip_cgroups(struct build *b)
{
	const struct want *w = b->w;
	uint32_t deepest = 0;

	for (size_t i = 0; i < w->n_exempt_cgroups; i++) {
		if (w->exempt_cgroups[i].level > deepest)
			deepest = w->exempt_cgroups[i].level;
	}
	for (uint32_t level = 1; level <= deepest; level++) {
		size_t i = 0;
		struct expr *e;

		while (i < w->n_exempt_cgroups && w->exempt_cgroups[i].level != level)
			i++;
		if (i == w->n_exempt_cgroups)
			continue;
		emit_rule(b, "exempt control group, level %u", level);
		e = emit_expr(b, EXPR_SOCKET);
		e->key = NFT_SOCKET_CGROUPV2;
		e->offset = level;
		emit_lookup(b, WANT_SET_CGROUPS, false);
		emit_end(b, EXPR_RETURN);
	}
}

static void skip_local(struct build *b)
{
	emit_rule(b, "to an address of this host");
	emit_expr(b, EXPR_FIB_TYPE);
	emit_compare_u32(b, NFT_CMP_EQ, RTN_LOCAL);
	emit_end(b, EXPR_RETURN);
}

/* `why` goes before the name of the family. A set that is not there has no rule. */
static void skip_addresses(struct build *b, const struct family *f, const char *set,
			   const char *why)
{
	if (model_find_set(&b->m, set) == NULL)
		return;
	emit_rule(b, "%s %s address", why, f->name);
	match_family(b, f);
	emit_load_header(b, NFT_PAYLOAD_NETWORK_HEADER, f->daddr, f->len, 0);
	emit_lookup(b, set, false);
	emit_end(b, EXPR_RETURN);
}

static void skip_upstreams(struct build *b, const struct family *f, uint8_t protocol)
{
	if (model_find_set(&b->m, f->upstream) == NULL)
		return;
	emit_rule(b, "to an upstream by %s", f->name);
	match_family(b, f);
	emit_match_protocol(b, protocol);
	emit_load_header(b, NFT_PAYLOAD_NETWORK_HEADER, f->daddr, f->len, 0);
	emit_load_port(b, (uint8_t)(f->len / 4));
	emit_lookup(b, f->upstream, false);
	emit_end(b, EXPR_RETURN);
}

static void skip_ports(struct build *b, uint8_t protocol)
{
	if (model_find_set(&b->m, WANT_SET_PORTS) == NULL)
		return;
	emit_rule(b, "to a port that is not redirected");
	emit_match_protocol(b, protocol);
	emit_load_port(b, 0);
	emit_lookup(b, WANT_SET_PORTS, true);
	emit_end(b, EXPR_RETURN);
}

/* The hash is spread evenly over 0..99 and grows with the kernel's hash value, so a larger share takes the clients
 * of a smaller one as well. Numbers are compared byte by byte, so the largest byte must come first. */
static void skip_share(struct build *b, const struct family *f)
{
	uint32_t share = htonl(b->w->redirect->share);
	struct expr *e;

	if (b->w->redirect->share >= 100)
		return;
	emit_rule(b, "%s " WANT_COMMENT_SHARE " %u percent", f->name, b->w->redirect->share);
	match_family(b, f);
	emit_load_header(b, NFT_PAYLOAD_NETWORK_HEADER, f->saddr, f->len, 4);
	e = emit_expr(b, EXPR_HASH);
	e->source = 4;
	e->len = f->len;
	e->offset = WANT_SHARE_SEED;
	e->key = 100;
	emit_expr(b, EXPR_BYTEORDER);
	emit_compare(b, NFT_CMP_GTE, &share, sizeof(share));
	emit_end(b, EXPR_RETURN);
}

/* Where a flow goes to, and from which client: the same for every chain. */
static void skip_destinations(struct build *b, uint8_t protocol)
{
	static const struct {
		size_t set; /* offset in struct family */
		const char *why;
	} rows[] = {
		{offsetof(struct family, special), "special-purpose"},
		{offsetof(struct family, configured), "configured bypass,"},
		{offsetof(struct family, bypass), "live exception,"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t k = 0; k < ARRAY_LEN(families); k++) {
			const char *const *set =
				(const void *)((const char *)&families[k] + rows[i].set);

			if (b->w->family[k])
				skip_addresses(b, &families[k], *set, rows[i].why);
		}
	}
	for (size_t k = 0; k < ARRAY_LEN(families); k++) {
		if (b->w->family[k])
			skip_upstreams(b, &families[k], protocol);
	}
	skip_ports(b, protocol);
	for (size_t k = 0; k < ARRAY_LEN(families); k++) {
		if (b->w->family[k])
			skip_share(b, &families[k]);
	}
}

/* Who sends: only where the sender is a socket of this host. */
static void skip_senders(struct build *b)
{
	skip_marks(b);
	skip_users(b);
	skip_cgroups(b);
}

/* Loads the port of transocksd for the expression that takes it. */
static void load_target(struct build *b)
{
	uint16_t wire = htons(b->w->port);

	emit_value(&emit_expr(b, EXPR_IMMEDIATE)->value, &wire, sizeof(wire));
}

static void redirect(struct build *b)
{
	emit_rule(b, "to transocksd");
	emit_match_protocol(
		b, IPPROTO_TCP); /* always true here; nft(8) cannot read its listing without */
	emit_expr(b, EXPR_COUNTER);
	load_target(b);
	emit_expr(b, EXPR_REDIRECT);
}

static void build_output(struct build *b)
{
	emit_chain(b, "output", CHAIN_NAT, NF_INET_LOCAL_OUT, b->w->redirect->priority,
		   "flows of this host");
	skip_other_protocols(b, IPPROTO_TCP);
	skip_not_syn(b);
	skip_families(b);
	skip_senders(b);
	skip_local(b);
	skip_destinations(b, IPPROTO_TCP);
	redirect(b);
}

static void build_prerouting(struct build *b)
{
	emit_chain(b, "prerouting", CHAIN_NAT, NF_INET_PRE_ROUTING, b->w->redirect->priority,
		   "flows forwarded by this host");
	skip_other_interfaces(b);
	skip_other_protocols(b, IPPROTO_TCP);
	skip_not_syn(b);
	skip_families(b);
	skip_marks(b);
	skip_local(b);
	skip_destinations(b, IPPROTO_TCP);
	redirect(b);
}

/* TPROXY works where packets come in. What this host sends is marked here, so that it is routed to the
 * loopback interface and comes in there; conntrack keeps the mark for the packets after the first. */
static void build_tproxy_output(struct build *b)
{
	struct mark mark = b->w->tproxy_mark;

	emit_chain(b, "output", CHAIN_ROUTE, NF_INET_LOCAL_OUT, WANT_TPROXY_PRIORITY,
		   "flows of this host");
	skip_other_protocols(b, IPPROTO_TCP);
	emit_rule(b, "answer to somebody else's connection");
	emit_load_ct(b, NFT_CT_DIRECTION);
	emit_compare_u8(b, NFT_CMP_EQ, IP_CT_DIR_REPLY);
	emit_end(b, EXPR_RETURN);

	emit_rule(b, "of a connection taken before");
	emit_load_ct(b, NFT_CT_MARK);
	emit_compare_mark(b, mark, NFT_CMP_EQ);
	emit_packet_mark(b, mark);
	emit_end(b, EXPR_RETURN);

	skip_not_syn(b);
	skip_families(b);
	skip_senders(b);
	skip_local(b);
	skip_destinations(b, IPPROTO_TCP);
	emit_rule(b, "to transocksd");
	emit_match_protocol(b, IPPROTO_TCP);
	emit_flow_mark(b, mark);
	emit_packet_mark(b, mark);
	emit_end(b, EXPR_ACCEPT);
}

/* Without a listener tproxy ends the rule. The mark set before it then leads the packet nowhere; set
 * behind it, the packet goes on as if there were no rule. */
static void tproxy(struct build *b)
{
	bool open = b->w->redirect->when_daemon_down == REDIRECT_DOWN_OPEN;

	emit_rule(b, "to transocksd");
	emit_match_protocol(b, IPPROTO_TCP);
	emit_expr(b, EXPR_COUNTER);
	if (!open)
		emit_packet_mark(b, b->w->tproxy_mark);
	load_target(b);
	emit_expr(b, EXPR_TPROXY);
	if (open)
		emit_packet_mark(b, b->w->tproxy_mark);
	emit_expr(b, EXPR_ACCEPT);
}

static void match_transparent(struct build *b)
{
	emit_match_protocol(b, IPPROTO_TCP);
	emit_expr(b, EXPR_SOCKET)->key = NFT_SOCKET_TRANSPARENT;
	emit_compare_u8(b, NFT_CMP_EQ, 1);
}

/* An earlier table may have had another gateway interface. Only the socket of a connection counts here: a listener on
 * all addresses would be found for what is forwarded to its port, too. */
static void keep_taken_anywhere(struct build *b)
{
	emit_rule(b, "of a connection taken before, from any interface");
	match_transparent(b);
	emit_expr(b, EXPR_SOCKET)->key = NFT_SOCKET_WILDCARD;
	emit_compare_u8(b, NFT_CMP_EQ, 0);
	emit_packet_mark(b, b->w->tproxy_mark);
	emit_end(b, EXPR_ACCEPT);
}

/* What goes to this host itself is left alone first: a connection to the port would find the transparent listener
 * and be marked, and the guard could not tell it from a redirected one. */
static void build_tproxy_prerouting(struct build *b)
{
	struct mark mark = b->w->tproxy_mark;

	emit_chain(b, "prerouting", CHAIN_FILTER, NF_INET_PRE_ROUTING, WANT_TPROXY_PRIORITY,
		   "flows to be taken as they come in");
	skip_other_protocols(b, IPPROTO_TCP);
	skip_local(b);
	keep_taken_anywhere(b);
	skip_other_interfaces(b);

	emit_rule(b, "of a connection taken before");
	match_transparent(b);
	emit_packet_mark(b, mark);
	emit_end(b, EXPR_ACCEPT);

	emit_rule(b, "of this host and not marked by chain output");
	emit_load_meta(b, NFT_META_IIFNAME);
	emit_compare(b, NFT_CMP_EQ, (char[IFNAMSIZ]){"lo"}, IFNAMSIZ);
	emit_load_meta(b, NFT_META_MARK);
	emit_compare_mark(b, mark, NFT_CMP_NEQ);
	emit_end(b, EXPR_RETURN);

	skip_not_syn(b);
	skip_families(b);
	skip_marks(b);
	skip_destinations(b, IPPROTO_TCP);
	tproxy(b);
}

/* Without transocksd a marked packet would be delivered to whoever of this host listens at the port that it wanted
 * on all addresses: the route makes every address ours. */
static void refuse_untaken(struct build *b)
{
	emit_rule(b, "taken by transocksd");
	match_transparent(b);
	emit_end(b, EXPR_RETURN);

	emit_rule(b, "to be taken, and nobody did");
	emit_match_protocol(b, IPPROTO_TCP);
	emit_load_syn_flags(b);
	emit_compare_u8(b, NFT_CMP_EQ, TH_SYN);
	emit_load_meta(b, NFT_META_MARK);
	emit_compare_mark(b, b->w->tproxy_mark, NFT_CMP_EQ);
	emit_expr(b, EXPR_FIB_TYPE);
	emit_compare_u32(b, NFT_CMP_NEQ, RTN_LOCAL);
	emit_expr(b, EXPR_COUNTER);
	emit_expr(b, EXPR_REJECT)->key = NFT_REJECT_TCP_RST;
}

/* A connection made to the port itself has the daemon's own address as original destination: it
 * would dial itself without end. Only its first packet is looked at: a live connection of somebody
 * whose own port happens to be this one would look like one of these. */
static void build_guard(struct build *b)
{
	emit_chain(b, "guard", CHAIN_FILTER, NF_INET_LOCAL_IN, WANT_FILTER_PRIORITY,
		   "only redirected flows may enter");
	emit_rule(b, "direct connection to the redirect port");
	emit_match_protocol(b, IPPROTO_TCP);
	emit_load_port(b, 0);
	emit_compare_u16_be(b, NFT_CMP_EQ, b->w->port);
	emit_load_syn_flags(b);
	emit_compare_u8(b, NFT_CMP_EQ, TH_SYN);
	emit_load_ct(b, NFT_CT_DIRECTION);
	emit_compare_u8(b, NFT_CMP_EQ, IP_CT_DIR_ORIGINAL);
	if (b->w->mode == REDIRECT_MODE_TPROXY) {
		emit_load_meta(b, NFT_META_MARK);
		emit_compare_mark(b, b->w->tproxy_mark, NFT_CMP_NEQ);
	} else {
		emit_load_ct(b, NFT_CT_STATUS);
		emit_mask_u32(b, IPS_DST_NAT);
		emit_compare_u32(b, NFT_CMP_EQ, 0);
	}
	emit_expr(b, EXPR_COUNTER);
	emit_expr(b, EXPR_REJECT)->key = NFT_REJECT_TCP_RST;
	if (b->w->mode == REDIRECT_MODE_TPROXY)
		refuse_untaken(b);
}

/* Browsers try QUIC beside TCP, and would go past us. Told at once that the port is closed, they use TCP. */
static void build_quic(struct build *b, bool forwarded)
{
	struct expr *e;

	emit_chain(b, forwarded ? "quic_forward" : "quic_output", CHAIN_FILTER,
		   forwarded ? NF_INET_FORWARD : NF_INET_LOCAL_OUT, WANT_FILTER_PRIORITY,
		   forwarded ? "QUIC forwarded by this host" : "QUIC of this host");
	if (forwarded)
		skip_other_interfaces(b);
	skip_other_protocols(b, IPPROTO_UDP);
	skip_not_quic(b);
	skip_families(b);
	if (forwarded)
		skip_marks(b);
	else
		skip_senders(b);
	skip_local(b);
	skip_destinations(b, IPPROTO_UDP);
	/* A connection attempt has a long header (RFC 9000 section 17.2), a live connection short ones. A datagram
	 * without a byte has none: then the rule ends here. */
	emit_rule(b, "QUIC connection");
	emit_match_protocol(b, IPPROTO_UDP);
	emit_load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, UDP_PAYLOAD, 1, 0);
	emit_mask_u8(b, 0x80);
	emit_compare_u8(b, NFT_CMP_EQ, 0x80);
	emit_expr(b, EXPR_COUNTER);
	e = emit_expr(b, EXPR_REJECT);
	e->key = NFT_REJECT_ICMPX_UNREACH;
	e->offset = NFT_REJECT_ICMPX_PORT_UNREACH;
}

/* The ports of the tables before this one stay known: flows that those redirected live on. */
static void build_comment(struct build *b)
{
	struct strbuf sb;

	strbuf_init(&sb, b->m.comment, sizeof(b->m.comment));
	strbuf_puts(&sb, MODEL_COMMENT_PREFIX TRANSOCKS_VERSION);
	for (size_t i = 0; i < b->w->n_earlier_ports; i++)
		strbuf_printf(&sb, "%s%u", i == 0 ? MODEL_COMMENT_EARLIER : " ",
			      b->w->earlier_ports[i]);
}

static void build_chains(struct build *b)
{
	const struct want *w = b->w;

	if (w->mode == REDIRECT_MODE_TPROXY) {
		build_tproxy_output(b);
		build_tproxy_prerouting(b);
	} else {
		build_output(b);
		if (w->n_gateways > 0)
			build_prerouting(b);
	}
	build_guard(b);
	if (w->redirect->quic == REDIRECT_QUIC_REJECT) {
		build_quic(b, false);
		if (w->n_gateways > 0)
			build_quic(b, true);
	}
}

int want_build(const struct want *w, struct model *m)
{
	struct build b = {.w = w};

	b.failed = want_build_sets(&b.m, w) < 0;
	build_comment(&b);
	b.m.flags = w->redirect->when_daemon_down == REDIRECT_DOWN_OPEN ? NFT_TABLE_F_OWNER : 0;
	build_chains(&b);
	if (b.failed) {
		model_free(&b.m);
		return -ENOMEM;
	}
	*m = b.m;
	return 0;
}
