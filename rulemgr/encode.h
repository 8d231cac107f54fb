/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The model as nf_tables messages, in the form in which nft(8) lists and reads them again without a
 * difference. Nothing is sent here.
 */
#include "rulemgr/batch.h"

/* Adds what removes our table, which must be there: the generation of the batch says that it still is.
 * (Creating it first, to be able to remove it in any case, would show others a table without our
 * comment for a moment.) 0 or -ENOMEM. */
int encode_removal(struct batch *b);

/* Adds what creates the model's table. 0, -ENOMEM, or -ENOSPC for a comment that does not fit. */
int encode_model(struct batch *b, const struct model *m);

/* Adds what puts the elements of `s` into the set of that name that is there, or takes them out of it. The
 * batch borrows `s`. 0, -ENOMEM or -ENOSPC as above. */
int encode_added_elements(struct batch *b, const struct set *s);
int encode_removed_elements(struct batch *b, const struct set *s);

/* Adds what puts `rule` into chain `c` of the table that is there, behind the rule with the handle `after`; 0: in
 * front of all. It uses no set. The batch borrows `c` and `rule`. 0, -ENOMEM or -ENOSPC as above. */
int encode_inserted_rule(struct batch *b, const struct model *m, const struct chain *c,
			 const struct rule *rule, uint64_t after);

/* Add what takes parts out of the table that is there: a rule by its handle (NULL: all of the chain), a chain with its
 * rules, a set that no rule left looks at. The batch borrows them. 0 or -ENOMEM. */
int encode_removed_rule(struct batch *b, const struct chain *c, const struct rule *rule);
int encode_removed_chain(struct batch *b, const struct chain *c);
int encode_removed_set(struct batch *b, const struct set *s);
