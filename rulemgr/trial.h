/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A table on trial: for some time the new rules decide, then the previous ones again, unless somebody confirms.
 *
 * Both are in the one table, each chain and set of the previous table under another name, and the kernel itself
 * keeps the time: set TRIAL_SET holds elements that expire. While they are there, a rule in each previous chain lets
 * everything return; when they are gone, one in each new chain does. So the way back needs no process, and no
 * kill -9 can prevent it. What is left of the trial after its time acts no more, and is tidied up by whoever
 * comes first: the watcher that install leaves behind, or the next command.
 *
 * The gates stand where drain's do (gate.h), so that flows which either side has taken go on through the change.
 */
#include "rulemgr/model.h"

#define TRIAL_SET    "trial"
#define TRIAL_PREFIX "previous_"
/* Comments of the rules on top, in the chains of either table. */
#define TRIAL_GATE_NEW      "the trial is over: the previous rules decide"
#define TRIAL_GATE_PREVIOUS "on trial: the new rules decide"

/* Whether the table holds a trial, perhaps one that is over; and whether its time is over. Pure, all of them. */
bool trial_is_on(const struct model *m);
bool trial_is_over(const struct model *m);

/* How long it goes on, in milliseconds; 0: there is none, or its time is over. */
int64_t trial_left(const struct model *m);
/* Whether there is a table to go back to. */
bool trial_has_previous(const struct model *m);

/* Whether `m` can be put back as it was: NULL, or the name of a part that cannot, because we do not know all of
 * it; a few words for what is neither a set nor a chain. */
const char *trial_find_unknown(const struct model *m);

/* Whether both tables could be there at once: with TPROXY they need the same routes, and so the same mark. */
bool trial_is_possible(const struct model *m, const struct model *previous);

/* Makes `m`, the new table, one on trial for `ms`. `previous` is emptied into it; one without a comment stands for no
 * table at all. 0; -ENOMEM: both can only be freed. */
int trial_begin(struct model *m, struct model *previous, int64_t ms);

/* Leaves of a table on trial the new one alone, or the previous one, as it was except that its comment
 * remembers the ports of the new one; false: there was none. */
void trial_keep_new(struct model *m);
bool trial_keep_previous(struct model *m);

/* What a confirmation takes out of the table: chains and sets of the previous one, and the gate of a new one (NULL:
 * it has none). */
bool trial_is_previous(const char *name);
const struct rule *trial_find_gate(const struct chain *c);

/* Whether a rule with this comment is one of the gates. */
bool trial_owns_rule(const char *comment);
