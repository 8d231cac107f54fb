/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where something was written, for logs, --explain and messages. A value: `file` belongs to the configuration.
 */

struct place {
	const char *file; /* NULL: nowhere */
	int line;
};
