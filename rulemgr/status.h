/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The parts of `status` that are the same for both backends. They read what is wanted, and of what is there only
 * `have`. One thread, blocking.
 */
#include "rulemgr/command.h"
#include "rulemgr/intent.h"

/* Lines of differences that a person gets to see; `diff` shows all. */
#define STATUS_DIFFERENCES_MAX 20

/* That there are more than those, if so. */
void status_tell_more(size_t n, struct report *r);
void status_tell_policy(const struct intent *i, struct report *r);
/* Whether flows of a family that is taken find nobody. */
bool status_tell_listeners(const struct intent *i, struct report *r);
void status_tell_flows(const struct intent *i, struct report *r);
void status_tell_exceptions(size_t n, struct report *r);

/* The exit code, from that of the comparison. */
int status_judge(int code, bool unheard, const struct intent *i, struct report *r);
