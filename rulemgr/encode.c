/* SPDX-License-Identifier: MIT */
#include "rulemgr/encode.h"

#include <arpa/inet.h>
#include <endian.h>
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

/* Bytes of elements in one message: far from the 16 bits of an attribute's length, which libnftnl 1.2.4 lets
 * wrap, and a few hundred elements, for which 20,000 of them need few messages. */
#define ENCODE_ELEMENTS_MAX 30000

static int encode_table(struct batch *b, uint16_t type, uint16_t flags, const struct model *m)
{
	struct nftnl_table *t = nftnl_table_alloc();
	struct udata u = {.len = 0};
	int r = 0;

	if (t == NULL)
		return -ENOMEM;
	nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, NFPROTO_INET);
	if (m != NULL)
		r = udata_put_string(&u, NFTNL_UDATA_TABLE_COMMENT, m->comment);
	if (m != NULL && m->flags != 0)
		nftnl_table_set_u32(t, NFTNL_TABLE_FLAGS, m->flags);
	if (r == 0 && (nftnl_table_set_str(t, NFTNL_TABLE_NAME, MODEL_TABLE) < 0 ||
		       (m != NULL && nftnl_table_set_data(t, NFTNL_TABLE_USERDATA, u.bytes,
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

static int encode_set_parts(struct nftnl_set *n, const struct set *s, uint32_t id)
{
	const struct set_type_info *type = &set_types[s->type];
	struct udata u = {.len = 0};
	int r;

	nftnl_set_set_u32(n, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(n, NFTNL_SET_ID, id);
	nftnl_set_set_u32(n, NFTNL_SET_FLAGS,
			  (s->interval ? NFT_SET_INTERVAL : 0) |
				  (s->timeout_ms != 0 ? NFT_SET_TIMEOUT : 0));
	if (s->timeout_ms != 0)
		nftnl_set_set_u64(n, NFTNL_SET_TIMEOUT, s->timeout_ms);
	nftnl_set_set_u32(n, NFTNL_SET_KEY_TYPE, type->key_type);
	nftnl_set_set_u32(n, NFTNL_SET_KEY_LEN, type->key_len);
	r = udata_put_u32(&u, NFTNL_UDATA_SET_KEYBYTEORDER, type->byte_order);
	/* auto-merge: `nft add element` of a range that overlaps one of ours is then no error. */
	if (r == 0 && s->interval)
		r = udata_put_u32(&u, NFTNL_UDATA_SET_MERGE_ELEMENTS, 1);
	if (r == 0 && s->comment[0] != '\0')
		r = udata_put_string(&u, NFTNL_UDATA_SET_COMMENT, s->comment);
	if (r == 0 && (nftnl_set_set_str(n, NFTNL_SET_TABLE, MODEL_TABLE) < 0 ||
		       nftnl_set_set_str(n, NFTNL_SET_NAME, s->name) < 0 ||
		       nftnl_set_set_data(n, NFTNL_SET_USERDATA, u.bytes, (uint32_t)u.len) < 0))
		r = -ENOMEM;
	return r;
}

static int encode_set(struct batch *b, const struct set *s, uint32_t id)
{
	struct nftnl_set *n = nftnl_set_alloc();
	int r;

	BUG_ON(s->type == SET_OTHER);
	if (n == NULL)
		return -ENOMEM;
	r = encode_set_parts(n, s, id);
	if (r == 0) {
		nftnl_set_nlmsg_build_payload(
			batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE, (struct origin){.set = s}),
			n);
		r = batch_end_message(b);
	}
	nftnl_set_free(n);
	return r;
}

/* One key as an element of the message. */
static void encode_key(struct nlmsghdr *h, const void *key, size_t len, uint32_t flags,
		       const struct udata *u)
{
	struct nlattr *element = mnl_attr_nest_start(h, NFTA_LIST_ELEM), *nest;

	if (flags != 0)
		mnl_attr_put_u32(h, NFTA_SET_ELEM_FLAGS, htonl(flags));
	nest = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY);
	mnl_attr_put(h, NFTA_DATA_VALUE, len, key);
	mnl_attr_nest_end(h, nest);
	if (u != NULL && u->len > 0)
		mnl_attr_put(h, NFTA_SET_ELEM_USERDATA, u->len, u->bytes);
	mnl_attr_nest_end(h, element);
}

/* An interval is its first key, and one past its last with a flag. The one that reaches the end of
 * the address space has no second key, and says so in its user data. */
static int encode_element(struct nlmsghdr *h, const struct set *s, const struct element *e)
{
	uint8_t past[VALUE_MAX];
	struct udata u = {.len = 0};
	bool bounded = false;
	int r = 0;

	if (e->comment[0] != '\0')
		r = udata_put_string(&u, NFTNL_UDATA_SET_ELEM_COMMENT, e->comment);
	if (s->interval) {
		memcpy(past, e->last, s->key_len);
		bounded = key_increment(past, s->key_len);
		if (r == 0 && !bounded)
			r = udata_put_u32(&u, NFTNL_UDATA_SET_ELEM_FLAGS,
					  NFTNL_SET_ELEM_F_INTERVAL_OPEN);
	}
	encode_key(h, e->first, s->key_len, 0, &u);
	if (bounded)
		encode_key(h, past, s->key_len, NFT_SET_ELEM_INTERVAL_END, NULL);
	return r;
}

/* `type` adds or deletes. Written without libnftnl, which allocates several times for each key. */
static int encode_elements(struct batch *b, uint16_t type, const struct set *s, uint32_t id)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n_elements;) {
		struct nlmsghdr *h =
			batch_message(b, type, type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0,
				      (struct origin){.set = s, .element = &s->elements[i]});
		struct nlattr *list;

		mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, MODEL_TABLE);
		mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, s->name);
		if (id != 0)
			mnl_attr_put_u32(h, NFTA_SET_ELEM_LIST_SET_ID, htonl(id));
		list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
		while (r == 0 && i < s->n_elements && h->nlmsg_len < ENCODE_ELEMENTS_MAX)
			r = encode_element(h, s, &s->elements[i++]);
		mnl_attr_nest_end(h, list);
		if (r == 0)
			r = batch_end_message(b);
	}
	return r;
}

int encode_added_elements(struct batch *b, const struct set *s)
{
	return encode_elements(b, NFT_MSG_NEWSETELEM, s, 0);
}

int encode_removed_elements(struct batch *b, const struct set *s)
{
	return encode_elements(b, NFT_MSG_DELSETELEM, s, 0);
}

static int encode_chain(struct batch *b, const struct chain *c)
{
	struct nftnl_chain *n = nftnl_chain_alloc();
	struct udata u = {.len = 0};
	int r = 0;

	if (n == NULL)
		return -ENOMEM;
	nftnl_chain_set_u32(n, NFTNL_CHAIN_FAMILY, NFPROTO_INET);
	nftnl_chain_set_u32(n, NFTNL_CHAIN_HOOKNUM, c->hook);
	nftnl_chain_set_s32(n, NFTNL_CHAIN_PRIO, c->priority);
	nftnl_chain_set_u32(n, NFTNL_CHAIN_POLICY, c->drop ? NF_DROP : NF_ACCEPT);
	if (c->comment[0] != '\0')
		r = udata_put_string(&u, NFTNL_UDATA_CHAIN_COMMENT, c->comment);
	if (r == 0 && (nftnl_chain_set_str(n, NFTNL_CHAIN_TABLE, MODEL_TABLE) < 0 ||
		       nftnl_chain_set_str(n, NFTNL_CHAIN_NAME, c->name) < 0 ||
		       nftnl_chain_set_str(n, NFTNL_CHAIN_TYPE, chain_type_name(c->type)) < 0 ||
		       (u.len > 0 && nftnl_chain_set_data(n, NFTNL_CHAIN_USERDATA, u.bytes,
							  (uint32_t)u.len) < 0)))
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

/* A kernel expression of the rule, which owns it. NULL: no memory. */
static struct nftnl_expr *expr_new(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);

	if (e != NULL)
		nftnl_rule_add_expr(r, e);
	return e;
}

/* The kernel's number of a register. */
static uint32_t wire_register(uint8_t word)
{
	return word % 4 == 0 ? NFT_REG_1 + word / 4u : (uint32_t)NFT_REG32_00 + word;
}

static int encode_value(struct nftnl_expr *n, uint16_t attribute, const struct value *v)
{
	return nftnl_expr_set(n, attribute, v->bytes, v->len) < 0 ? -ENOMEM : 0;
}

/* An attribute of libnftnl and its number. Attribute 0 is the name of the expression, so it ends a list. */
struct number {
	uint16_t attribute;
	uint32_t value;
};

static int encode_numbers(struct nftnl_rule *r, const char *name, const struct number *numbers,
			  struct nftnl_expr **out)
{
	struct nftnl_expr *n = expr_new(r, name);

	if (n == NULL)
		return -ENOMEM;
	for (; numbers->attribute != 0; numbers++)
		nftnl_expr_set_u32(n, numbers->attribute, numbers->value);
	if (out != NULL)
		*out = n;
	return 0;
}

#define ENCODE(r, name, out, ...) \
	encode_numbers(r, name, (const struct number[]){__VA_ARGS__, {0, 0}}, out)

static int encode_socket(struct nftnl_rule *r, const struct expr *e)
{
	uint32_t dest = wire_register(e->dest);

	if (e->key != NFT_SOCKET_CGROUPV2)
		return ENCODE(r, "socket", NULL, {NFTNL_EXPR_SOCKET_KEY, e->key},
			      {NFTNL_EXPR_SOCKET_DREG, dest});
	return ENCODE(r, "socket", NULL, {NFTNL_EXPR_SOCKET_KEY, e->key},
		      {NFTNL_EXPR_SOCKET_DREG, dest}, {NFTNL_EXPR_SOCKET_LEVEL, e->offset});
}

static int encode_hash(struct nftnl_rule *r, const struct expr *e)
{
	return ENCODE(r, "hash", NULL, {NFTNL_EXPR_HASH_TYPE, NFT_HASH_JENKINS},
		      {NFTNL_EXPR_HASH_SREG, wire_register(e->source)},
		      {NFTNL_EXPR_HASH_DREG, wire_register(e->dest)}, {NFTNL_EXPR_HASH_LEN, e->len},
		      {NFTNL_EXPR_HASH_SEED, e->offset}, {NFTNL_EXPR_HASH_MODULUS, e->key});
}

static int encode_bitwise(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n;

	if (ENCODE(r, "bitwise", &n, {NFTNL_EXPR_BITWISE_SREG, wire_register(e->source)},
		   {NFTNL_EXPR_BITWISE_DREG, wire_register(e->dest)},
		   {NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL},
		   {NFTNL_EXPR_BITWISE_LEN, e->value.len}) < 0 ||
	    encode_value(n, NFTNL_EXPR_BITWISE_MASK, &e->value) < 0)
		return -ENOMEM;
	return encode_value(n, NFTNL_EXPR_BITWISE_XOR, &e->xor);
}

static int encode_cmp(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n;

	if (ENCODE(r, "cmp", &n, {NFTNL_EXPR_CMP_SREG, wire_register(e->source)},
		   {NFTNL_EXPR_CMP_OP, e->key}) < 0)
		return -ENOMEM;
	return encode_value(n, NFTNL_EXPR_CMP_DATA, &e->value);
}

static int encode_immediate(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n;

	if (ENCODE(r, "immediate", &n, {NFTNL_EXPR_IMM_DREG, wire_register(e->dest)}) < 0)
		return -ENOMEM;
	return encode_value(n, NFTNL_EXPR_IMM_DATA, &e->value);
}

static int encode_lookup(struct nftnl_rule *r, const struct expr *e, const struct model *m)
{
	const struct set *s = model_find_set(m, e->name);
	struct nftnl_expr *n;

	BUG_ON(s == NULL);
	if (ENCODE(r, "lookup", &n, {NFTNL_EXPR_LOOKUP_SREG, wire_register(e->source)},
		   {NFTNL_EXPR_LOOKUP_SET_ID, (uint32_t)(s - m->sets) + 1}) < 0)
		return -ENOMEM;
	if (e->negate)
		nftnl_expr_set_u32(n, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
	return nftnl_expr_set_str(n, NFTNL_EXPR_LOOKUP_SET, e->name) < 0 ? -ENOMEM : 0;
}

static int encode_verdict(struct nftnl_rule *r, int verdict)
{
	return ENCODE(r, "immediate", NULL, {NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT},
		      {NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict});
}

static int encode_reject(struct nftnl_rule *r, const struct expr *e)
{
	struct nftnl_expr *n;

	if (ENCODE(r, "reject", &n, {NFTNL_EXPR_REJECT_TYPE, e->key}) < 0)
		return -ENOMEM;
	nftnl_expr_set_u8(n, NFTNL_EXPR_REJECT_CODE, (uint8_t)e->offset);
	return 0;
}

/* One row for each kind; those with values have a function. */
static int encode_expr(struct nftnl_rule *r, const struct expr *e, const struct model *m)
{
	uint32_t dest = wire_register(e->dest), source = wire_register(e->source);

	switch (e->kind) {
	case EXPR_META:
		return ENCODE(r, "meta", NULL, {NFTNL_EXPR_META_KEY, e->key},
			      {NFTNL_EXPR_META_DREG, dest});
	case EXPR_META_SET:
		return ENCODE(r, "meta", NULL, {NFTNL_EXPR_META_KEY, e->key},
			      {NFTNL_EXPR_META_SREG, source});
	case EXPR_CT:
		return ENCODE(r, "ct", NULL, {NFTNL_EXPR_CT_KEY, e->key},
			      {NFTNL_EXPR_CT_DREG, dest});
	case EXPR_CT_SET:
		return ENCODE(r, "ct", NULL, {NFTNL_EXPR_CT_KEY, e->key},
			      {NFTNL_EXPR_CT_SREG, source});
	case EXPR_PAYLOAD:
		return ENCODE(r, "payload", NULL, {NFTNL_EXPR_PAYLOAD_DREG, dest},
			      {NFTNL_EXPR_PAYLOAD_BASE, e->key},
			      {NFTNL_EXPR_PAYLOAD_OFFSET, e->offset},
			      {NFTNL_EXPR_PAYLOAD_LEN, e->len});
	case EXPR_FIB_TYPE:
		return ENCODE(r, "fib", NULL, {NFTNL_EXPR_FIB_DREG, dest},
			      {NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE},
			      {NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR});
	case EXPR_SOCKET:
		return encode_socket(r, e);
	case EXPR_HASH:
		return encode_hash(r, e);
	case EXPR_IMMEDIATE:
		return encode_immediate(r, e);
	case EXPR_BITWISE:
		return encode_bitwise(r, e);
	case EXPR_BYTEORDER:
		return ENCODE(r, "byteorder", NULL, {NFTNL_EXPR_BYTEORDER_SREG, source},
			      {NFTNL_EXPR_BYTEORDER_DREG, dest},
			      {NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON},
			      {NFTNL_EXPR_BYTEORDER_LEN, 4}, {NFTNL_EXPR_BYTEORDER_SIZE, 4});
	case EXPR_CMP:
		return encode_cmp(r, e);
	case EXPR_LOOKUP:
		return encode_lookup(r, e, m);
	case EXPR_COUNTER:
		return expr_new(r, "counter") == NULL ? -ENOMEM : 0;
	case EXPR_ACCEPT:
		return encode_verdict(r, NF_ACCEPT);
	case EXPR_DROP:
		return encode_verdict(r, NF_DROP);
	case EXPR_RETURN:
		return encode_verdict(r, NFT_RETURN);
	case EXPR_REDIRECT:
		return ENCODE(r, "redir", NULL, {NFTNL_EXPR_REDIR_REG_PROTO_MIN, source},
			      {NFTNL_EXPR_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED});
	case EXPR_TPROXY:
		return ENCODE(r, "tproxy", NULL, {NFTNL_EXPR_TPROXY_FAMILY, e->key},
			      {NFTNL_EXPR_TPROXY_REG_PORT, source});
	case EXPR_REJECT:
		return encode_reject(r, e);
	case EXPR_OTHER:
		break; /* we never want one */
	}
	BUG_ON(true);
}

static int encode_rule_parts(struct nftnl_rule *n, const struct model *m, const struct chain *c,
			     const struct rule *rule)
{
	struct udata u = {.len = 0};
	int r = 0;

	if (rule->comment[0] != '\0')
		r = udata_put_string(&u, NFTNL_UDATA_RULE_COMMENT, rule->comment);
	nftnl_rule_set_u32(n, NFTNL_RULE_FAMILY, NFPROTO_INET);
	if (r == 0 && (nftnl_rule_set_str(n, NFTNL_RULE_TABLE, MODEL_TABLE) < 0 ||
		       nftnl_rule_set_str(n, NFTNL_RULE_CHAIN, c->name) < 0 ||
		       (u.len > 0 &&
			nftnl_rule_set_data(n, NFTNL_RULE_USERDATA, u.bytes, (uint32_t)u.len) < 0)))
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < rule->n_exprs; i++)
		r = encode_expr(n, &rule->exprs[i], m);
	return r;
}

/* `after` is the handle of the rule in front of it; 0: `flags` say whether it comes first or last. */
static int encode_rule_at(struct batch *b, const struct model *m, const struct chain *c,
			  const struct rule *rule, uint16_t flags, uint64_t after)
{
	struct nftnl_rule *n = nftnl_rule_alloc();
	int r;

	if (n == NULL)
		return -ENOMEM;
	if (after != 0)
		nftnl_rule_set_u64(n, NFTNL_RULE_POSITION, after);
	r = encode_rule_parts(n, m, c, rule);
	if (r == 0) {
		nftnl_rule_nlmsg_build_payload(
			batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | flags,
				      (struct origin){.chain = c, .rule = rule}),
			n);
		r = batch_end_message(b);
	}
	nftnl_rule_free(n);
	return r;
}

int encode_inserted_rule(struct batch *b, const struct model *m, const struct chain *c,
			 const struct rule *rule, uint64_t after)
{
	return encode_rule_at(b, m, c, rule, after != 0 ? NLM_F_APPEND : 0, after);
}

static int encode_sets(struct batch *b, const struct model *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_sets; i++) {
		const struct set *s = &m->sets[i];
		uint32_t id = (uint32_t)i + 1; /* 0 means none */

		r = encode_set(b, s, id);
		if (r == 0)
			r = encode_elements(b, NFT_MSG_NEWSETELEM, s, id);
	}
	return r;
}

int encode_model(struct batch *b, const struct model *m)
{
	int r = encode_table(b, NFT_MSG_NEWTABLE, NLM_F_CREATE, m);

	if (r == 0)
		r = encode_sets(b, m);
	for (size_t i = 0; r == 0 && i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		r = encode_chain(b, c);
		for (size_t k = 0; r == 0 && k < c->n_rules; k++)
			r = encode_rule_at(b, m, c, &c->rules[k], NLM_F_APPEND, 0);
	}
	return r;
}

int encode_removed_rule(struct batch *b, const struct chain *c, const struct rule *rule)
{
	struct nlmsghdr *h =
		batch_message(b, NFT_MSG_DELRULE, 0, (struct origin){.chain = c, .rule = rule});

	mnl_attr_put_strz(h, NFTA_RULE_TABLE, MODEL_TABLE);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, c->name);
	if (rule != NULL)
		mnl_attr_put_u64(h, NFTA_RULE_HANDLE, htobe64(rule->handle));
	return batch_end_message(b);
}

int encode_removed_chain(struct batch *b, const struct chain *c)
{
	struct nlmsghdr *h;

	if (encode_removed_rule(b, c, NULL) < 0)
		return -ENOMEM;
	h = batch_message(b, NFT_MSG_DELCHAIN, 0, (struct origin){.chain = c});
	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, MODEL_TABLE);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, c->name);
	return batch_end_message(b);
}

int encode_removed_set(struct batch *b, const struct set *s)
{
	struct nlmsghdr *h = batch_message(b, NFT_MSG_DELSET, 0, (struct origin){.set = s});

	mnl_attr_put_strz(h, NFTA_SET_TABLE, MODEL_TABLE);
	mnl_attr_put_strz(h, NFTA_SET_NAME, s->name);
	return batch_end_message(b);
}
