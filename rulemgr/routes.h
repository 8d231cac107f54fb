/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The policy rules and routes that TPROXY needs: what the table has marked is delivered to
 * this host, whatever its destination. route_item_is_ours() tells them from those of others;
 * what others made is never changed. One thread, blocking.
 *
 * This is not part of the table's transaction. Callers keep the order: routes_install() before
 * the table goes in, and routes_undo() if that fails; routes_remove() after the table is gone.
 * So no marked packet is ever without its route.
 *
 * Source: rtnetlink(7), Linux net/core/fib_rules.c, net/ipv4/fib_frontend.c, net/ipv6/route.c.
 */
#include "policy/diag.h"
#include "policy/json.h"
#include "rulemgr/listeners.h"
#include "rulemgr/route_item.h"

/* All that is ours or could be in our way. */
struct routes {
	struct route_item *items;
	size_t n;
	bool host_has[LISTENERS_FAMILIES]; /* false: this host cannot route that family */
};

/* What was done, or with a dry run would be, in this order. */
struct routes_step {
	bool add; /* or removed */
	struct route_item item;
};

struct routes_change {
	struct routes_step *steps;
	size_t n;
	struct rtnl *link; /* routes_before() opens what routes_after() needs; NULL otherwise */
};

/* Reads them; *r is written only on success and then owned by the caller (routes_free). 0;
 * -ERESTART: they kept changing; another negative errno. All with `d` filled. */
int routes_read(struct routes *r, struct diag *d);
void routes_free(struct routes *r);

/* What is to be done so that exactly the wanted ones of ours are there. With `mark` NULL none
 * is wanted. A family that the host does not have is left out. Where
 * another family has the rule for the same mark, both stay: live flows that an earlier table
 * has taken need them, and no other packet has the mark. Pure. 0 or -ENOMEM; *c is then the caller's
 * (routes_change_free). */
int routes_plan(const struct routes *r, const struct mark *mark,
		const bool family[LISTENERS_FAMILIES], struct routes_change *c);

/* The first of others that would take our marked packets or that our route would take packets
 * from; NULL: none. Pure. */
const struct route_item *routes_conflict(const struct routes *r, const struct mark *mark,
					 const bool family[LISTENERS_FAMILIES]);

/* One line for each step, as ip(8) would be called. */
void routes_change_format(const struct routes_change *c, struct strbuf *out);
void routes_change_free(struct routes_change *c);

/* Makes those for `mark` and removes others of ours; what is right already is not touched. All
 * or nothing: where a step fails, those before it are taken back. 0 with *c (the caller's);
 * -EEXIST: somebody else's is in the way; -EBUSY: somebody changes them as well; another
 * negative errno. The text says which rule or route. */
int routes_install(const struct mark *mark, const bool family[LISTENERS_FAMILIES], bool dry_run,
		   struct routes_change *c, struct diag *d);

/* Takes a change back, for a caller whose next step failed. Goes on past errors; `d` has the
 * first. */
int routes_undo(const struct routes_change *c, struct diag *d);

/* Both around the rules, in the order above. Before: installs, if there is a `mark`; else opens what is needed
 * after, which must not fail when the rules are changed for lack of a descriptor. After, with what became of
 * the rules: 0 removes those that an earlier mode has left, if there is no `mark`; an error takes *c back. *c is the
 * caller's. 0 or a negative errno with `d`; routes_after() returns `err` if that is one. */
int routes_before(const struct mark *mark, const bool family[LISTENERS_FAMILIES], bool dry_run,
		  struct routes_change *c, struct diag *d);
int routes_after(int err, const struct mark *mark, bool dry_run, struct routes_change *c,
		 struct diag *d);

/* What there is to do, as a difference: "missing: ip rule pref ...", one line for each to a person, or an array. */
void routes_step_tell(const struct routes_step *step, struct strbuf *out); /* without a line end */
void routes_change_tell(const struct routes_change *c, struct strbuf *out);
void routes_change_tell_json(const struct routes_change *c, struct json *j, const char *key);

/* What has been done, or would have been: "  added: ip rule pref ...". */
void routes_change_tell_done(const struct routes_change *c, bool dry_run, struct strbuf *out);
/* An array of texts, "add rule pref ...". */
void routes_change_put_json(const struct routes_change *c, struct json *j, const char *key);

/* Removes what is ours, rules first. Goes on past errors, of which `d` has the first; *c has
 * what was done in any case. */
int routes_remove(bool dry_run, struct routes_change *c, struct diag *d);
