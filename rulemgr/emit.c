/* SPDX-License-Identifier: MIT */
#include "rulemgr/emit.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>

/* Offsets in the headers, bytes. */
enum { L4_DPORT = 2, TCP_FLAGS = 13 };

void emit_chain(struct build *b, const char *name, enum chain_type type, uint32_t hook,
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

void emit_rule(struct build *b, const char *fmt, ...)
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

struct expr *emit_expr(struct build *b, enum expr_kind kind)
{
	struct expr *e = b->rule != NULL ? rule_add_expr(b->rule, kind) : NULL;

	if (e != NULL)
		return e;
	b->failed = true;
	return &b->spare;
}

void emit_value(struct value *v, const void *bytes, size_t len)
{
	BUG_ON(len > sizeof(v->bytes));
	memcpy(v->bytes, bytes, len);
	v->len = (uint32_t)len;
}

void emit_load_meta(struct build *b, uint32_t key)
{
	emit_expr(b, EXPR_META)->key = key;
}

void emit_load_ct(struct build *b, uint32_t key)
{
	emit_expr(b, EXPR_CT)->key = key;
}

void emit_load_header(struct build *b, uint32_t base, uint32_t offset, uint32_t len, uint8_t dest)
{
	struct expr *e = emit_expr(b, EXPR_PAYLOAD);

	e->key = base;
	e->offset = offset;
	e->len = len;
	e->dest = dest;
}

void emit_compare(struct build *b, uint32_t op, const void *bytes, size_t len)
{
	struct expr *e = emit_expr(b, EXPR_CMP);

	e->key = op;
	emit_value(&e->value, bytes, len);
}

void emit_compare_u8(struct build *b, uint32_t op, uint8_t value)
{
	emit_compare(b, op, &value, sizeof(value));
}

void emit_compare_u16_be(struct build *b, uint32_t op, uint16_t value)
{
	value = htons(value);
	emit_compare(b, op, &value, sizeof(value));
}

void emit_compare_u32(struct build *b, uint32_t op, uint32_t value)
{
	emit_compare(b, op, &value, sizeof(value));
}

/* Register = (register & mask) ^ xor. */
static void bitwise(struct build *b, const void *mask, const void * xor, size_t len)
{
	struct expr *e = emit_expr(b, EXPR_BITWISE);

	emit_value(&e->value, mask, len);
	emit_value(&e->xor, xor, len);
}

void emit_mask_u8(struct build *b, uint8_t mask)
{
	uint8_t zero = 0;

	bitwise(b, &mask, &zero, sizeof(mask));
}

void emit_mask_u32(struct build *b, uint32_t mask)
{
	uint32_t zero = 0;

	bitwise(b, &mask, &zero, sizeof(mask));
}

void emit_lookup(struct build *b, const char *set, bool negate)
{
	struct expr *e = emit_expr(b, EXPR_LOOKUP);

	e->negate = negate;
	snprintf(e->name, sizeof(e->name), "%s", set);
}

/* The counter stands before the verdict, because nothing after a verdict is run. */
void emit_end(struct build *b, enum expr_kind verdict)
{
	emit_expr(b, EXPR_COUNTER);
	emit_expr(b, verdict);
}

void emit_match_protocol(struct build *b, uint8_t protocol)
{
	emit_load_meta(b, NFT_META_L4PROTO);
	emit_compare_u8(b, NFT_CMP_EQ, protocol);
}

void emit_load_port(struct build *b, uint8_t dest)
{
	emit_load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, L4_DPORT, 2, dest);
}

void emit_compare_mark(struct build *b, struct mark mark, uint32_t op)
{
	if (mark.mask != UINT32_MAX) /* nft(8) writes a full mask as none */
		emit_mask_u32(b, mark.mask);
	emit_compare_u32(b, op, mark.value);
}

/* Sets the bits of the mask and leaves the others; `load` and `store` say in which of the marks. */
static void set_mark(struct build *b, struct mark mark, enum expr_kind load, enum expr_kind store,
		     uint32_t key)
{
	uint32_t keep = ~mark.mask;

	if (keep == 0) {
		emit_value(&emit_expr(b, EXPR_IMMEDIATE)->value, &mark.value, sizeof(mark.value));
	} else {
		emit_expr(b, load)->key = key;
		bitwise(b, &keep, &mark.value, sizeof(keep));
	}
	emit_expr(b, store)->key = key;
}

void emit_packet_mark(struct build *b, struct mark mark)
{
	set_mark(b, mark, EXPR_META, EXPR_META_SET, NFT_META_MARK);
}

void emit_flow_mark(struct build *b, struct mark mark)
{
	set_mark(b, mark, EXPR_CT, EXPR_CT_SET, NFT_CT_MARK);
}

/* Loads what the test for the initial SYN compares. */
void emit_load_syn_flags(struct build *b)
{
	emit_load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS, 1, 0);
	emit_mask_u8(b, TH_FIN | TH_SYN | TH_RST | TH_ACK);
}
