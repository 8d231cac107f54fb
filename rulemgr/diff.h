/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What differs between the table that is wanted and the one that the kernel has, expression by
 * expression: listings of nft(8) can be equal where rules are not. Pure.
 */
#include "policy/json.h"
#include "rulemgr/model.h"

enum diff_kind {
	DIFF_MISSING, /* wanted and not there */
	DIFF_EXTRA,   /* there and not wanted */
	DIFF_MOVED,   /* there, in another order */
	DIFF_ALTERED  /* `property` is another */
};

enum diff_object { DIFF_TABLE, DIFF_SET, DIFF_ELEMENT, DIFF_CHAIN, DIFF_RULE };

#define DIFF_VALUE_MAX 256

/* One finding. Strings that do not apply are empty. */
struct difference {
	enum diff_kind kind;
	enum diff_object object;
	char name[MODEL_NAME_MAX];       /* of the set or chain */
	size_t number;                   /* of the rule, from 1: in the kernel, if it is there */
	char comment[MODEL_COMMENT_MAX]; /* of the rule or element */
	char element[ELEMENT_TEXT_MAX];
	const char *property;                            /* altered only; a constant */
	char want[DIFF_VALUE_MAX], have[DIFF_VALUE_MAX]; /* altered only */
};

struct diff {
	struct difference *items;
	size_t n;
};

/* In the order of the table: its head, sets, chains. What others may change is no difference: counters,
 * elements of live sets (carry.h), ports of earlier tables. *d is written only on success and then owned by the
 * caller (diff_free). 0 or -ENOMEM. */
int diff_models(const struct model *want, const struct model *have, struct diff *d);
void diff_free(struct diff *d);

/* The command of ours that has put there for a while what no configuration asks for: "flush", "install --confirm".
 * NULL: it is none of these. */
const char *difference_cause(const struct difference *d);

/* Appends `rule 5 "user of ..." of chain output: is about uid 998, configured: 990`, without a line end. What
 * comes from the kernel cannot forge a line. */
void difference_format(const struct difference *d, struct strbuf *out);
/* An array of objects. */
void diff_put_json(const struct diff *d, struct json *j, const char *key);

/* What an expression does, such as "loads meta mark"; returns `out`. (expr_text.c) */
#define EXPR_TEXT_MAX 160
const char *expr_format(const struct expr *e, char *out, size_t cap);
bool expr_equal(const struct expr *a, const struct expr *b);
