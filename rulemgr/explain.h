/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the two commands that send probes share.
 */
#include "rulemgr/command.h"
#include "rulemgr/kernel.h"

/* 0 where our table is installed, else an exit code with the report's error filled. */
int explain_need_installed(struct kernel *k, struct report *r);

/* Why neither of them works by iptables. */
extern const char explain_by_iptables[];
