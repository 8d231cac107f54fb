/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The one table of ours as plain data: sets, chains and rules, each rule a short list of
 * expressions in the kernel's own terms. want.c builds it from options, encode.c turns it into
 * netlink messages. Pure data; the caller owns the model and ends it with model_free().
 */
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/defs.h"

#define MODEL_TABLE "transocks"
/* How the table is called in messages and by nft(8). */
#define MODEL_TABLE_TEXT "inet " MODEL_TABLE

/* A table is ours if its comment begins so. */
#define MODEL_COMMENT_PREFIX "transocks-rules "
/* Before the list of ports that replaced tables redirected to, blanks between them. */
#define MODEL_COMMENT_EARLIER ", earlier ports "
/* Redirect ports that are kept track of; what is more is forgotten. */
#define MODEL_PORTS_MAX 8

/* Bytes of a comment with its NUL: what nft(8) takes (NFTNL_UDATA_COMMENT_MAXLEN). */
#define MODEL_COMMENT_MAX 128

/* More than any rule, chain or table of ours needs; want.c asserts it. */
#define MODEL_EXPRS  15
#define MODEL_RULES  12
#define MODEL_CHAINS 3
#define MODEL_SETS   3

/* What an expression does; all work on one register. */
enum expr_kind {
	EXPR_META,     /* load packet meta data `key` (enum nft_meta_keys) */
	EXPR_CT,       /* load conntrack data `key` (enum nft_ct_keys) */
	EXPR_PAYLOAD,  /* load header bytes */
	EXPR_FIB_TYPE, /* load the type of the destination address (RTN_LOCAL, ...) */
	EXPR_MASK,     /* register = register & value */
	EXPR_CMP,      /* go on only if register == value (negate: !=) */
	EXPR_LOOKUP,   /* go on only if the set contains the register (negate: does not) */
	EXPR_COUNTER,
	EXPR_RETURN,
	EXPR_REDIRECT, /* to the local port */
	EXPR_RESET     /* reject with a TCP reset */
};

struct expr {
	enum expr_kind kind;
	bool negate;
	uint32_t key;
	struct {
		uint32_t base, offset, len; /* base: enum nft_payload_bases; bytes */
	} payload;
	struct {
		uint8_t bytes[4]; /* as the register holds them: marks and uids in host order */
		uint32_t len;
	} value;
	size_t set;    /* index into model.sets */
	uint16_t port; /* host order */
};

struct rule {
	char comment[MODEL_COMMENT_MAX];
	struct expr exprs[MODEL_EXPRS];
	size_t n_exprs;
};

enum chain_type { CHAIN_NAT, CHAIN_FILTER };

struct chain {
	const char *name; /* static */
	const char *comment;
	enum chain_type type;
	uint32_t hook; /* enum nf_inet_hooks */
	int32_t priority;
	struct rule rules[MODEL_RULES];
	size_t n_rules;
};

enum set_type { SET_IPV4, SET_IPV6, SET_IFNAME };

#define ELEMENT_KEY_MAX 16

/* An inclusive range; in a set of names first and last are equal. */
struct element {
	uint8_t first[ELEMENT_KEY_MAX], last[ELEMENT_KEY_MAX];
	char comment[MODEL_COMMENT_MAX];
};

struct set {
	const char *name; /* static */
	const char *comment;
	enum set_type type;
	struct element *elements; /* owned by the model; sorted, disjoint */
	size_t n_elements;
};

struct model {
	char comment[MODEL_COMMENT_MAX];
	struct set sets[MODEL_SETS];
	size_t n_sets;
	struct chain chains[MODEL_CHAINS];
	size_t n_chains;
};

/* Bytes of one key of the set. */
size_t set_key_len(enum set_type type);
/* Ranges, not single keys. */
bool set_is_interval(enum set_type type);

/* Adds one to a number of `len` big-endian bytes; false if it was the largest. */
bool key_increment(uint8_t *key, size_t len);

#define ELEMENT_TEXT_MAX 100
/* "10.0.0.0-10.255.255.255" or "eth0"; returns `out` (ELEMENT_TEXT_MAX bytes are enough). */
const char *element_format(const struct set *s, const struct element *e, char *out, size_t cap);

/* "nat hook output priority -99"; returns `out`. */
const char *chain_format_hook(const struct chain *c, char *out, size_t cap);
/* The kernel's word for the type: "nat", "filter". */
const char *chain_type_name(enum chain_type type);

/* What happens to a flow that the rule matches: "left alone", "redirected", "reset". */
const char *rule_verdict_name(const struct rule *r);

/* Frees what the model owns, not the struct; an all-zero model is fine. */
void model_free(struct model *m);
