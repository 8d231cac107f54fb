/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A configuration with what was learned while it was used: the state of its upstreams, and which rules have decided
 * how many flows. Reference counted and shared by all workers; what changes in it is atomic or has a lock of
 * its own. The main thread makes one at start and at each reload.
 */
#include <stdatomic.h>

#include "daemon/egress/egress.h"
#include "daemon/flow/observed.h"
#include "daemon/upstream/upstreams.h"
#include "policy/conf.h"

/* How often a rule was the one that decided, or would have been. */
struct rule_count {
	atomic_uint_fast64_t decided, observed;
};

struct plan {
	atomic_uint refs;
	struct conf *conf;
	struct upstreams *upstreams;
	struct egress *egress;    /* usocksd; or NULL */
	bool goes_direct;         /* some flows may go to their destination without an upstream */
	struct rule_count *rules; /* conf->rules.n of them */
	atomic_uint_fast64_t rules_default; /* flows that no rule matched */
	struct observed observed;           /* by rules with `observe` */
};

/* Takes a reference of its own to `conf`. `previous` may be NULL; upstreams and own addresses that it has as well keep their state.
 * 0 or -errno with `d`. */
int plan_new(struct conf *conf, struct plan *previous, struct plan **out, struct diag *d);

struct plan *plan_ref(struct plan *p);
/* Frees with the last reference; NULL is fine. Any thread. */
void plan_unref(struct plan *p);

/* Counts a verdict, of a flow towards `f`. Any thread. */
void plan_count(struct plan *p, const struct flow_facts *f, const struct rule_verdict *v);

/* Appends what `--suggest` prints: suggest_text() of what was observed. */
void plan_suggest(struct plan *p, struct strbuf *out);

/* The upstreams' names, "a, b and 7 more" as far as `cap` bytes go, into `out`, which it returns. */
const char *plan_upstreams_text(const struct conf *c, char *out, size_t cap);
