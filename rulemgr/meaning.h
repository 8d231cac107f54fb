/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a person wants to know of an expression: the port, uid or mark that it is about, as a number that the
 * configuration knows. Pure.
 */
#include "rulemgr/model.h"

#define MEANING_TEXT_MAX 32

/* The number that expression `i` of the rule holds, or has a part in: writes "1081" or "0x1000/0x1000" into `out` and
 * returns what it is: "redirect port", "port", "uid", "mark" or "mark set". NULL: none of these. */
const char *expr_meaning(const struct rule *r, size_t i, char out[MEANING_TEXT_MAX]);
