/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * transocksd's control socket, and what it tells there about flows that have ended. One request, one
 * connection; blocking, CONTROL_ANSWER_S at most.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"

/* Longer than the daemon gives to a connection. */
#define CONTROL_ANSWER_S 10

/* The connection to the socket at `path`, or a negative errno. */
int control_connect(const char *path);

#define ENDINGS_MAX      64
#define ENDINGS_WORD_MAX 32

/* How many flows have ended for each reason since the daemon began. A value. */
struct endings {
	bool direct; /* it dials destinations itself */
	struct {
		char word[ENDINGS_WORD_MAX];
		uint64_t n;
	} rows[ENDINGS_MAX];
	size_t n_rows;
};

/* Asks at `path`; NULL: the default, "": there is none. 0, or a negative errno with `d` filled. */
int endings_read(const char *path, struct endings *e, struct diag *d);

/* The same from the daemon's answer to "status". Pure. 0 or -EPROTO. */
int endings_parse(const char *answer, struct endings *e);

/* How many more have ended for the reason `word`. Pure. */
uint64_t endings_grown(const struct endings *before, const struct endings *after, const char *word);
