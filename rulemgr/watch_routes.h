/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The ip rules and routes of TPROXY, as watch looks at them: those that a table needs, and what of them is not as it
 * should be. One thread, blocking.
 */
#include "rulemgr/model.h"
#include "rulemgr/routes.h"

/* The mark of the packets that the table hands over by TPROXY, and the families that it takes; false: it does not
 * use TPROXY. Pure. */
bool watch_routes_wanted(const struct model *m, struct mark *mark, bool family[LISTENERS_FAMILIES]);

/* What is to be done for the table, into *c (the caller's, routes_change_free). 0; -ERESTART: they keep changing;
 * another negative errno. All with `d` filled. */
int watch_routes_compare(const struct model *want, struct routes_change *c, struct diag *d);

/* Does it: 0 with *c as above, or an error of routes_install() or routes_remove(). */
int watch_routes_repair(const struct model *want, struct routes_change *c, struct diag *d);
