/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The place in a chain of ours where a rule can turn all new flows away without a packet of a flow that was
 * taken before passing it: on top, except under TPROXY, where the rule that knows those flows comes first.
 * Pure.
 */
#include "rulemgr/model.h"

/* Whether flows are taken in it: redirected, marked, or refused so that they come by TCP. */
bool gate_chain_takes(const struct chain *c);

/* The last rule that lets through what was taken before; NULL: there is none, as without TPROXY. */
const struct rule *gate_find_keeper(const struct chain *c);

/* Puts an empty rule of that comment there. NULL: no memory. It stays there until the chain changes. */
struct rule *gate_insert(struct chain *c, const char *comment);
/* The rule of that comment, NULL: none. */
const struct rule *gate_find(const struct chain *c, const char *comment);
/* Takes it out; none is fine. */
void gate_remove(struct chain *c, const char *comment);
