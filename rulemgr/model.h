/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The one table of ours as plain data: sets, chains and rules, each rule a short list of
 * expressions in the kernel's own terms. The same form holds what we want (want.c) and what the
 * kernel has (have.c), so that diff.c can compare them; encode.c turns it into netlink messages.
 * Pure data; the caller owns the model and ends it with model_free().
 */
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/defs.h"

#define MODEL_TABLE "transocks"
/* How the table is called in messages and by nft(8). */
#define MODEL_TABLE_TEXT "inet " MODEL_TABLE

#define MODEL_NOT_INSTALLED \
	"table " MODEL_TABLE_TEXT " is not installed: `transocks-rules install` puts it there"

/* A table is ours if its comment begins so. */
#define MODEL_COMMENT_PREFIX "transocks-rules "
/* Before the list of ports that replaced tables redirected to, the latest first, blanks between them. */
#define MODEL_COMMENT_EARLIER ", earlier ports "
/* Redirect ports that are kept track of; of more, the earliest are forgotten. */
#define MODEL_PORTS_MAX 8

/* Bytes of a comment with its NUL: what nft(8) takes (NFTNL_UDATA_COMMENT_MAXLEN). */
#define MODEL_COMMENT_MAX 128
/* Bytes of a name with its NUL: what the kernel takes. Ours are far shorter. */
#define MODEL_NAME_MAX NFT_NAME_MAXLEN

/* Registers are counted in words of 4 bytes; a value of more takes the next ones as well. */
#define MODEL_REGISTERS 16
/* Bytes of the largest value: a key of address and port has 20. */
#define VALUE_MAX 32

/* What an expression does. */
enum expr_kind {
	EXPR_META,     /* dest = packet meta data `key` (enum nft_meta_keys) */
	EXPR_META_SET, /* packet meta data `key` = source */
	EXPR_CT,       /* dest = conntrack data `key` (enum nft_ct_keys) */
	EXPR_CT_SET,   /* conntrack data `key` = source */
	EXPR_PAYLOAD,  /* dest = `len` header bytes at `offset` of `key` (enum nft_payload_bases) */
	EXPR_FIB_TYPE, /* dest = type of the destination address (RTN_LOCAL, ...) */
	EXPR_SOCKET,   /* dest = socket data `key` (enum nft_socket_keys), of level `offset` */
	EXPR_HASH,     /* dest = jhash(`len` bytes at source, seed `offset`) mod `key` */
	EXPR_IMMEDIATE, /* dest = value */
	EXPR_BITWISE,   /* dest = (source & value) ^ xor */
	EXPR_BYTEORDER, /* dest = source, 4 bytes, from host to network byte order */
	EXPR_CMP,       /* go on only if source `key` value (enum nft_cmp_ops) */
	EXPR_LOOKUP,    /* go on only if set `name` contains source (negate: does not) */
	EXPR_COUNTER,
	EXPR_ACCEPT,
	EXPR_DROP,
	EXPR_RETURN,
	EXPR_REDIRECT, /* to the local port in source */
	EXPR_TPROXY,   /* to the local port in source, family `key` (enum nfproto, 0: any) */
	EXPR_REJECT,   /* type `key` (enum nft_reject_types), code `offset` */
	EXPR_OTHER     /* the kernel has it and we do not know it: `name` */
};

/* Bytes as a register holds them: marks and uids in host order, ports and addresses as on the wire. */
struct value {
	uint8_t bytes[VALUE_MAX];
	uint32_t len;
};

/* What a kind does not use is zero. */
struct expr {
	enum expr_kind kind;
	bool negate;
	uint8_t dest, source; /* registers */
	uint32_t key, offset, len;
	struct value value, xor;
	char name[MODEL_NAME_MAX];
};

struct rule {
	char comment[MODEL_COMMENT_MAX];
	struct expr *exprs; /* owned by the model */
	size_t n_exprs;
	/* From the kernel only. */
	uint64_t handle;
	uint64_t packets, bytes;
};

enum chain_type { CHAIN_NAT, CHAIN_FILTER, CHAIN_ROUTE, CHAIN_PLAIN /* on no hook */ };

struct chain {
	char name[MODEL_NAME_MAX];
	char comment[MODEL_COMMENT_MAX];
	enum chain_type type;
	uint32_t hook; /* enum nf_inet_hooks */
	int32_t priority;
	bool drop;          /* its policy; else accept */
	struct rule *rules; /* owned by the model */
	size_t n_rules;
};

enum set_type {
	SET_IPV4,
	SET_IPV6,
	SET_IFNAME,
	SET_IPV4_PORT,
	SET_IPV6_PORT,
	SET_UID,
	SET_CGROUP,
	SET_PORT,
	SET_PROTOCOL,
	SET_OTHER /* the kernel has it and we do not know it */
};

/* An inclusive range; in a set of single keys first and last are equal. Each part of a key takes
 * whole words of 4 bytes, except where there is only one. */
struct element {
	uint8_t first[VALUE_MAX], last[VALUE_MAX];
	char comment[MODEL_COMMENT_MAX];
};

struct set {
	char name[MODEL_NAME_MAX];
	char comment[MODEL_COMMENT_MAX];
	enum set_type type;
	bool interval;  /* ranges, not single keys; then auto-merge as well */
	uint32_t flags; /* the others of enum nft_set_flags: none in ours */
	bool unlike; /* from the kernel only: has what none of ours has, a size, or ranges that nft(8) does not merge */
	uint32_t key_len;
	uint64_t timeout_ms;      /* after which its elements vanish; 0: they stay */
	uint64_t left_ms;         /* from the kernel only: until the first one does; 0: none does */
	struct element *elements; /* owned by the model; sorted, disjoint */
	size_t n_elements;
};

struct model {
	char comment[MODEL_COMMENT_MAX];
	uint32_t flags; /* of the table (enum nft_table_flags) */
	uint32_t owner; /* netlink port of the socket that owns the table; 0: nobody's */
	struct set *sets;
	size_t n_sets;
	struct chain *chains;
	size_t n_chains;
	size_t n_others; /* from the kernel only, if the sets were read: counters, quotas, flowtables and the like */
};

/* The array `items` (of `n` items of `size` bytes, got from here) with room for one more item, all zero; the
 * caller counts it. NULL: no memory, `items` is as before. */
void *model_grow(void *items, size_t n, size_t size);
/* Add an empty one; NULL: no memory. What they return stays there until the next one is added. */
struct set *model_add_set(struct model *m, const char *name, enum set_type type);
struct chain *model_add_chain(struct model *m, const char *name);
struct rule *chain_add_rule(struct chain *c);
struct expr *rule_add_expr(struct rule *r, enum expr_kind kind);
/* A copy of `e`; the caller keeps the order. 0 or -ENOMEM. */
int set_add_element(struct set *s, const struct element *e);

/* NULL: there is none. */
struct set *model_find_set(const struct model *m, const char *name);
struct chain *model_find_chain(const struct model *m, const char *name);

/* What nft(8) and the kernel know of a type of key. */
struct set_type_info {
	const char *name;    /* nft(8)'s word */
	uint32_t key_len;    /* bytes */
	bool interval;       /* our sets of this type are sets of ranges */
	uint32_t key_type;   /* nft(8)'s number, which the kernel only keeps */
	uint32_t byte_order; /* nft(8)'s again; 0: mixed, 1: host, 2: network */
};
extern const struct set_type_info set_types[SET_OTHER];

/* Adds one to a number of `len` big-endian bytes; false if it was the largest. */
bool key_increment(uint8_t *key, size_t len);
/* Takes one off; false if it was zero. */
bool key_decrement(uint8_t *key, size_t len);
/* By the first key, in the order in which nft(8) lists them: what is not in network byte order counts as a number
 * whose last byte is the most significant one. */
int element_compare(const struct set *s, const struct element *a, const struct element *b);
void set_sort(struct set *s);

#define ELEMENT_TEXT_MAX 128
/* As nft(8) writes it: "10.0.0.0/8", "10.0.0.1-10.0.0.7", "\"eth0\"", "10.0.0.1 . 80"; returns `out`
 * (ELEMENT_TEXT_MAX bytes are enough). */
const char *element_format(const struct set *s, const struct element *e, char *out, size_t cap);

/* "nat hook output priority -99"; returns `out`. */
const char *chain_format_hook(const struct chain *c, char *out, size_t cap);
/* The kernel's word for the type: "nat", "filter", "route"; CHAIN_PLAIN: "". */
const char *chain_type_name(enum chain_type type);
/* nft(8)'s word: "output", or "?". */
const char *chain_hook_name(uint32_t hook);

/* What happens to a flow that the rule matches: "left alone", "redirected", "rejected", ... */
const char *rule_verdict_name(const struct rule *r);
/* The port that it redirects or hands by TPROXY to, host order; 0: it does not. */
uint16_t rule_redirect_port(const struct rule *r);

/* Frees what the model owns and clears it; an all-zero model is fine. */
void model_free(struct model *m);
