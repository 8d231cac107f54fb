/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Messages of the kernel into the model. Pure, and without libnftnl, which refuses a rule as a whole when it
 * does not know one of its expressions. Nothing in a message is trusted: what makes no sense
 * becomes EXPR_OTHER or SET_OTHER, or is left out.
 */
#include <libmnl/libmnl.h>

#include "rulemgr/model.h"

struct decode_key; /* one key of a set, before ranges are made of them */

/* Begins all zero; ended with decode_finish() or decode_free(). */
struct decode {
	struct model model;
	struct decode_key *keys;
	size_t n_keys;
	bool has_table;
	uint32_t
		in_use; /* parts that the kernel counts in the table, sets and chains among them; 0: not to be looked at */
};

/* Takes in one message: a table, a set, elements, a chain or a rule; all else, and what belongs to another
 * table, is passed over. Sets come before their elements, chains before their rules. 0 or -ENOMEM. */
int decode_message(struct decode *d, const struct nlmsghdr *h);

/* Makes ranges of keys, and sorts elements. *m is written only on success and then owned by the caller; `d` is
 * freed in any case. 0 or -ENOMEM. */
int decode_finish(struct decode *d, struct model *m);
void decode_free(struct decode *d);

/* Adds the expression in the attribute `nest` (NFTA_LIST_ELEM of NFTA_RULE_EXPRESSIONS). 0 or -ENOMEM.
 * (decode_expr.c) */
int decode_expr(struct rule *r, const struct nlattr *nest);

/* Helpers of both files. The attributes of a nest by number: tb[0..max], NULL where there is none. */
void decode_attributes(const struct nlattr *nest, const struct nlattr **tb, size_t max);
/* In host byte order; false (and *value unchanged) if `a` is NULL or too short. */
bool decode_u32(const struct nlattr *a, uint32_t *value);
bool decode_u64(const struct nlattr *a, uint64_t *value);
/* Cut to `cap` - 1 bytes; "" for NULL. */
void decode_string(const struct nlattr *a, char *out, size_t cap);
/* The bytes within NFTA_DATA_VALUE; false if there are none or too many. */
bool decode_value(const struct nlattr *nest, struct value *v);
