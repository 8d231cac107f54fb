/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Rules of family netdev that send on what comes in by an interface, or copies of it: they stand ahead of all
 * hooks that hold a probe (cage.h).
 */
#include "policy/diag.h"
#include "rulemgr/kernel.h"

/* 0: none on this host; -EPROTO: there is one, on whatever interface, which `d` names; or another negative
 * errno with `d` filled. */
int leaks_find(struct kernel *k, struct diag *d);
