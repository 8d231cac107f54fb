/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where something was written, for logs, --explain and messages. A value: `file` belongs to the configuration.
 */

struct place {
	const char *file; /* NULL: nowhere */
	int line;
};

#define PLACES_MAX 16

/* Of the options of one table, in the order of their rows; nowhere: not written. */
struct places {
	struct place rows[PLACES_MAX];
};
