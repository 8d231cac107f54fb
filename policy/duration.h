/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Durations as people write them: "250ms", "5s", "1h30m". Pure.
 */
#include <stdint.h>

#include "policy/strbuf.h"

/* Numbers with units (h, m, s, ms), each unit once and the longer ones first. 0 or -EINVAL. */
int duration_parse(int64_t *ms, const char *text);
/* The same way; "0s" for none. */
void duration_put(struct strbuf *out, int64_t ms);
