/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The rules as text for iptables-restore(8) and ip6tables-restore(8): what rulemgr/want.c builds for
 * nf_tables, for hosts that lack it. Pure.
 *
 * Every line stands as iptables-save(8) prints it (the same by iptables-legacy and iptables-nft, 1.8.9),
 * so that what is installed can be compared with what is wanted line by line.
 *
 * The chains of a table lead from one to the next by "goto", so that RETURN anywhere is the end of all of
 * them: the flow is left alone, and what stands behind our jump still sees it.
 */
#include "policy/strbuf.h"
#include "rulemgr/want.h"

/* What the names of our chains begin with, and of those that are on trial. */
#define IPTABLES_CHAINS "TRANSOCKS_"
#define IPTABLES_TRIAL  IPTABLES_CHAINS "TRIAL_"
/* Live exceptions, kept through every install. Its last rule goes on to IPTABLES_TAKE. */
#define IPTABLES_BYPASS "TRANSOCKS_BYPASS"
/* What is done with a flow that nothing exempts. */
#define IPTABLES_TAKE "TRANSOCKS_TAKE"
/* The same two of the rules on trial. */
#define IPTABLES_TRIAL_BYPASS "TRANSOCKS_TRIAL_BYPASS"
#define IPTABLES_TRIAL_TAKE   "TRANSOCKS_TRIAL_TAKE"
/* Nothing leads there: where earlier rules redirected to, for the live flows of those. In table nat. */
#define IPTABLES_KEEP "TRANSOCKS_KEEP"
/* What a probe meets last (iptables_cage.h); not part of what is installed. */
#define IPTABLES_PROBE "TRANSOCKS_PROBE"

/* Whether the name is one of our chains. */
bool iptables_is_ours(const char *chain);

/* A word or a text in quotes, as iptables-save(8) would print it. */
void iptables_put_string(struct strbuf *out, const char *text);

/* Whether iptables can do what is wanted. 0, or -EOPNOTSUPP or -EINVAL with a text that names the option
 * and the remedy. */
int iptables_check(const struct want *w, struct diag *d);

/* What one family (LISTENERS_IPV4, LISTENERS_IPV6) gets, to be loaded with --noflush where nothing of ours
 * is installed; nothing if the family is not taken. `w` has passed iptables_check(). */
void iptables_build(const struct want *w, int family, struct strbuf *out);

/* Both families, with a heading each: for a person, and `print --format iptables`. */
void iptables_print(const struct want *w, struct strbuf *out);
