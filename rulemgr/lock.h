/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One transocks-rules at a time, where a change is more than one transaction of the kernel: the rules of iptables,
 * and a table together with the ip rules and routes of TPROXY. Ends with the process, whatever way that ends.
 */
#include <stdint.h>

#include "policy/diag.h"

/* Waits some ten seconds. A descriptor for lock_drop(); -1 where there is no place for the file (then nobody
 * holds it); -EBUSY with `d`. */
int lock_take(struct diag *d);
/* The same without waiting, and -EBUSY without a text. */
int lock_try(void);
/* -1 is fine. */
void lock_drop(int fd);

/* The holder of the lock changes rules of iptables in this network namespace, now. Whoever watches them reads how often
 * that was, also with the lock held: since the kernel does not say who has changed them. -1 is fine. */
void lock_note(int fd);
/* 0: not known. */
uint64_t lock_noted(int fd);
