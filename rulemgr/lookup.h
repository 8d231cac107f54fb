/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Which element of a set of our table an address falls into, asked of the kernel.
 */
#include "policy/addr.h"
#include "rulemgr/kernel.h"

#define LOOKUP_TEXT_MAX 1024 /* every byte of a comment may need six */

/* "10.0.0.0-10.255.255.255 \"private, RFC 1918\"" into `out`. 0; -ENOENT or another negative errno where
 * the set has no such element, is no set of addresses, or is gone. */
int lookup_element(struct kernel *k, const char *set, const struct addr *a, char *out, size_t cap);
