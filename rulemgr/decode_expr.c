/* SPDX-License-Identifier: MIT */
#include "rulemgr/decode.h"

#include <errno.h>
#include <libnftnl/expr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

/* Attributes of an expression; each has fewer. */
#define ATTRIBUTES_MAX 16

/* The number of a register as the model has it. */
static bool decode_register(const struct nlattr *a, uint8_t *word)
{
	uint32_t wire;

	if (!decode_u32(a, &wire))
		return false;
	if (wire >= NFT_REG_1 && wire <= NFT_REG_4)
		*word = (uint8_t)(4 * (wire - NFT_REG_1));
	else if (wire >= NFT_REG32_00 && wire <= NFT_REG32_15)
		*word = (uint8_t)(wire - NFT_REG32_00);
	else
		return false;
	return true;
}

static bool is_u32(const struct nlattr *a, uint32_t expected)
{
	uint32_t value;

	return decode_u32(a, &value) && value == expected;
}

/* Each of these fills *e from the attributes; false if it says something that the model has no words for. The
 * kind is set already; an expression that may write as well changes it. */
typedef bool decode_fn(struct rule *r, struct expr *e, const struct nlattr *const *tb);

static bool decode_meta(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	if (!decode_u32(tb[NFTA_META_KEY], &e->key))
		return false;
	if (tb[NFTA_META_DREG] != NULL)
		return decode_register(tb[NFTA_META_DREG], &e->dest);
	e->kind = EXPR_META_SET;
	return decode_register(tb[NFTA_META_SREG], &e->source);
}

static bool decode_ct(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	if (tb[NFTA_CT_DIRECTION] != NULL || !decode_u32(tb[NFTA_CT_KEY], &e->key))
		return false;
	if (tb[NFTA_CT_DREG] != NULL)
		return decode_register(tb[NFTA_CT_DREG], &e->dest);
	e->kind = EXPR_CT_SET;
	return decode_register(tb[NFTA_CT_SREG], &e->source);
}

static bool decode_payload(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return tb[NFTA_PAYLOAD_SREG] == NULL && decode_register(tb[NFTA_PAYLOAD_DREG], &e->dest) &&
	       decode_u32(tb[NFTA_PAYLOAD_BASE], &e->key) &&
	       decode_u32(tb[NFTA_PAYLOAD_OFFSET], &e->offset) &&
	       decode_u32(tb[NFTA_PAYLOAD_LEN], &e->len);
}

static bool decode_fib(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return is_u32(tb[NFTA_FIB_RESULT], NFT_FIB_RESULT_ADDRTYPE) &&
	       is_u32(tb[NFTA_FIB_FLAGS], NFTA_FIB_F_DADDR) &&
	       decode_register(tb[NFTA_FIB_DREG], &e->dest);
}

static bool decode_socket(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	if (!decode_u32(tb[NFTA_SOCKET_KEY], &e->key) ||
	    !decode_register(tb[NFTA_SOCKET_DREG], &e->dest))
		return false;
	return e->key != NFT_SOCKET_CGROUPV2 || decode_u32(tb[NFTA_SOCKET_LEVEL], &e->offset);
}

static bool decode_hash(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return is_u32(tb[NFTA_HASH_TYPE], NFT_HASH_JENKINS) &&
	       (tb[NFTA_HASH_OFFSET] == NULL || is_u32(tb[NFTA_HASH_OFFSET], 0)) &&
	       decode_register(tb[NFTA_HASH_SREG], &e->source) &&
	       decode_register(tb[NFTA_HASH_DREG], &e->dest) &&
	       decode_u32(tb[NFTA_HASH_LEN], &e->len) &&
	       decode_u32(tb[NFTA_HASH_SEED], &e->offset) &&
	       decode_u32(tb[NFTA_HASH_MODULUS], &e->key);
}

static bool decode_verdict(struct expr *e, const struct nlattr *data)
{
	const struct nlattr *tb[ATTRIBUTES_MAX + 1];
	uint32_t code;

	decode_attributes(data, tb, NFTA_DATA_MAX);
	decode_attributes(tb[NFTA_DATA_VERDICT], tb, NFTA_VERDICT_MAX);
	if (!decode_u32(tb[NFTA_VERDICT_CODE], &code))
		return false;
	switch ((int32_t)code) {
	case NF_ACCEPT:
		e->kind = EXPR_ACCEPT;
		return true;
	case NF_DROP:
		e->kind = EXPR_DROP;
		return true;
	case NFT_RETURN:
		e->kind = EXPR_RETURN;
		return true;
	default:
		return false;
	}
}

static bool decode_immediate(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	if (is_u32(tb[NFTA_IMMEDIATE_DREG], NFT_REG_VERDICT))
		return decode_verdict(e, tb[NFTA_IMMEDIATE_DATA]);
	return decode_register(tb[NFTA_IMMEDIATE_DREG], &e->dest) &&
	       decode_value(tb[NFTA_IMMEDIATE_DATA], &e->value);
}

static bool decode_bitwise(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return (tb[NFTA_BITWISE_OP] == NULL || is_u32(tb[NFTA_BITWISE_OP], NFT_BITWISE_BOOL)) &&
	       decode_register(tb[NFTA_BITWISE_SREG], &e->source) &&
	       decode_register(tb[NFTA_BITWISE_DREG], &e->dest) &&
	       decode_value(tb[NFTA_BITWISE_MASK], &e->value) &&
	       decode_value(tb[NFTA_BITWISE_XOR], &e->xor);
}

static bool decode_byteorder(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return is_u32(tb[NFTA_BYTEORDER_OP], NFT_BYTEORDER_HTON) &&
	       is_u32(tb[NFTA_BYTEORDER_LEN], 4) && is_u32(tb[NFTA_BYTEORDER_SIZE], 4) &&
	       decode_register(tb[NFTA_BYTEORDER_SREG], &e->source) &&
	       decode_register(tb[NFTA_BYTEORDER_DREG], &e->dest);
}

static bool decode_cmp(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return decode_register(tb[NFTA_CMP_SREG], &e->source) &&
	       decode_u32(tb[NFTA_CMP_OP], &e->key) && decode_value(tb[NFTA_CMP_DATA], &e->value);
}

static bool decode_lookup(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	uint32_t flags = 0;

	(void)r;
	if (tb[NFTA_LOOKUP_DREG] != NULL || !decode_register(tb[NFTA_LOOKUP_SREG], &e->source))
		return false;
	decode_u32(tb[NFTA_LOOKUP_FLAGS], &flags);
	e->negate = (flags & NFT_LOOKUP_F_INV) != 0;
	decode_string(tb[NFTA_LOOKUP_SET], e->name, sizeof(e->name));
	return true;
}

static bool decode_counter(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)e;
	decode_u64(tb[NFTA_COUNTER_PACKETS], &r->packets);
	decode_u64(tb[NFTA_COUNTER_BYTES], &r->bytes);
	return true;
}

static bool decode_redir(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	uint8_t max;

	(void)r;
	if (!is_u32(tb[NFTA_REDIR_FLAGS], NF_NAT_RANGE_PROTO_SPECIFIED) ||
	    !decode_register(tb[NFTA_REDIR_REG_PROTO_MIN], &e->source))
		return false;
	return tb[NFTA_REDIR_REG_PROTO_MAX] == NULL ||
	       (decode_register(tb[NFTA_REDIR_REG_PROTO_MAX], &max) && max == e->source);
}

static bool decode_tproxy(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	(void)r;
	return tb[NFTA_TPROXY_REG_ADDR] == NULL && decode_u32(tb[NFTA_TPROXY_FAMILY], &e->key) &&
	       decode_register(tb[NFTA_TPROXY_REG_PORT], &e->source);
}

static bool decode_reject(struct rule *r, struct expr *e, const struct nlattr *const *tb)
{
	const struct nlattr *code = tb[NFTA_REJECT_ICMP_CODE];

	(void)r;
	if (code != NULL && mnl_attr_get_payload_len(code) >= 1)
		e->offset = mnl_attr_get_u8(code);
	return decode_u32(tb[NFTA_REJECT_TYPE], &e->key);
}

static const struct {
	const char *name; /* the kernel's */
	enum expr_kind kind;
	decode_fn *fn;
} expressions[] = {
	{"meta", EXPR_META, decode_meta},
	{"ct", EXPR_CT, decode_ct},
	{"payload", EXPR_PAYLOAD, decode_payload},
	{"fib", EXPR_FIB_TYPE, decode_fib},
	{"socket", EXPR_SOCKET, decode_socket},
	{"hash", EXPR_HASH, decode_hash},
	{"immediate", EXPR_IMMEDIATE, decode_immediate},
	{"bitwise", EXPR_BITWISE, decode_bitwise},
	{"byteorder", EXPR_BYTEORDER, decode_byteorder},
	{"cmp", EXPR_CMP, decode_cmp},
	{"lookup", EXPR_LOOKUP, decode_lookup},
	{"counter", EXPR_COUNTER, decode_counter},
	{"redir", EXPR_REDIRECT, decode_redir},
	{"tproxy", EXPR_TPROXY, decode_tproxy},
	{"reject", EXPR_REJECT, decode_reject},
};

int decode_expr(struct rule *r, const struct nlattr *nest)
{
	const struct nlattr *head[NFTA_EXPR_MAX + 1], *tb[ATTRIBUTES_MAX + 1];
	struct expr decoded = {.kind = EXPR_OTHER};
	char name[MODEL_NAME_MAX];
	struct expr *e;

	decode_attributes(nest, head, NFTA_EXPR_MAX);
	decode_string(head[NFTA_EXPR_NAME], name, sizeof(name));
	decode_attributes(head[NFTA_EXPR_DATA], tb, ATTRIBUTES_MAX);
	for (size_t i = 0; i < ARRAY_LEN(expressions); i++) {
		if (strcmp(expressions[i].name, name) != 0)
			continue;
		decoded.kind = expressions[i].kind;
		if (!expressions[i].fn(r, &decoded, tb))
			decoded = (struct expr){.kind = EXPR_OTHER};
	}
	if (decoded.kind == EXPR_OTHER)
		snprintf(decoded.name, sizeof(decoded.name), "%s", name);
	e = rule_add_expr(r, decoded.kind);
	if (e == NULL)
		return -ENOMEM;
	*e = decoded;
	return 0;
}
