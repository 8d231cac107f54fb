/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Domain names as they come from outside, brought to one form, so that no rule is passed by a different
 * spelling of the same name. Pure.
 */
#include "policy/addr.h"

#define NAME_MAX_LEN 253

/* `n` bytes from outside become either a name in `out` (lower case, one trailing dot removed, letters,
 * digits, '-', '_' and '.' only, labels of 1..63, at most 253 bytes; returns 0) or, if they spell an IP
 * address literal that inet_pton(3) takes (with or without brackets), the address in *addr (returns 1;
 * out is ""). -EINVAL for everything else: empty, NUL, control bytes, "0x7f.1", "1.2.3", "host%zone". */
int name_normalise(const char *bytes, size_t n, char out[NAME_MAX_LEN + 1], struct addr *addr);

/* Whether somebody has written a name as people read it, "b\u00fccher.example", and not as it is on the wire: UTF-8,
 * and more than ASCII. */
bool name_is_other_script(const char *bytes, size_t n);
