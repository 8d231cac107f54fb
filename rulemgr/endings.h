/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Why transocksd has ended a flow: its counters, asked on the control socket before and after, name the
 * reason. They are of all flows; values, no ownership.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"

#define ENDINGS_MAX      64
#define ENDINGS_WORD_MAX 32

/* How many flows have ended for each reason since the daemon began. A value. */
struct endings {
	bool direct; /* it dials destinations itself */
	struct {
		char word[ENDINGS_WORD_MAX];
		uint64_t n;
	} rows[ENDINGS_MAX];
	size_t n_rows;
};

/* Asks at `path`; NULL: the default, "": there is none. 0, or a negative errno with `d` filled. */
int endings_read(const char *path, struct endings *e, struct diag *d);

/* The same from the daemon's answer to "status". Pure. 0 or -EPROTO. */
int endings_parse(const char *answer, struct endings *e);

/* How many more have ended for the reason `word`. Pure. */
uint64_t endings_grown(const struct endings *before, const struct endings *after, const char *word);

/* One reason of those that a flow which has only just come may end for. */
struct ending {
	const char *word;
	bool direct; /* without an upstream it is about that destination alone */
	const char *
		hint; /* nothing can work, and what to look at; NULL: no more than this flow failed */
};
/* Ends with a row whose word is NULL. */
extern const struct ending endings_early[];

#define ENDINGS_TEXT_MAX 256

struct endings_verdict {
	bool hopeless;                /* no flow can work */
	const char *hint;             /* hopeless: what to look at */
	char words[ENDINGS_TEXT_MAX]; /* "connect-failed or cut" */
};

/* What has grown means for a flow that was ended early: hopeless only if all of it says so, since other flows
 * end as well. False: nothing has grown. Pure. */
bool endings_judge(const struct endings *before, const struct endings *after,
		   struct endings_verdict *v);
