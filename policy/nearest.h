/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * "Did you mean": the known word that a mistyped one was probably meant to be. Pure.
 */
#include <stddef.h>

/* The entry of `names` (ends with NULL) nearest to `word` by edit distance, letter case aside, or NULL
 * if none is within a third of the length of `word`, rounded up. Any length of `word` is fine. */
const char *nearest_word(const char *word, const char *const *names);
