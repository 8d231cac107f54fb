/* SPDX-License-Identifier: MIT */
#include "rulemgr/meaning.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define ALL_BITS UINT32_MAX

static uint32_t value_u32(const struct value *v)
{
	uint32_t number = 0;

	memcpy(&number, v->bytes, sizeof(number));
	return number;
}

/* As on the wire. */
static unsigned value_port(const struct value *v)
{
	return (unsigned)v->bytes[0] << 8 | v->bytes[1];
}

/* Expression `i` of the rule; what is behind the last one does nothing. */
static const struct expr *expr_at(const struct rule *r, size_t i)
{
	static const struct expr nothing = {.kind = EXPR_COUNTER};

	return i < r->n_exprs ? &r->exprs[i] : &nothing;
}

static void put_mark(char out[MEANING_TEXT_MAX], uint32_t value, uint32_t mask)
{
	snprintf(out, MEANING_TEXT_MAX, "0x%x/0x%x", value, mask);
}

/* What the comparison `i` is about: the last thing that was loaded before it. */
static const char *compared(const struct rule *r, size_t i, char out[MEANING_TEXT_MAX])
{
	const struct value *v = &r->exprs[i].value;
	bool masked = i > 0 && r->exprs[i - 1].kind == EXPR_BITWISE;
	uint32_t mask = masked ? value_u32(&r->exprs[i - 1].value) : ALL_BITS;
	size_t back = masked ? 2 : 1;
	const struct expr *load;

	if (i < back)
		return NULL;
	load = &r->exprs[i - back];
	if (load->kind == EXPR_META && load->key == NFT_META_MARK && v->len == sizeof(mask)) {
		put_mark(out, value_u32(v), mask);
		return "mark";
	}
	if (load->kind == EXPR_META && load->key == NFT_META_SKUID && !masked &&
	    v->len == sizeof(mask)) {
		snprintf(out, MEANING_TEXT_MAX, "%u", value_u32(v));
		return "uid";
	}
	if (load->kind == EXPR_PAYLOAD && load->key == NFT_PAYLOAD_TRANSPORT_HEADER && !masked &&
	    load->len == 2 && v->len == load->len) {
		snprintf(out, MEANING_TEXT_MAX, "%u", value_port(v));
		return "port";
	}
	return NULL;
}

const char *expr_meaning(const struct rule *r, size_t i, char out[MEANING_TEXT_MAX])
{
	const struct expr *e = &r->exprs[i], *next = expr_at(r, i + 1);

	switch (e->kind) {
	case EXPR_CMP:
		return e->key == NFT_CMP_EQ || e->key == NFT_CMP_NEQ ? compared(r, i, out) : NULL;
	case EXPR_IMMEDIATE:
		if (e->value.len != 2 || (next->kind != EXPR_REDIRECT && next->kind != EXPR_TPROXY))
			return NULL;
		snprintf(out, MEANING_TEXT_MAX, "%u", value_port(&e->value));
		return "redirect port";
	case EXPR_BITWISE:
		if (next->kind == EXPR_CMP)
			return expr_meaning(r, i + 1, out);
		if (next->kind != EXPR_META_SET || next->key != NFT_META_MARK)
			return NULL;
		put_mark(out, value_u32(&e->xor), ~value_u32(&e->value));
		return "mark set";
	default:
		return NULL;
	}
}
