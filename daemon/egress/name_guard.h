/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Stands between a name that a client of transocksd says and the dial, where a flow goes directly to wherever that
 * name leads. The client chose the name, and perhaps what its name server says of it: no address is connected to
 * that the client could not have reached by redirection, that is this host's, or that a rule refuses. One for each
 * flow that is being set up; same thread as its loop.
 */
#include "daemon/net/dial.h"
#include "daemon/net/own_addrs.h"
#include "policy/conf.h"

struct name_guard {
	struct dial_filter filter; /* for the dial; what it says is for name_guard_text() */
	const struct conf *conf;
	struct own_addrs *own;
	struct flow_facts facts; /* of the flow; each address takes the place of its destination */
};

/* `conf`, `own` and what `facts` points to live as long as it is used. */
void name_guard_init(struct name_guard *g, const struct conf *conf, struct own_addrs *own,
		     const struct flow_facts *facts);
/* A constant sentence for what it said (dial.refused). */
const char *name_guard_text(int said);
