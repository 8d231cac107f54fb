/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One finding that a person will read: where (file and line, if there is one) and what. Pure code
 * fills it and returns a negative errno; exactly one layer above prints or logs it.
 */
#include "policy/defs.h"

#ifdef __cplusplus
extern "C" {
#endif

struct diag {
	char file[256]; /* "" : no file is involved */
	int line;       /* 0: the file as a whole */
	char text[512];
};

/* Fills `d` (which may be NULL) and returns -err, so that failing is one statement. */
int diag_set(struct diag *d, int err, const char *file, int line, const char *fmt, ...)
	PRINTF_LIKE(5, 6);

/* The one of which there is nothing to say but that it happened: -ENOMEM. */
int diag_no_memory(struct diag *d);

/* "file:line: text", "file: text" or "text" into `out`; returns `out`. */
const char *diag_format(const struct diag *d, char *out, size_t cap);

#ifdef __cplusplus
}
#endif
