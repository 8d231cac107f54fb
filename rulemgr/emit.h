/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Chains, rules and expressions of a table that is being built; part of want.c. Pure.
 */
#include "rulemgr/want.h"

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

/* Begins a chain. */
void emit_chain(struct build *b, const char *name, enum chain_type type, uint32_t hook,
		int32_t priority, const char *comment);
/* Begins a rule of that chain; its comment. */
void emit_rule(struct build *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Adds an expression to that rule: never NULL. */
struct expr *emit_expr(struct build *b, enum expr_kind kind);
/* Of at most VALUE_MAX bytes. */
void emit_value(struct value *v, const void *bytes, size_t len);
/* Loads into register 0, or `dest`: packet meta data, conntrack data, header bytes. */
void emit_load_meta(struct build *b, uint32_t key);
void emit_load_ct(struct build *b, uint32_t key);
void emit_load_header(struct build *b, uint32_t base, uint32_t offset, uint32_t len, uint8_t dest);
/* Goes on only if register 0 `op` (enum nft_cmp_ops) the value. */
void emit_compare(struct build *b, uint32_t op, const void *bytes, size_t len);
void emit_compare_u8(struct build *b, uint32_t op, uint8_t value);
void emit_compare_u16_be(struct build *b, uint32_t op, uint16_t value);
void emit_compare_u32(struct build *b, uint32_t op, uint32_t value);
/* Register 0 &= mask. */
void emit_mask_u8(struct build *b, uint8_t mask);
void emit_mask_u32(struct build *b, uint32_t mask);
/* Goes on only if the set has register 0, or has not. */
void emit_lookup(struct build *b, const char *set, bool negate);
/* Counter and verdict. */
void emit_end(struct build *b, enum expr_kind verdict);
/* Goes on only for IPPROTO_TCP or IPPROTO_UDP. */
void emit_match_protocol(struct build *b, uint8_t protocol);
/* The destination port. */
void emit_load_port(struct build *b, uint8_t dest);
/* Of the mark in register 0. */
void emit_compare_mark(struct build *b, struct mark mark, uint32_t op);
/* Set the bits of the mask and leave the others: of the packet, of the conntrack entry. */
void emit_packet_mark(struct build *b, struct mark mark);
void emit_flow_mark(struct build *b, struct mark mark);
/* What TH_SYN alone is compared with. */
void emit_load_syn_flags(struct build *b);
