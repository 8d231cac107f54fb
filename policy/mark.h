/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A packet mark with its mask: what the daemons set on their sockets (SO_MARK) and the rules test. Pure;
 * a value.
 */
#include <stdint.h>

struct mark {
	uint32_t value, mask; /* mask 0: no mark */
};

/* "VALUE/MASK" or "VALUE" (all bits), decimal or 0x...; "0/0": none. 0, or -EINVAL with a constant text in
 * *why that goes on after the quoted input, such as "is not ...". */
int mark_parse(struct mark *m, const char *text, const char **why);
