/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the limit of descriptors is spent on: flows get what is left when everything else has its share, so that
 * accepting pauses before any call fails. Main thread.
 */
#include "policy/conf.h"

struct descriptors {
	size_t n_pipes; /* in all workers */
	size_t left;    /* for flows, and for what a configuration wants beside them */
};

/* Raises the limit as far as the kernel lets. */
void descriptors_share(struct descriptors *ds, const struct conf *c, unsigned n_workers);

/* How many UDP associations there may be among the flows. */
size_t descriptors_udp(const struct descriptors *ds, const struct conf *c);
/* How many flows there can be, two each, beside connections that are kept ready and probes; 0: these take all. */
size_t descriptors_flows(const struct descriptors *ds, const struct conf *c);
/* Whether what `c` wants is possible: 0 or -EINVAL with `d`. */
int descriptors_check(const struct descriptors *ds, const struct conf *c, const char *file,
		      struct diag *d);
