/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Runs the programs of iptables, without a shell: iptables-save(8) and iptables-restore(8), and their
 * IPv6 twins. Which variant that is (legacy, nf_tables) is the host's choice; they are found by name in
 * PATH. Blocking; one thread.
 */
#include <limits.h>

#include "policy/diag.h"
#include "policy/strbuf.h"

/* How long a program may take; far beyond the largest ruleset. */
#define IPTABLES_RUN_SECONDS 60
/* How long iptables-restore waits for the lock that all of them share. */
#define IPTABLES_LOCK_SECONDS 5

/* Finds a program in the absolute directories of PATH (in those of the system where the process has more
 * rights than its caller). Returns `out`, or NULL: it is not there. */
const char *iptables_find(const char *program, char *out, size_t cap);

/* "legacy" or "nf_tables", as `program --version` says; "" if it does not. Returns `out`. */
const char *iptables_variant(const char *program, char *out, size_t cap);

/* Which programs: those that PATH has under the plain names, or those of one variant. */
#define IPTABLES_PLAIN  ""
#define IPTABLES_LEGACY "legacy-"
#define IPTABLES_NFT    "nft-"

/* Whether save and restore of the family are there. */
bool iptables_has_programs(int family, const char *by);

/* Rules of all tables, with counters. Asks for no table by name: iptables-legacy-save would create it.
 * 0, or a negative errno with `d` filled. */
int iptables_save(int family, const char *by, struct strbuf *out, struct diag *d);

/* Loads `body`, foreign rules stay; `test`: only parses it. Atomic per table, not beyond. 0; -EBUSY if
 * the lock was not free in time; -EPERM; -EOPNOTSUPP where the kernel or the program lacks something;
 * -EIO. `d` says what the program said and, where it tells, of which line. */
int iptables_restore(int family, const char *by, const struct strbuf *body, bool test,
		     struct diag *d);
