/* SPDX-License-Identifier: MIT */
#include "rulemgr/nft_text.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <string.h>

/* What a register holds: something loaded, then masked or hashed; or a constant. */
struct content {
	const struct expr *load, *mask, *hash;
};

/* The rule as far as it has been read. */
struct reader {
	const struct rule *rule;
	struct content registers[MODEL_REGISTERS];
	const char *protocol; /* "tcp", "udp" */
	struct strbuf *out;
};

static uint32_t value_u32(const struct value *v)
{
	uint32_t number = 0;

	memcpy(&number, v->bytes, v->len < sizeof(number) ? v->len : sizeof(number));
	return number;
}

static uint16_t value_port(const struct value *v)
{
	return (uint16_t)(v->bytes[0] << 8 | v->bytes[1]);
}

static bool is_load(const struct expr *e, enum expr_kind kind, uint32_t key)
{
	return e != NULL && e->kind == kind && e->key == key;
}

static void put_load(struct reader *r, const struct expr *e)
{
	static const char *const meta[] = {[NFT_META_MARK] = "meta mark",
					   [NFT_META_SKUID] = "meta skuid",
					   [NFT_META_IIFNAME] = "iifname",
					   [NFT_META_NFPROTO] = "meta nfproto",
					   [NFT_META_L4PROTO] = "meta l4proto"};
	static const char *const ct[] = {[NFT_CT_DIRECTION] = "ct direction",
					 [NFT_CT_STATUS] = "ct status",
					 [NFT_CT_MARK] = "ct mark"};
	const char *text = NULL;

	if (e->kind == EXPR_META && e->key < ARRAY_LEN(meta))
		text = meta[e->key];
	else if (e->kind == EXPR_CT && e->key < ARRAY_LEN(ct))
		text = ct[e->key];
	else if (e->kind == EXPR_FIB_TYPE)
		text = "fib daddr type";
	else if (is_load(e, EXPR_SOCKET, NFT_SOCKET_TRANSPARENT))
		text = "socket transparent";
	else if (is_load(e, EXPR_SOCKET, NFT_SOCKET_WILDCARD))
		text = "socket wildcard";
	else if (is_load(e, EXPR_PAYLOAD, NFT_PAYLOAD_NETWORK_HEADER))
		text = e->len == 4 ? (e->offset == 16 ? "ip daddr" : "ip saddr")
				   : (e->offset == 24 ? "ip6 daddr" : "ip6 saddr");
	if (text != NULL)
		strbuf_puts(r->out, text);
	else if (is_load(e, EXPR_SOCKET, NFT_SOCKET_CGROUPV2))
		strbuf_printf(r->out, "socket cgroupv2 level %u", e->offset);
	else if (is_load(e, EXPR_PAYLOAD, NFT_PAYLOAD_TRANSPORT_HEADER) && e->offset == 2)
		strbuf_printf(r->out, "%s dport", r->protocol);
	else if (is_load(e, EXPR_PAYLOAD, NFT_PAYLOAD_TRANSPORT_HEADER) && e->offset == 13)
		strbuf_puts(r->out, "tcp flags");
	else if (is_load(e, EXPR_PAYLOAD, NFT_PAYLOAD_TRANSPORT_HEADER))
		strbuf_printf(r->out, "@th,%u,%u", e->offset * 8, e->len * 8);
}

/* A port or the flags say themselves of which protocol they are, an address of which family. */
static bool is_implied(const struct reader *r, const struct expr *load, const struct expr *cmp)
{
	uint32_t header = NFT_PAYLOAD_TRANSPORT_HEADER;

	if (cmp->key != NFT_CMP_EQ)
		return false;
	if (is_load(load, EXPR_META, NFT_META_NFPROTO))
		header = NFT_PAYLOAD_NETWORK_HEADER;
	else if (!is_load(load, EXPR_META, NFT_META_L4PROTO))
		return false;
	for (size_t i = 0; i < r->rule->n_exprs; i++) {
		const struct expr *e = &r->rule->exprs[i];

		if (is_load(e, EXPR_PAYLOAD, header) && e->offset != 8)
			return true;
		if (is_load(e, EXPR_PAYLOAD, NFT_PAYLOAD_NETWORK_HEADER) &&
		    header == NFT_PAYLOAD_NETWORK_HEADER)
			return true;
	}
	return false;
}

static void put_constant(struct reader *r, const struct expr *load, const struct value *v)
{
	uint32_t number = value_u32(v);

	if (is_load(load, EXPR_META, NFT_META_L4PROTO))
		strbuf_puts(r->out, number == IPPROTO_TCP ? "tcp" : "udp");
	else if (is_load(load, EXPR_META, NFT_META_NFPROTO))
		strbuf_puts(r->out, number == NFPROTO_IPV4 ? "ipv4" : "ipv6");
	else if (is_load(load, EXPR_META, NFT_META_IIFNAME))
		strbuf_printf(r->out, "\"%.*s\"", (int)v->len, (const char *)v->bytes);
	else if (is_load(load, EXPR_CT, NFT_CT_DIRECTION))
		strbuf_puts(r->out, number == IP_CT_DIR_REPLY ? "reply" : "original");
	else if (load->kind == EXPR_FIB_TYPE)
		strbuf_puts(r->out, "local");
	else if (load->kind == EXPR_PAYLOAD && v->len == 2)
		strbuf_printf(r->out, "%u", value_port(v));
	else if (load->key == NFT_META_MARK || is_load(load, EXPR_CT, NFT_CT_MARK))
		strbuf_printf(r->out, "0x%08x", number);
	else
		strbuf_printf(r->out, "%u", number);
}

static const char *cmp_sign(uint32_t op)
{
	static const char *const signs[] = {
		[NFT_CMP_EQ] = "==",  [NFT_CMP_NEQ] = "!=", [NFT_CMP_LT] = "<",
		[NFT_CMP_LTE] = "<=", [NFT_CMP_GT] = ">",   [NFT_CMP_GTE] = ">="};

	return signs[op];
}

/* Bits of a mask that begins with the highest one and has no gap; 0: it is another. */
static int mask_prefix_len(uint32_t mask)
{
	int len = __builtin_popcount(mask);

	return len > 0 && mask == UINT32_MAX << (32 - len) ? len : 0;
}

static void put_masked(struct reader *r, const struct content *c, const struct expr *cmp)
{
	uint32_t mask = value_u32(&c->mask->value), value = value_u32(&cmp->value);
	int prefix_len = mask_prefix_len(mask);

	if (c->load->kind == EXPR_PAYLOAD && c->load->offset == 13)
		strbuf_printf(r->out, "%ssyn / fin,syn,rst,ack",
			      cmp->key == NFT_CMP_NEQ ? "!= " : "");
	else if (is_load(c->load, EXPR_CT, NFT_CT_STATUS))
		strbuf_puts(r->out, "! dnat");
	else if (c->load->kind == EXPR_PAYLOAD)
		strbuf_printf(r->out, "& 0x%x %s 0x%x", mask, cmp_sign(cmp->key), value);
	else if (prefix_len > 0)
		strbuf_printf(r->out, "%s0x%08x/%d", cmp->key == NFT_CMP_NEQ ? "!= " : "", value,
			      prefix_len);
	else
		strbuf_printf(r->out, "& 0x%08x %s 0x%08x", mask, cmp_sign(cmp->key), value);
}

static void put_cmp(struct reader *r, const struct expr *e)
{
	const struct content *c = &r->registers[e->source];

	if (is_load(c->load, EXPR_META, NFT_META_L4PROTO))
		r->protocol = e->value.bytes[0] == IPPROTO_TCP ? "tcp" : "udp";
	if (is_implied(r, c->load, e))
		return;
	if (c->hash != NULL) {
		strbuf_puts(r->out, "jhash ");
		put_load(r, c->load);
		strbuf_printf(r->out, " mod %u seed 0x%x %s %u ", c->hash->key, c->hash->offset,
			      cmp_sign(e->key), ntohl(value_u32(&e->value)));
		return;
	}
	put_load(r, c->load);
	strbuf_putc(r->out, ' ');
	if (c->mask != NULL) {
		put_masked(r, c, e);
	} else {
		if (e->key != NFT_CMP_EQ)
			strbuf_printf(r->out, "%s ", cmp_sign(e->key));
		put_constant(r, c->load, &e->value);
	}
	strbuf_putc(r->out, ' ');
}

static void put_lookup(struct reader *r, const struct expr *e)
{
	const struct expr *first = r->registers[e->source].load, *second = NULL;

	put_load(r, first);
	if (first->kind == EXPR_PAYLOAD && first->key == NFT_PAYLOAD_NETWORK_HEADER)
		second = r->registers[e->source + first->len / 4].load;
	if (second != NULL) {
		strbuf_puts(r->out, " . ");
		put_load(r, second);
	}
	strbuf_printf(r->out, " %s@%s ", e->negate ? "!= " : "", e->name);
}

/* (mark & mask) ^ xor, where no bit of xor is in the mask, is an "and" and an "or". */
static void put_set(struct reader *r, const struct expr *e)
{
	const struct content *c = &r->registers[e->source];
	const char *mark = e->kind == EXPR_META_SET ? "meta mark" : "ct mark";
	uint32_t keep, flip;

	strbuf_printf(r->out, "%s set ", mark);
	if (c->load->kind == EXPR_IMMEDIATE) {
		strbuf_printf(r->out, "0x%08x ", value_u32(&c->load->value));
		return;
	}
	flip = value_u32(&c->mask->xor);
	keep = value_u32(&c->mask->value) | flip;
	strbuf_puts(r->out, mark);
	if (keep != UINT32_MAX)
		strbuf_printf(r->out, " & 0x%08x", keep);
	if (flip != 0)
		strbuf_printf(r->out, " | 0x%08x", flip);
	strbuf_putc(r->out, ' ');
}

static void put_reject(struct reader *r, const struct expr *e)
{
	strbuf_puts(r->out, e->key == NFT_REJECT_TCP_RST ? "reject with tcp reset " : "reject ");
}

static void put_expr(struct reader *r, const struct expr *e)
{
	struct content *dest = &r->registers[e->dest];

	switch (e->kind) {
	case EXPR_META:
	case EXPR_CT:
	case EXPR_PAYLOAD:
	case EXPR_FIB_TYPE:
	case EXPR_SOCKET:
	case EXPR_IMMEDIATE:
		*dest = (struct content){.load = e};
		break;
	case EXPR_HASH:
		*dest = (struct content){.load = r->registers[e->source].load, .hash = e};
		break;
	case EXPR_BITWISE:
		dest->mask = e;
		break;
	case EXPR_BYTEORDER:
		break; /* nft(8) knows when one is needed */
	case EXPR_CMP:
		put_cmp(r, e);
		break;
	case EXPR_LOOKUP:
		put_lookup(r, e);
		break;
	case EXPR_META_SET:
	case EXPR_CT_SET:
		put_set(r, e);
		break;
	case EXPR_COUNTER:
		strbuf_printf(r->out, "counter packets %llu bytes %llu ",
			      (unsigned long long)r->rule->packets,
			      (unsigned long long)r->rule->bytes);
		break;
	case EXPR_ACCEPT:
		strbuf_puts(r->out, "accept ");
		break;
	case EXPR_DROP:
		strbuf_puts(r->out, "drop ");
		break;
	case EXPR_RETURN:
		strbuf_puts(r->out, "return ");
		break;
	case EXPR_REDIRECT:
		strbuf_printf(r->out, "redirect to :%u ", rule_redirect_port(r->rule));
		break;
	case EXPR_TPROXY:
		strbuf_printf(r->out, "tproxy to :%u ", rule_redirect_port(r->rule));
		break;
	case EXPR_REJECT:
		put_reject(r, e);
		break;
	case EXPR_OTHER:
		BUG_ON(true);
	}
}

void nft_text_rule(const struct rule *rule, struct strbuf *out)
{
	struct reader r = {.rule = rule, .protocol = "th", .out = out};

	for (size_t i = 0; i < rule->n_exprs; i++)
		put_expr(&r, &rule->exprs[i]);
	if (out->len > 0 && out->data[out->len - 1] == ' ')
		out->data[--out->len] = '\0';
}

void nft_text_priority(const struct chain *c, struct strbuf *out)
{
	static const struct {
		const char *name;
		int32_t priority;
		bool only; /* on `hook`, and where only network address translation has it */
		uint32_t hook;
	} names[] = {
		{"raw", -300, false, 0},
		{"mangle", -150, false, 0},
		{"dstnat", -100, true, NF_INET_PRE_ROUTING},
		{"filter", 0, false, 0},
		{"security", 50, false, 0},
		{"srcnat", 100, true, NF_INET_POST_ROUTING},
	};

	strbuf_puts(out, "priority ");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int32_t off = c->priority - names[i].priority;

		if (off < -10 || off > 10 || (names[i].only && names[i].hook != c->hook))
			continue;
		strbuf_puts(out, names[i].name);
		if (off != 0)
			strbuf_printf(out, " %c %d", off < 0 ? '-' : '+', off < 0 ? -off : off);
		return;
	}
	strbuf_printf(out, "%d", c->priority);
}

/* How many nft(8) puts on a line. */
static size_t elements_in_line(enum set_type type)
{
	switch (type) {
	case SET_PORT:
	case SET_UID:
		return 5;
	case SET_IPV4:
		return 2;
	default:
		return 1;
	}
}

/* Groups have paths, and we have put them into the comments. */
static void put_element(const struct set *s, const struct element *e, struct strbuf *out)
{
	char text[ELEMENT_TEXT_MAX];

	if (s->type == SET_CGROUP && e->comment[0] != '\0')
		strbuf_printf(out, "\"%s\"", e->comment);
	else
		strbuf_puts(out, element_format(s, e, text, sizeof(text)));
	if (e->comment[0] != '\0')
		strbuf_printf(out, " comment \"%s\"", e->comment);
}

static void put_set_text(const struct set *s, struct strbuf *out)
{
	strbuf_printf(out, "\tset %s {\n\t\ttype %s\n", s->name, set_types[s->type].name);
	if (s->interval)
		strbuf_puts(out, "\t\tflags interval\n\t\tauto-merge\n");
	if (s->comment[0] != '\0')
		strbuf_printf(out, "\t\tcomment \"%s\"\n", s->comment);
	for (size_t i = 0; i < s->n_elements; i++) {
		if (i == 0)
			strbuf_puts(out, "\t\telements = { ");
		else if (i % elements_in_line(s->type) == 0)
			strbuf_puts(out, ",\n\t\t\t     ");
		else
			strbuf_puts(out, ", ");
		put_element(s, &s->elements[i], out);
	}
	if (s->n_elements > 0)
		strbuf_puts(out, " }\n");
	strbuf_puts(out, "\t}\n\n");
}

static void put_chain_text(const struct chain *c, struct strbuf *out)
{
	strbuf_printf(out, "\tchain %s {\n\t\tcomment \"%s\"\n\t\ttype %s hook %s ", c->name,
		      c->comment, chain_type_name(c->type), chain_hook_name(c->hook));
	nft_text_priority(c, out);
	strbuf_printf(out, "; policy %s;\n", c->drop ? "drop" : "accept");
	for (size_t i = 0; i < c->n_rules; i++) {
		strbuf_puts(out, "\t\t");
		nft_text_rule(&c->rules[i], out);
		strbuf_printf(out, " comment \"%s\"\n", c->rules[i].comment);
	}
	strbuf_puts(out, "\t}\n");
}

void nft_text_table(const struct model *m, struct strbuf *out)
{
	strbuf_printf(out, "table %s {\n\tcomment \"%s\"\n", MODEL_TABLE_TEXT, m->comment);
	for (size_t i = 0; i < m->n_sets; i++)
		put_set_text(&m->sets[i], out);
	for (size_t i = 0; i < m->n_chains; i++) {
		if (i > 0)
			strbuf_putc(out, '\n');
		put_chain_text(&m->chains[i], out);
	}
	strbuf_puts(out, "}\n");
}
