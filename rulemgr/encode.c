/* SPDX-License-Identifier: MIT */
#include "rulemgr/encode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/udata.h"

/* nft(8)'s own numbers for the types of set keys and their byte order (its datatype.h); the kernel
 * only keeps them. */
struct set_encoding {
	uint32_t key_type;
	uint32_t byte_order; /* 1: host, 2: big endian */
};

static const struct set_encoding set_encodings[] = {
	[SET_IPV4] = {.key_type = 7, .byte_order = 2},
	[SET_IPV6] = {.key_type = 8, .byte_order = 2},
	[SET_IFNAME] = {.key_type = 41, .byte_order = 1},
};

static int encode_table(struct batch *b, uint16_t type, uint16_t flags, const char *comment)
{
	struct nftnl_table *t = nftnl_table_alloc();
	struct udata u = {.len = 0};
	int r = 0;

	if (t == NULL)
		return -ENOMEM;
	nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, NFPROTO_INET);
	if (comment != NULL)
		r = udata_put_string(&u, NFTNL_UDATA_TABLE_COMMENT, comment);
	if (r == 0 && (nftnl_table_set_str(t, NFTNL_TABLE_NAME, MODEL_TABLE) < 0 ||
		       (comment != NULL && nftnl_table_set_data(t, NFTNL_TABLE_USERDATA, u.bytes,
								(uint32_t)u.len) < 0)))
		r = -ENOMEM;
	if (r == 0) {
		nftnl_table_nlmsg_build_payload(batch_message(b, type, flags, (struct origin){0}),
						t);
		r = batch_end_message(b);
	}
	nftnl_table_free(t);
	return r;
}

int encode_removal(struct batch *b)
{
	return encode_table(b, NFT_MSG_DELTABLE, 0, NULL);
}

/* What every set message says. NULL: no memory. */
static struct nftnl_set *encode_set_head(const struct set *s, uint32_t id)
{
	struct nftnl_set *n = nftnl_set_alloc();

	if (n == NULL)
		return NULL;
	nftnl_set_set_u32(n, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(n, NFTNL_SET_ID, id);
	if (nftnl_set_set_str(n, NFTNL_SET_TABLE, MODEL_TABLE) == 0 &&
	    nftnl_set_set_str(n, NFTNL_SET_NAME, s->name) == 0)
		return n;
	nftnl_set_free(n);
	return NULL;
}

static int encode_set(struct batch *b, const struct set *s, uint32_t id)
{
	const struct set_encoding *encoding = &set_encodings[s->type];
	struct nftnl_set *n = encode_set_head(s, id);
	struct udata u = {.len = 0};
	int r;

	if (n == NULL)
		return -ENOMEM;
	nftnl_set_set_u32(n, NFTNL_SET_FLAGS, set_is_interval(s->type) ? NFT_SET_INTERVAL : 0);
	nftnl_set_set_u32(n, NFTNL_SET_KEY_TYPE, encoding->key_type);
	nftnl_set_set_u32(n, NFTNL_SET_KEY_LEN, (uint32_t)set_key_len(s->type));
	r = udata_put_u32(&u, NFTNL_UDATA_SET_KEYBYTEORDER, encoding->byte_order);
	/* auto-merge: `nft add element` of a range that overlaps one of ours is then no error. */
	if (r == 0 && set_is_interval(s->type))
		r = udata_put_u32(&u, NFTNL_UDATA_SET_MERGE_ELEMENTS, 1);
	if (r == 0)
		r = udata_put_string(&u, NFTNL_UDATA_SET_COMMENT, s->comment);
	if (r == 0 && nftnl_set_set_data(n, NFTNL_SET_USERDATA, u.bytes, (uint32_t)u.len) < 0)
		r = -ENOMEM;
	if (r == 0) {
		nftnl_set_nlmsg_build_payload(
			batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE, (struct origin){.set = s}),
			n);
		r = batch_end_message(b);
	}
	nftnl_set_free(n);
	return r;
}

/* Adds one key to `n`, which then owns it. */
static int encode_key(struct nftnl_set *n, const void *key, size_t len, uint32_t flags,
		      const struct udata *u)
{
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();

	if (e == NULL)
		return -ENOMEM;
	nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_FLAGS, flags);
	if (nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, (uint32_t)len) < 0 ||
	    (u != NULL &&
	     nftnl_set_elem_set(e, NFTNL_SET_ELEM_USERDATA, u->bytes, (uint32_t)u->len) < 0)) {
		nftnl_set_elem_free(e);
		return -ENOMEM;
	}
	nftnl_set_elem_add(n, e);
	return 0;
}

/* An interval is its first key, and one past its last with a flag. The one that reaches the end of
 * the address space has no second key, and says so in its user data. */
static int encode_element_keys(struct nftnl_set *n, const struct set *s, const struct element *e)
{
	size_t len = set_key_len(s->type);
	uint8_t past[ELEMENT_KEY_MAX];
	struct udata u = {.len = 0};
	bool bounded = false;
	int r = udata_put_string(&u, NFTNL_UDATA_SET_ELEM_COMMENT, e->comment);

	if (set_is_interval(s->type)) {
		memcpy(past, e->last, len);
		bounded = key_increment(past, len);
		if (r == 0 && !bounded)
			r = udata_put_u32(&u, NFTNL_UDATA_SET_ELEM_FLAGS,
					  NFTNL_SET_ELEM_F_INTERVAL_OPEN);
	}
	if (r == 0)
		r = encode_key(n, e->first, len, 0, &u);
	if (r == 0 && bounded)
		r = encode_key(n, past, len, NFT_SET_ELEM_INTERVAL_END, NULL);
	return r;
}

/* One message each: an error then names the element on every kernel, and the 16-bit length that
 * libnftnl 1.2.4 lets wrap is never near. */
static int encode_element(struct batch *b, const struct set *s, const struct element *e,
			  uint32_t id)
{
	struct nftnl_set *n = encode_set_head(s, id);
	int r;

	if (n == NULL)
		return -ENOMEM;
	r = encode_element_keys(n, s, e);
	if (r == 0) {
		nftnl_set_elems_nlmsg_build_payload(
			batch_message(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE,
				      (struct origin){.set = s, .element = e}),
			n);
		r = batch_end_message(b);
	}
	nftnl_set_free(n);
	return r;
}

static int encode_chain(struct batch *b, const struct chain *c)
{
	struct nftnl_chain *n = nftnl_chain_alloc();
	struct udata u = {.len = 0};
	int r;

	if (n == NULL)
		return -ENOMEM;
	nftnl_chain_set_u32(n, NFTNL_CHAIN_FAMILY, NFPROTO_INET);
	nftnl_chain_set_u32(n, NFTNL_CHAIN_HOOKNUM, c->hook);
	nftnl_chain_set_s32(n, NFTNL_CHAIN_PRIO, c->priority);
	nftnl_chain_set_u32(n, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	r = udata_put_string(&u, NFTNL_UDATA_CHAIN_COMMENT, c->comment);
	if (r == 0 && (nftnl_chain_set_str(n, NFTNL_CHAIN_TABLE, MODEL_TABLE) < 0 ||
		       nftnl_chain_set_str(n, NFTNL_CHAIN_NAME, c->name) < 0 ||
		       nftnl_chain_set_str(n, NFTNL_CHAIN_TYPE, chain_type_name(c->type)) < 0 ||
		       nftnl_chain_set_data(n, NFTNL_CHAIN_USERDATA, u.bytes, (uint32_t)u.len) < 0))
		r = -ENOMEM;
	if (r == 0) {
		nftnl_chain_nlmsg_build_payload(batch_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE,
							      (struct origin){.chain = c}),
						n);
		r = batch_end_message(b);
	}
	nftnl_chain_free(n);
	return r;
}

/* Adds a kernel expression to the rule, which owns it. NULL: no memory. */
static struct nftnl_expr *expr_new(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);

	if (e != NULL)
		nftnl_rule_add_expr(r, e);
	return e;
}

static int encode_value(struct nftnl_expr *n, uint16_t attribute, const struct expr *e)
{
	return nftnl_expr_set(n, attribute, e->value.bytes, e->value.len) < 0 ? -ENOMEM : 0;
}

/* `name` loads the item `key` into the register; the two attributes are libnftnl's. */
static int encode_load(struct nftnl_rule *r, const char *name, uint16_t key_attribute,
		       uint16_t register_attribute, uint32_t key)
{
	struct nftnl_expr *n = expr_new(r, name);

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, key_attribute, key);
	nftnl_expr_set_u32(n, register_attribute, NFT_REG_1);
	return 0;
}

static int encode_payload(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n = expr_new(r, "payload");

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_PAYLOAD_BASE, e->payload.base);
	nftnl_expr_set_u32(n, NFTNL_EXPR_PAYLOAD_OFFSET, e->payload.offset);
	nftnl_expr_set_u32(n, NFTNL_EXPR_PAYLOAD_LEN, e->payload.len);
	return 0;
}

static int encode_fib_type(struct nftnl_rule *r)
{
	struct nftnl_expr *n = expr_new(r, "fib");

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nftnl_expr_set_u32(n, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
	return 0;
}

static int encode_mask(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n = expr_new(r, "bitwise");
	struct expr zero = {.value.len = e->value.len};

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
	nftnl_expr_set_u32(n, NFTNL_EXPR_BITWISE_LEN, e->value.len);
	if (encode_value(n, NFTNL_EXPR_BITWISE_MASK, e) < 0)
		return -ENOMEM;
	return encode_value(n, NFTNL_EXPR_BITWISE_XOR, &zero);
}

static int encode_cmp(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n = expr_new(r, "cmp");

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_CMP_OP, e->negate ? NFT_CMP_NEQ : NFT_CMP_EQ);
	return encode_value(n, NFTNL_EXPR_CMP_DATA, e);
}

static int encode_lookup(struct nftnl_rule *r, const struct expr *e, const struct model *m)
{
	struct nftnl_expr *n = expr_new(r, "lookup");

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_LOOKUP_SET_ID, (uint32_t)e->set + 1);
	if (e->negate)
		nftnl_expr_set_u32(n, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
	return nftnl_expr_set_str(n, NFTNL_EXPR_LOOKUP_SET, m->sets[e->set].name) < 0 ? -ENOMEM : 0;
}

static int encode_return(struct nftnl_rule *r)
{
	struct nftnl_expr *n = expr_new(r, "immediate");

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(n, NFTNL_EXPR_IMM_VERDICT, (uint32_t)NFT_RETURN);
	return 0;
}

static int encode_redirect(struct nftnl_rule *r, uint16_t port)
{
	struct nftnl_expr *load = expr_new(r, "immediate");
	struct nftnl_expr *n = expr_new(r, "redir");
	uint16_t wire = htons(port);

	if (load == NULL || n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(load, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
	nftnl_expr_set_u32(n, NFTNL_EXPR_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
	return nftnl_expr_set(load, NFTNL_EXPR_IMM_DATA, &wire, sizeof(wire)) < 0 ? -ENOMEM : 0;
}

static int encode_reset(struct nftnl_rule *r)
{
	struct nftnl_expr *n = expr_new(r, "reject");

	if (n == NULL)
		return -ENOMEM;
	nftnl_expr_set_u32(n, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
	nftnl_expr_set_u8(n, NFTNL_EXPR_REJECT_CODE, 0);
	return 0;
}

static int encode_expr(struct nftnl_rule *r, const struct expr *e, const struct model *m)
{
	switch (e->kind) {
	case EXPR_META:
		return encode_load(r, "meta", NFTNL_EXPR_META_KEY, NFTNL_EXPR_META_DREG, e->key);
	case EXPR_CT:
		return encode_load(r, "ct", NFTNL_EXPR_CT_KEY, NFTNL_EXPR_CT_DREG, e->key);
	case EXPR_PAYLOAD:
		return encode_payload(r, e);
	case EXPR_FIB_TYPE:
		return encode_fib_type(r);
	case EXPR_MASK:
		return encode_mask(r, e);
	case EXPR_CMP:
		return encode_cmp(r, e);
	case EXPR_LOOKUP:
		return encode_lookup(r, e, m);
	case EXPR_COUNTER:
		return expr_new(r, "counter") == NULL ? -ENOMEM : 0;
	case EXPR_RETURN:
		return encode_return(r);
	case EXPR_REDIRECT:
		return encode_redirect(r, e->port);
	case EXPR_RESET:
		return encode_reset(r);
	}
	BUG_ON(true);
}

static int encode_rule_parts(struct nftnl_rule *n, const struct model *m, const struct chain *c,
			     const struct rule *rule)
{
	struct udata u = {.len = 0};
	int r = udata_put_string(&u, NFTNL_UDATA_RULE_COMMENT, rule->comment);

	nftnl_rule_set_u32(n, NFTNL_RULE_FAMILY, NFPROTO_INET);
	if (r == 0 && (nftnl_rule_set_str(n, NFTNL_RULE_TABLE, MODEL_TABLE) < 0 ||
		       nftnl_rule_set_str(n, NFTNL_RULE_CHAIN, c->name) < 0 ||
		       nftnl_rule_set_data(n, NFTNL_RULE_USERDATA, u.bytes, (uint32_t)u.len) < 0))
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < rule->n_exprs; i++)
		r = encode_expr(n, &rule->exprs[i], m);
	return r;
}

static int encode_rule(struct batch *b, const struct model *m, const struct chain *c,
		       const struct rule *rule)
{
	struct nftnl_rule *n = nftnl_rule_alloc();
	int r;

	if (n == NULL)
		return -ENOMEM;
	r = encode_rule_parts(n, m, c, rule);
	if (r == 0) {
		nftnl_rule_nlmsg_build_payload(
			batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
				      (struct origin){.chain = c, .rule = rule}),
			n);
		r = batch_end_message(b);
	}
	nftnl_rule_free(n);
	return r;
}

static int encode_sets(struct batch *b, const struct model *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_sets; i++) {
		const struct set *s = &m->sets[i];
		uint32_t id = (uint32_t)i + 1; /* 0 means none */

		r = encode_set(b, s, id);
		for (size_t k = 0; r == 0 && k < s->n_elements; k++)
			r = encode_element(b, s, &s->elements[k], id);
	}
	return r;
}

int encode_model(struct batch *b, const struct model *m)
{
	int r = encode_table(b, NFT_MSG_NEWTABLE, NLM_F_CREATE, m->comment);

	if (r == 0)
		r = encode_sets(b, m);
	for (size_t i = 0; r == 0 && i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		r = encode_chain(b, c);
		for (size_t k = 0; r == 0 && k < c->n_rules; k++)
			r = encode_rule(b, m, c, &c->rules[k]);
	}
	return r;
}
