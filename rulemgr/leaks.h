/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Rules of others past which a cage (cage.h) could not hold a probe: those of family netdev that send on what comes in
 * by an interface, or copies of it, ahead of all hooks; and those that write the number by which it is known, for
 * another can write its ports as well.
 */
#include "policy/diag.h"
#include "rulemgr/kernel.h"

/* 0: none on this host; -EPROTO: there is one, on whatever interface, which `d` names; or another negative
 * errno with `d` filled. */
int leaks_find(struct kernel *k, bool forwarded, struct diag *d);
