/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the steps of a probe come to: is such a flow taken, and who decided. Pure; a value that
 * points into the trace it was made from.
 */
#include "rulemgr/trace.h"

enum verdict {
	VERDICT_TAKEN,    /* goes to transocksd */
	VERDICT_LEFT,     /* goes where it wanted to go, or where a foreign rule sends it */
	VERDICT_REJECTED, /* a rule refuses it, with an answer: a foreign one, or our guard */
	VERDICT_DROPPED,  /* a rule drops it without one */
	VERDICT_NO_ROUTE, /* connect(2) fails before any rule is asked */
	VERDICT_LOST      /* it ended somewhere that the trace does not see */
};

struct answer {
	enum verdict verdict;
	/* TAKEN, LEFT: the step of ours that decided; NULL: none of our rules saw it.
	 * REJECTED, DROPPED: the step that ended it. */
	const struct step *by;
	/* The step of ours that took it, whatever came of it later; NULL: none. */
	const struct step *taken_by;
	/* LEFT without `by`: the last step before its destination changed; NULL: not seen. */
	const struct step *translated_by;
	/* LOST: a rule that may have switched the trace off; NULL: none does. */
	const struct step *hidden_by;
	bool seen;       /* the trace has its first hook */
	bool translated; /* its destination changed, and not by us */
	int err;         /* NO_ROUTE: what connect(2) said */
};

/* `send_err` is what probe_send() returned. */
struct answer verdict_of(const struct trace *t, const struct probe *p, int send_err);

/* "taken", "left-alone", ... */
const char *verdict_name(enum verdict v);

/* One sentence why, without a full stop; returns `out`. */
const char *verdict_explain(const struct answer *a, char *out, size_t cap);

/* `rule 3 "comment" of chain output, table inet filter`; returns `out`. */
const char *step_format(const struct step *s, char *out, size_t cap);
