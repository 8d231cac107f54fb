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

#include "policy/prefix.h"
#include "policy/strbuf.h"

/* One behind "dstnat" (-100): at one priority the chain registered last runs first, and the first
 * chain that translates a flow wins. So what Docker, kube-proxy or libvirt translate stays
 * theirs. */
#define WANT_NAT_PRIORITY (-99)
/* Before the host's own filter (0), which may accept the port. */
#define WANT_GUARD_PRIORITY (-1)

enum { BYPASS4, BYPASS6, GATEWAY }; /* order of model.sets */

static struct expr *expr_add(struct rule *r, enum expr_kind kind)
{
	BUG_ON(r->n_exprs == MODEL_EXPRS);
	r->exprs[r->n_exprs] = (struct expr){.kind = kind};
	return &r->exprs[r->n_exprs++];
}

static void load_meta(struct rule *r, uint32_t key)
{
	expr_add(r, EXPR_META)->key = key;
}

static void load_ct(struct rule *r, uint32_t key)
{
	expr_add(r, EXPR_CT)->key = key;
}

static void load_header(struct rule *r, uint32_t base, uint32_t offset, uint32_t len)
{
	struct expr *e = expr_add(r, EXPR_PAYLOAD);

	e->payload.base = base;
	e->payload.offset = offset;
	e->payload.len = len;
}

static struct expr *value_add(struct rule *r, enum expr_kind kind, const void *bytes, size_t len)
{
	struct expr *e = expr_add(r, kind);

	BUG_ON(len > sizeof(e->value.bytes));
	memcpy(e->value.bytes, bytes, len);
	e->value.len = (uint32_t)len;
	return e;
}

static void match_u8(struct rule *r, uint8_t value)
{
	value_add(r, EXPR_CMP, &value, sizeof(value));
}

static void match_not_u8(struct rule *r, uint8_t value)
{
	value_add(r, EXPR_CMP, &value, sizeof(value))->negate = true;
}

static void match_u16_be(struct rule *r, uint16_t value)
{
	value = htons(value);
	value_add(r, EXPR_CMP, &value, sizeof(value));
}

static void match_u32(struct rule *r, uint32_t value)
{
	value_add(r, EXPR_CMP, &value, sizeof(value));
}

static void mask_u32(struct rule *r, uint32_t mask)
{
	value_add(r, EXPR_MASK, &mask, sizeof(mask));
}

static void match_tcp(struct rule *r)
{
	load_meta(r, NFT_META_L4PROTO);
	match_u8(r, IPPROTO_TCP);
}

static void match_set(struct rule *r, size_t set, bool negate)
{
	struct expr *e = expr_add(r, EXPR_LOOKUP);

	e->set = set;
	e->negate = negate;
}

/* The counter stands before the verdict, because nothing after a verdict is run. */
static void end_return(struct rule *r)
{
	expr_add(r, EXPR_COUNTER);
	expr_add(r, EXPR_RETURN);
}

static struct rule *rule_add(struct chain *c, const char *comment)
{
	struct rule *r = &c->rules[c->n_rules];

	BUG_ON(c->n_rules++ == MODEL_RULES);
	snprintf(r->comment, sizeof(r->comment), "%s", comment);
	return r;
}

static struct chain *chain_add(struct model *m, struct chain head)
{
	BUG_ON(m->n_chains == MODEL_CHAINS);
	m->chains[m->n_chains] = head;
	return &m->chains[m->n_chains++];
}

static void skip_not_tcp(struct chain *c)
{
	struct rule *r = rule_add(c, "not TCP");

	load_meta(r, NFT_META_L4PROTO);
	match_not_u8(r, IPPROTO_TCP);
	end_return(r);
}

/* Loads what the test for the initial SYN compares. */
static void load_syn_flags(struct rule *r)
{
	uint8_t mask = TH_FIN | TH_SYN | TH_RST | TH_ACK;

	load_header(r, NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1);
	value_add(r, EXPR_MASK, &mask, sizeof(mask));
}

/* Without conntrack before us, the next packet of a live connection looks like a new flow
 * (nf_conntrack_tcp_loose); redirecting it would kill the connection. */
static void skip_not_syn(struct chain *c)
{
	struct rule *r = rule_add(c, "not the first packet of a connection");

	match_tcp(r);
	load_syn_flags(r);
	match_not_u8(r, TH_SYN);
	end_return(r);
}

static void skip_mark(struct chain *c, struct mark mark)
{
	struct rule *r;

	if (mark.mask == 0)
		return;
	r = rule_add(c, "marked by transocksd or usocksd");
	load_meta(r, NFT_META_MARK);
	if (mark.mask != UINT32_MAX) /* nft(8) writes a full mask as none */
		mask_u32(r, mark.mask);
	match_u32(r, mark.value);
	end_return(r);
}

static void skip_uid(struct chain *c, uid_t uid)
{
	struct rule *r = rule_add(c, "user of transocksd and usocksd");

	load_meta(r, NFT_META_SKUID);
	match_u32(r, uid);
	end_return(r);
}

static void skip_local(struct chain *c)
{
	struct rule *r = rule_add(c, "to an address of this host");

	expr_add(r, EXPR_FIB_TYPE);
	match_u32(r, RTN_LOCAL);
	end_return(r);
}

/* The protocol is tested first: the bytes at an IPv4 header's offset are part of the source address
 * in an IPv6 header. */
static void skip_bypass(struct chain *c)
{
	struct rule *r = rule_add(c, "special-purpose IPv4 address");

	load_meta(r, NFT_META_NFPROTO);
	match_u8(r, NFPROTO_IPV4);
	load_header(r, NFT_PAYLOAD_NETWORK_HEADER, 16, 4);
	match_set(r, BYPASS4, false);
	end_return(r);

	r = rule_add(c, "special-purpose IPv6 address");
	load_meta(r, NFT_META_NFPROTO);
	match_u8(r, NFPROTO_IPV6);
	load_header(r, NFT_PAYLOAD_NETWORK_HEADER, 24, 16);
	match_set(r, BYPASS6, false);
	end_return(r);
}

static void redirect(struct chain *c, uint16_t port)
{
	struct rule *r = rule_add(c, "to transocksd");

	match_tcp(r); /* always true here; without it nft(8) cannot read its own listing again */
	expr_add(r, EXPR_COUNTER);
	expr_add(r, EXPR_REDIRECT)->port = port;
}

static void build_output(struct model *m, const struct want *w)
{
	struct chain *c = chain_add(m, (struct chain){.name = "output",
						      .comment = "flows of this host",
						      .type = CHAIN_NAT,
						      .hook = NF_INET_LOCAL_OUT,
						      .priority = WANT_NAT_PRIORITY});

	skip_not_tcp(c);
	skip_not_syn(c);
	skip_mark(c, w->mark);
	skip_uid(c, w->uid);
	skip_local(c);
	skip_bypass(c);
	redirect(c, w->port);
}

static void build_prerouting(struct model *m, const struct want *w)
{
	struct chain *c = chain_add(m, (struct chain){.name = "prerouting",
						      .comment = "flows forwarded by this host",
						      .type = CHAIN_NAT,
						      .hook = NF_INET_PRE_ROUTING,
						      .priority = WANT_NAT_PRIORITY});
	struct rule *r = rule_add(c, "not from a gateway interface");

	load_meta(r, NFT_META_IIFNAME);
	match_set(r, GATEWAY, true);
	end_return(r);
	skip_not_tcp(c);
	skip_not_syn(c);
	skip_local(c);
	skip_bypass(c);
	redirect(c, w->port);
}

/* A connection made to the port itself has the daemon's own address as original destination: it
 * would dial itself without end. Only its first packet is looked at: a live connection of somebody
 * whose own port happens to be this one would look like one of these. */
static void build_guard(struct model *m, const struct want *w)
{
	struct chain *c = chain_add(m, (struct chain){.name = "guard",
						      .comment = "only redirected flows may enter",
						      .type = CHAIN_FILTER,
						      .hook = NF_INET_LOCAL_IN,
						      .priority = WANT_GUARD_PRIORITY});
	struct rule *r = rule_add(c, "direct connection to the redirect port");

	match_tcp(r);
	load_header(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
	match_u16_be(r, w->port);
	load_syn_flags(r);
	match_u8(r, TH_SYN);
	load_ct(r, NFT_CT_DIRECTION);
	match_u8(r, IP_CT_DIR_ORIGINAL);
	load_ct(r, NFT_CT_STATUS);
	mask_u32(r, IPS_DST_NAT);
	match_u32(r, 0);
	expr_add(r, EXPR_COUNTER);
	expr_add(r, EXPR_RESET);
}

/* Adds an empty set with room for `room` elements. */
static int set_add(struct model *m, struct set head, size_t room)
{
	head.elements = calloc(room, sizeof(*head.elements));
	if (head.elements == NULL)
		return -ENOMEM;
	BUG_ON(m->n_sets == MODEL_SETS);
	m->sets[m->n_sets++] = head;
	return 0;
}

/* Whether `e` begins right after the end of `before`. */
static bool is_adjacent(const struct element *before, const struct element *e, size_t key_len)
{
	uint8_t past[ELEMENT_KEY_MAX];

	memcpy(past, before->last, key_len);
	return key_increment(past, key_len) && memcmp(past, e->first, key_len) == 0;
}

/* Appends a range. Adjacent ones become one element with both comments, because that is what a
 * reload of nft(8)'s listing makes of them in a set with auto-merge, without the comments. */
static void element_add(struct set *s, const struct element *e)
{
	struct element *before = s->n_elements > 0 ? &s->elements[s->n_elements - 1] : NULL;
	size_t len;

	if (before == NULL || !is_adjacent(before, e, set_key_len(s->type))) {
		s->elements[s->n_elements++] = *e;
		return;
	}
	memcpy(before->last, e->last, sizeof(before->last));
	len = strlen(before->comment);
	snprintf(before->comment + len, sizeof(before->comment) - len, "; %s", e->comment);
}

static int build_bypass(struct model *m, struct set head, const struct special_prefix *prefixes,
			size_t n)
{
	struct prefix p;
	int r = set_add(m, head, n);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct element e = {.comment = ""};

		BUG_ON(prefix_parse(&p, prefixes[i].prefix) < 0);
		prefix_bounds(&p, e.first, e.last);
		snprintf(e.comment, sizeof(e.comment), "%s, %s", prefixes[i].name,
			 prefixes[i].source);
		element_add(&m->sets[m->n_sets - 1], &e);
	}
	return r;
}

static int build_gateways(struct model *m, const struct want *w)
{
	int r = set_add(m,
			(struct set){.name = "gateway",
				     .comment = "interfaces whose forwarded flows are redirected",
				     .type = SET_IFNAME},
			w->n_gateways);

	for (size_t i = 0; r == 0 && i < w->n_gateways; i++) {
		struct element e = {.comment = "--gateway"};

		memcpy(e.first, w->gateways[i], IFNAMSIZ);
		memcpy(e.last, w->gateways[i], IFNAMSIZ);
		m->sets[GATEWAY].elements[m->sets[GATEWAY].n_elements++] = e;
	}
	return r;
}

static int build_sets(struct model *m, const struct want *w)
{
	int r = build_bypass(
		m,
		(struct set){.name = "bypass4",
			     .comment = "never redirected, IANA " SPECIAL_PREFIXES_DATE,
			     .type = SET_IPV4},
		special_prefixes4, n_special_prefixes4);

	if (r == 0)
		r = build_bypass(
			m,
			(struct set){.name = "bypass6",
				     .comment = "never redirected, IANA " SPECIAL_PREFIXES_DATE,
				     .type = SET_IPV6},
			special_prefixes6, n_special_prefixes6);
	if (r == 0 && w->n_gateways > 0)
		r = build_gateways(m, w);
	return r;
}

/* The ports of the tables before this one stay known: flows that those redirected live on. */
static void build_comment(struct model *m, const struct want *w)
{
	struct strbuf sb;

	strbuf_init(&sb, m->comment, sizeof(m->comment));
	strbuf_puts(&sb, MODEL_COMMENT_PREFIX TRANSOCKS_VERSION);
	for (size_t i = 0; i < w->n_earlier_ports; i++)
		strbuf_printf(&sb, "%s%u", i == 0 ? MODEL_COMMENT_EARLIER : " ",
			      w->earlier_ports[i]);
}

int want_build(const struct want *w, struct model *m)
{
	struct model built = {0};
	int r = build_sets(&built, w);

	if (r < 0) {
		model_free(&built);
		return r;
	}
	build_comment(&built, w);
	build_output(&built, w);
	if (w->n_gateways > 0)
		build_prerouting(&built, w);
	build_guard(&built, w);
	*m = built;
	return 0;
}
