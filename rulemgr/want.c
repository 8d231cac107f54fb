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
#include <stdarg.h>
#include <string.h>

#include "policy/strbuf.h"
#include "rulemgr/want_sets.h"

/* Before the host's own filter (0), which may accept the port. */
#define WANT_FILTER_PRIORITY (-1)
/* nft's "mangle": behind conntrack, before routing is decided or, on output, decided again. */
#define WANT_TPROXY_PRIORITY (-150)
/* Any number will do, but always the same, so that the same clients are taken each time. */
#define WANT_SHARE_SEED 0x7472616e

/* Offsets in the headers, bytes. */
enum { IPV4_SADDR = 12, IPV4_DADDR = 16, IPV6_SADDR = 8, IPV6_DADDR = 24 };
enum { L4_DPORT = 2, TCP_FLAGS = 13, UDP_PAYLOAD = 8 };

/* The table as it grows. When memory has run out, what follows is written into `spare` and `failed` says so at
 * the end. */
struct build {
	const struct want *w;
	struct model m;
	struct chain *chain; /* the last one */
	struct rule *rule;   /* the last one of `chain`; NULL: no memory */
	struct expr spare;
	bool failed;
};

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

static void begin_chain(struct build *b, const char *name, enum chain_type type, uint32_t hook,
			int32_t priority, const char *comment)
{
	b->chain = model_add_chain(&b->m, name);
	if (b->chain == NULL) {
		b->failed = true;
		return;
	}
	b->chain->type = type;
	b->chain->hook = hook;
	b->chain->priority = priority;
	snprintf(b->chain->comment, sizeof(b->chain->comment), "%s", comment);
}

static void PRINTF_LIKE(2, 3) begin_rule(struct build *b, const char *fmt, ...)
{
	va_list ap;

	b->rule = b->chain != NULL ? chain_add_rule(b->chain) : NULL;
	if (b->rule == NULL) {
		b->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(b->rule->comment, sizeof(b->rule->comment), fmt, ap);
	va_end(ap);
}

static struct expr *add(struct build *b, enum expr_kind kind)
{
	struct expr *e = b->rule != NULL ? rule_add_expr(b->rule, kind) : NULL;

	if (e != NULL)
		return e;
	b->failed = true;
	return &b->spare;
}

static void set_value(struct value *v, const void *bytes, size_t len)
{
	BUG_ON(len > sizeof(v->bytes));
	memcpy(v->bytes, bytes, len);
	v->len = (uint32_t)len;
}

static void load_meta(struct build *b, uint32_t key)
{
	add(b, EXPR_META)->key = key;
}

static void load_ct(struct build *b, uint32_t key)
{
	add(b, EXPR_CT)->key = key;
}

static void load_header(struct build *b, uint32_t base, uint32_t offset, uint32_t len, uint8_t dest)
{
	struct expr *e = add(b, EXPR_PAYLOAD);

	e->key = base;
	e->offset = offset;
	e->len = len;
	e->dest = dest;
}

static void compare(struct build *b, uint32_t op, const void *bytes, size_t len)
{
	struct expr *e = add(b, EXPR_CMP);

	e->key = op;
	set_value(&e->value, bytes, len);
}

static void compare_u8(struct build *b, uint32_t op, uint8_t value)
{
	compare(b, op, &value, sizeof(value));
}

static void compare_u16_be(struct build *b, uint32_t op, uint16_t value)
{
	value = htons(value);
	compare(b, op, &value, sizeof(value));
}

static void compare_u32(struct build *b, uint32_t op, uint32_t value)
{
	compare(b, op, &value, sizeof(value));
}

/* Register = (register & mask) ^ xor. */
static void bitwise(struct build *b, const void *mask, const void * xor, size_t len)
{
	struct expr *e = add(b, EXPR_BITWISE);

	set_value(&e->value, mask, len);
	set_value(&e->xor, xor, len);
}

static void mask_u8(struct build *b, uint8_t mask)
{
	uint8_t zero = 0;

	bitwise(b, &mask, &zero, sizeof(mask));
}

static void mask_u32(struct build *b, uint32_t mask)
{
	uint32_t zero = 0;

	bitwise(b, &mask, &zero, sizeof(mask));
}

static void lookup(struct build *b, const char *set, bool negate)
{
	struct expr *e = add(b, EXPR_LOOKUP);

	e->negate = negate;
	snprintf(e->name, sizeof(e->name), "%s", set);
}

/* The counter stands before the verdict, because nothing after a verdict is run. */
static void end_rule(struct build *b, enum expr_kind verdict)
{
	add(b, EXPR_COUNTER);
	add(b, verdict);
}

static void match_protocol(struct build *b, uint8_t protocol)
{
	load_meta(b, NFT_META_L4PROTO);
	compare_u8(b, NFT_CMP_EQ, protocol);
}

/* It comes before any look at an address: the bytes at an IPv4 header's offset are part of the source
 * address in an IPv6 header. */
static void match_family(struct build *b, const struct family *f)
{
	load_meta(b, NFT_META_NFPROTO);
	compare_u8(b, NFT_CMP_EQ, f->nfproto);
}

static void load_port(struct build *b, uint8_t dest)
{
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, L4_DPORT, 2, dest);
}

static void compare_mark(struct build *b, struct mark mark, uint32_t op)
{
	if (mark.mask != UINT32_MAX) /* nft(8) writes a full mask as none */
		mask_u32(b, mark.mask);
	compare_u32(b, op, mark.value);
}

/* Sets the bits of the mask and leaves the others; `load` and `store` say in which of the marks. */
static void set_mark(struct build *b, struct mark mark, enum expr_kind load, enum expr_kind store,
		     uint32_t key)
{
	uint32_t keep = ~mark.mask;

	if (keep == 0) {
		set_value(&add(b, EXPR_IMMEDIATE)->value, &mark.value, sizeof(mark.value));
	} else {
		add(b, load)->key = key;
		bitwise(b, &keep, &mark.value, sizeof(keep));
	}
	add(b, store)->key = key;
}

static void set_packet_mark(struct build *b, struct mark mark)
{
	set_mark(b, mark, EXPR_META, EXPR_META_SET, NFT_META_MARK);
}

static void set_flow_mark(struct build *b, struct mark mark)
{
	set_mark(b, mark, EXPR_CT, EXPR_CT_SET, NFT_CT_MARK);
}

static void skip_other_protocols(struct build *b, uint8_t protocol)
{
	begin_rule(b, "not %s", protocol == IPPROTO_TCP ? "TCP" : "UDP");
	load_meta(b, NFT_META_L4PROTO);
	compare_u8(b, NFT_CMP_NEQ, protocol);
	end_rule(b, EXPR_RETURN);
}

/* Loads what the test for the initial SYN compares. */
static void load_syn_flags(struct build *b)
{
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS, 1, 0);
	mask_u8(b, TH_FIN | TH_SYN | TH_RST | TH_ACK);
}

/* Without conntrack before us, the next packet of a live connection looks like a new flow
 * (nf_conntrack_tcp_loose); redirecting it would kill the connection. */
static void skip_not_syn(struct build *b)
{
	begin_rule(b, "not the first packet of a connection");
	match_protocol(b, IPPROTO_TCP);
	load_syn_flags(b);
	compare_u8(b, NFT_CMP_NEQ, TH_SYN);
	end_rule(b, EXPR_RETURN);
}

/* A connection attempt of QUIC: a long header (RFC 9000 section 17.2). Packets of a live connection have
 * short ones. */
static void skip_not_quic(struct build *b)
{
	begin_rule(b, "not to port 443");
	match_protocol(b, IPPROTO_UDP);
	load_port(b, 0);
	compare_u16_be(b, NFT_CMP_NEQ, 443);
	end_rule(b, EXPR_RETURN);

	begin_rule(b, "not the first packet of a connection");
	match_protocol(b, IPPROTO_UDP);
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, UDP_PAYLOAD, 1, 0);
	mask_u8(b, 0x80);
	compare_u8(b, NFT_CMP_NEQ, 0x80);
	end_rule(b, EXPR_RETURN);
}

static void skip_families(struct build *b)
{
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		if (b->w->family[i])
			continue;
		begin_rule(b, WANT_COMMENT_FAMILY, families[i].name);
		match_family(b, &families[i]);
		end_rule(b, EXPR_RETURN);
	}
}

static void skip_other_interfaces(struct build *b)
{
	begin_rule(b, "not from a gateway interface");
	load_meta(b, NFT_META_IIFNAME);
	lookup(b, WANT_SET_GATEWAY, true);
	end_rule(b, EXPR_RETURN);
}

static void skip_mark(struct build *b, struct mark mark, const char *why)
{
	if (mark.mask == 0)
		return;
	begin_rule(b, "%s", why);
	load_meta(b, NFT_META_MARK);
	compare_mark(b, mark, NFT_CMP_EQ);
	end_rule(b, EXPR_RETURN);
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
	begin_rule(b, "user of transocksd and usocksd");
	load_meta(b, NFT_META_SKUID);
	compare_u32(b, NFT_CMP_EQ, b->w->uid);
	end_rule(b, EXPR_RETURN);
	if (b->w->n_exempt_uids == 0)
		return;
	begin_rule(b, "exempt user");
	load_meta(b, NFT_META_SKUID);
	lookup(b, WANT_SET_UIDS, false);
	end_rule(b, EXPR_RETURN);
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
		begin_rule(b, "exempt control group, level %u", level);
		e = add(b, EXPR_SOCKET);
		e->key = NFT_SOCKET_CGROUPV2;
		e->offset = level;
		lookup(b, WANT_SET_CGROUPS, false);
		end_rule(b, EXPR_RETURN);
	}
}

static void skip_local(struct build *b)
{
	begin_rule(b, "to an address of this host");
	add(b, EXPR_FIB_TYPE);
	compare_u32(b, NFT_CMP_EQ, RTN_LOCAL);
	end_rule(b, EXPR_RETURN);
}

/* `why` goes before the name of the family. A set that is not there has no rule. */
static void skip_addresses(struct build *b, const struct family *f, const char *set,
			   const char *why)
{
	if (model_find_set(&b->m, set) == NULL)
		return;
	begin_rule(b, "%s %s address", why, f->name);
	match_family(b, f);
	load_header(b, NFT_PAYLOAD_NETWORK_HEADER, f->daddr, f->len, 0);
	lookup(b, set, false);
	end_rule(b, EXPR_RETURN);
}

static void skip_upstreams(struct build *b, const struct family *f, uint8_t protocol)
{
	if (model_find_set(&b->m, f->upstream) == NULL)
		return;
	begin_rule(b, "to an upstream by %s", f->name);
	match_family(b, f);
	match_protocol(b, protocol);
	load_header(b, NFT_PAYLOAD_NETWORK_HEADER, f->daddr, f->len, 0);
	load_port(b, (uint8_t)(f->len / 4));
	lookup(b, f->upstream, false);
	end_rule(b, EXPR_RETURN);
}

static void skip_ports(struct build *b, uint8_t protocol)
{
	if (model_find_set(&b->m, WANT_SET_PORTS) == NULL)
		return;
	begin_rule(b, "to a port that is not redirected");
	match_protocol(b, protocol);
	load_port(b, 0);
	lookup(b, WANT_SET_PORTS, true);
	end_rule(b, EXPR_RETURN);
}

/* The hash is spread evenly over 0..99 and grows with the kernel's hash value, so a larger share takes the clients
 * of a smaller one as well. Numbers are compared byte by byte, so the largest byte must come first. */
static void skip_share(struct build *b, const struct family *f)
{
	uint32_t share = htonl(b->w->redirect->share);
	struct expr *e;

	if (b->w->redirect->share >= 100)
		return;
	begin_rule(b, "%s client outside the share of %u percent", f->name, b->w->redirect->share);
	match_family(b, f);
	load_header(b, NFT_PAYLOAD_NETWORK_HEADER, f->saddr, f->len, 4);
	e = add(b, EXPR_HASH);
	e->source = 4;
	e->len = f->len;
	e->offset = WANT_SHARE_SEED;
	e->key = 100;
	add(b, EXPR_BYTEORDER);
	compare(b, NFT_CMP_GTE, &share, sizeof(share));
	end_rule(b, EXPR_RETURN);
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
		{offsetof(struct family, bypass), "live bypass,"},
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

	set_value(&add(b, EXPR_IMMEDIATE)->value, &wire, sizeof(wire));
}

static void redirect(struct build *b)
{
	begin_rule(b, "to transocksd");
	match_protocol(b,
		       IPPROTO_TCP); /* always true here; nft(8) cannot read its listing without */
	add(b, EXPR_COUNTER);
	load_target(b);
	add(b, EXPR_REDIRECT);
}

static void build_output(struct build *b)
{
	begin_chain(b, "output", CHAIN_NAT, NF_INET_LOCAL_OUT, b->w->redirect->priority,
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
	begin_chain(b, "prerouting", CHAIN_NAT, NF_INET_PRE_ROUTING, b->w->redirect->priority,
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

	begin_chain(b, "output", CHAIN_ROUTE, NF_INET_LOCAL_OUT, WANT_TPROXY_PRIORITY,
		    "flows of this host");
	skip_other_protocols(b, IPPROTO_TCP);
	begin_rule(b, "answer to somebody else's connection");
	load_ct(b, NFT_CT_DIRECTION);
	compare_u8(b, NFT_CMP_EQ, IP_CT_DIR_REPLY);
	end_rule(b, EXPR_RETURN);

	begin_rule(b, "of a connection taken before");
	load_ct(b, NFT_CT_MARK);
	compare_mark(b, mark, NFT_CMP_EQ);
	set_packet_mark(b, mark);
	end_rule(b, EXPR_RETURN);

	skip_not_syn(b);
	skip_families(b);
	skip_senders(b);
	skip_local(b);
	skip_destinations(b, IPPROTO_TCP);
	begin_rule(b, "to transocksd");
	match_protocol(b, IPPROTO_TCP);
	set_flow_mark(b, mark);
	set_packet_mark(b, mark);
	end_rule(b, EXPR_ACCEPT);
}

/* Without a listener tproxy ends the rule. The mark set before it then leads the packet nowhere; set
 * behind it, the packet goes on as if there were no rule. */
static void tproxy(struct build *b)
{
	bool open = b->w->redirect->when_daemon_down == REDIRECT_DOWN_OPEN;

	begin_rule(b, "to transocksd");
	match_protocol(b, IPPROTO_TCP);
	add(b, EXPR_COUNTER);
	if (!open)
		set_packet_mark(b, b->w->tproxy_mark);
	load_target(b);
	add(b, EXPR_TPROXY);
	if (open)
		set_packet_mark(b, b->w->tproxy_mark);
	add(b, EXPR_ACCEPT);
}

/* What goes to this host itself is left alone first: a connection to the port would find the transparent listener
 * and be marked, and the guard could not tell it from a redirected one. */
static void build_tproxy_prerouting(struct build *b)
{
	struct mark mark = b->w->tproxy_mark;
	struct expr *e;

	begin_chain(b, "prerouting", CHAIN_FILTER, NF_INET_PRE_ROUTING, WANT_TPROXY_PRIORITY,
		    "flows to be taken as they come in");
	skip_other_interfaces(b);
	skip_other_protocols(b, IPPROTO_TCP);
	skip_local(b);

	begin_rule(b, "of a connection taken before");
	match_protocol(b, IPPROTO_TCP);
	e = add(b, EXPR_SOCKET);
	e->key = NFT_SOCKET_TRANSPARENT;
	compare_u8(b, NFT_CMP_EQ, 1);
	set_packet_mark(b, mark);
	end_rule(b, EXPR_ACCEPT);

	begin_rule(b, "of this host and not marked by chain output");
	load_meta(b, NFT_META_IIFNAME);
	compare(b, NFT_CMP_EQ, (char[IFNAMSIZ]){"lo"}, IFNAMSIZ);
	load_meta(b, NFT_META_MARK);
	compare_mark(b, mark, NFT_CMP_NEQ);
	end_rule(b, EXPR_RETURN);

	skip_not_syn(b);
	skip_families(b);
	skip_marks(b);
	skip_destinations(b, IPPROTO_TCP);
	tproxy(b);
}

/* A connection made to the port itself has the daemon's own address as original destination: it
 * would dial itself without end. Only its first packet is looked at: a live connection of somebody
 * whose own port happens to be this one would look like one of these. */
static void build_guard(struct build *b)
{
	begin_chain(b, "guard", CHAIN_FILTER, NF_INET_LOCAL_IN, WANT_FILTER_PRIORITY,
		    "only redirected flows may enter");
	begin_rule(b, "direct connection to the redirect port");
	match_protocol(b, IPPROTO_TCP);
	load_port(b, 0);
	compare_u16_be(b, NFT_CMP_EQ, b->w->port);
	load_syn_flags(b);
	compare_u8(b, NFT_CMP_EQ, TH_SYN);
	load_ct(b, NFT_CT_DIRECTION);
	compare_u8(b, NFT_CMP_EQ, IP_CT_DIR_ORIGINAL);
	if (b->w->mode == REDIRECT_MODE_TPROXY) {
		load_meta(b, NFT_META_MARK);
		compare_mark(b, b->w->tproxy_mark, NFT_CMP_NEQ);
	} else {
		load_ct(b, NFT_CT_STATUS);
		mask_u32(b, IPS_DST_NAT);
		compare_u32(b, NFT_CMP_EQ, 0);
	}
	add(b, EXPR_COUNTER);
	add(b, EXPR_REJECT)->key = NFT_REJECT_TCP_RST;
}

/* Browsers try QUIC beside TCP, and would go past us. Told at once that the port is closed, they use TCP. */
static void build_quic(struct build *b, bool forwarded)
{
	struct expr *e;

	begin_chain(b, forwarded ? "quic_forward" : "quic_output", CHAIN_FILTER,
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
	begin_rule(b, "QUIC connection");
	match_protocol(b, IPPROTO_UDP);
	add(b, EXPR_COUNTER);
	e = add(b, EXPR_REJECT);
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
