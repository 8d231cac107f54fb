/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Arithmetic on the ranges of an interval set. Pure; the set owns its elements.
 */
#include "rulemgr/model.h"

/* Sorts, and joins what overlaps or touches, because that is what a reload of nft(8)'s listing makes
 * of it in a set with auto-merge. Comments of joined ranges are kept, "; " between two that
 * differ, as far as they fit. */
void ranges_merge(struct set *s);

/* Takes first..last out of a sorted, disjoint set: what lies inside goes, what reaches over is cut, and
 * what encloses it is split, each piece with the comment of the whole. 0 or -ENOMEM (the set is then
 * unchanged). */
int ranges_subtract(struct set *s, const uint8_t *first, const uint8_t *last);

/* Whether the set has an element that encloses first..last. */
bool ranges_contain(const struct set *s, const uint8_t *first, const uint8_t *last);
