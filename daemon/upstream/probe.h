/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Active probes: whether the upstreams of a group with `probe_interval` work is asked now and then, whether or not
 * there are flows. Up to the greeting; to be connected, where there is none; or all the way to the group's
 * `probe_dest`. What comes of it goes to the same health as what flows find out, and an ejection is over as soon as
 * a probe has worked. On the main thread's loop, with a resolver of its own.
 *
 * What does not reach probe_dest may be that destination's fault. It is the upstream's only if another member of the
 * group has reached it, not longer ago than an interval before this probe began: a destination that is gone makes two
 * such failures of each at most, and three are needed. Otherwise an answer, whatever it says, shows that the
 * upstream works, and no answer shows nothing.
 */
#include "daemon/core/loop.h"
#include "daemon/upstream/upstreams.h"

struct probes;

/* Begins at once: the first probe of each upstream is sent within a second. A reference to `u` is taken. *out is NULL where
 * no group has `probe_interval`. 0 or -errno with `d`. */
int probes_new(struct loop *loop, struct upstreams *u, struct probes **out, struct diag *d);
/* Memory goes at the end of the turn. NULL is fine. */
void probes_free(struct probes *ps);

/* What may be open at once. */
size_t probes_descriptors(const struct conf *c);
