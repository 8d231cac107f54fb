/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the configuration and the command line ask for, as a table; and what the kernel has beside it. Shared by
 * the commands that compare or show.
 */
#include "rulemgr/command.h"
#include "rulemgr/diff.h"
#include "rulemgr/have.h"
#include "rulemgr/routes.h"

/* Builds the table that install would install. *m is written only on success and then owned by the caller. An
 * exit code; r->error says why it is not 0. */
int intent_build(const struct args *a, struct want *w, struct model *m, struct report *r);

/* Both sides and their differences. All zero is fine for intent_free(). */
struct intent {
	struct want want;
	struct model wanted, found;
	struct have have;            /* present: and in force, trial or not */
	bool on_trial;               /* `found` is the half of a trial that is in force */
	int64_t trial_left_ms;       /* of that trial */
	bool trial_of_first;         /* there was no table before it */
	struct diff diff;            /* empty if the table is not there */
	struct routes_change routes; /* what TPROXY lacks, or an earlier mode has left */
	char in_the_way
		[256]; /* of others, the first rule or route for which install refuses; "": none */
};

/* Reads and compares. An exit code: 0 also where the table is missing (have.present) or differs. */
int intent_compare(struct kernel *k, const struct args *a, struct intent *i, struct report *r);
void intent_free(struct intent *i);

/* Its routes alone, from `want`; an exit code. They belong to the rules of both backends. */
int intent_compare_routes(struct intent *i, struct report *r);
void intent_tell_routes(const struct intent *i, struct report *r);

/* In the table, and in the ip rules and routes. */
size_t intent_differences(const struct intent *i);
#define INTENT_HINT "installed with other flags, or another -f? status and diff need the same ones"

/* Lists them, of those in the table at most `max` to a person, and the hint. */
void intent_tell(const struct intent *i, size_t max, struct report *r);

/* Fills r->error for what has been found, and returns its exit code: 0, EXIT_NOT_INSTALLED, EXIT_DRIFT. */
int intent_judge(const struct intent *i, struct report *r);
