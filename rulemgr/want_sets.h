/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The sets of the table that is wanted; part of want.c. Pure.
 */
#include "rulemgr/want.h"

/* Adds the sets that `w` needs. 0 or -ENOMEM. */
int want_build_sets(struct model *m, const struct want *w);
