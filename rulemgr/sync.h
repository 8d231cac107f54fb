/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The only place that changes the kernel: makes its table equal to a model, in one batch.
 */
#include "rulemgr/batch.h"
#include "rulemgr/have.h"

/* 0 if the table is absent or ours; -EEXIST with `d` if somebody else's table has its name. */
int sync_check_owner(const struct have *have, struct diag *d);

/* Reads the table, again where somebody changes the ruleset meanwhile. 0; -EBUSY: changed by others again and
 * again; errors of have_read_model(), which says who owns *m. */
int sync_read(struct kernel *k, struct have *have, struct model *m, struct diag *d);
/* The same without the sets, and without all of it. */
int sync_read_chains(struct kernel *k, struct have *have, struct model *m, struct diag *d);
int sync_look(struct kernel *k, struct have *have, struct diag *d);

/* Replaces the table by `want`, or removes it (`want` NULL), without a moment in which it is partly
 * there, and only if it is ours. What others have added to the live sets goes into `want` first. Starts over, a
 * few times, when somebody else changes the ruleset in between. With `dry_run` the kernel checks all
 * of it and changes nothing. A table that a socket owns, or is to own, is changed over the one that transocksd
 * keeps (loan.h).
 * *have is what was there before. 0; -EEXIST as above, or somebody else owns the table; -EBUSY: changed by
 * others again and again; errors of have_read_model(), batch_send() and loan_begin(). */
int sync_table(struct kernel *k, struct model *want, bool dry_run, struct have *have,
	       struct diag *d);

/* Makes *after, which begins as a copy of what the kernel has in the set. 0, or a negative errno with `d` filled;
 * called again when somebody else has changed the ruleset in between. */
typedef int sync_edit_fn(void *ctx, struct set *after, struct diag *d);
/* Changes the elements of one set of our table, only by those that differ, in one batch. 0; -ENOENT with
 * `d`: there is no such table or set; -ETIME: a trial is over, and trial_end() comes first; -EEXIST and -EBUSY as above; errors of the others. */
int sync_edit_set(struct kernel *k, const char *name, sync_edit_fn *fn, void *ctx, bool dry_run,
		  struct diag *d);

/* A change to the table that is there. */
struct change {
	/* Puts it into the batch; called again, with what is there then, where somebody else was faster. What the
	 * batch borrows must live until sync_change() returns, or be of `m`. 1; 0: there is nothing to change; a
	 * negative errno with `d` filled ends it. */
	int (*build)(void *ctx, struct batch *b, const struct have *have, struct model *m,
		     struct diag *d);
	void *ctx;
	bool without_sets; /* build() does not look at them: they are not read */
	bool to_be_owned; /* a socket is to own the table afterwards, though none need own it before */
};

/* Reads the table and carries out what `c` makes of it, in one batch that holds only if nobody has changed the
 * ruleset meanwhile. 0; errors of c->build(); -EEXIST, -EBUSY and others as sync_table(). */
int sync_change(struct kernel *k, const struct change *c, bool dry_run, struct have *have,
		struct diag *d);
