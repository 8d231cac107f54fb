/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a reinstall must not lose: elements that were added to our sets since the last one. Pure.
 */
#include "rulemgr/model.h"

/* Whether the set is one of those that anybody may add to; what is in it is then no drift. */
bool set_is_live(const char *name);

/* Whether an install keeps an element that the kernel has in set `s` and that we do not want. */
bool element_is_carried(const struct set *s, const struct element *e);

/* Puts into the live sets of `want` what those of `have` hold, and into exempt_cgroups what somebody else
 * has put there (ours have a comment, and follow the configuration). Calling it again with another `have`
 * forgets what came from the first. 0 or -ENOMEM. */
int carry_elements(struct model *want, const struct model *have);
