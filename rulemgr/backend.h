/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Which backend serves this host. Looking never writes: it asks nf_tables for its generation, reads the names
 * of legacy tables from /proc, and runs `iptables-restore --version`. (Listing by iptables-legacy would create
 * its tables.)
 */
#include <limits.h>

#include "policy/diag.h"
#include "policy/redirect.h"
#include "rulemgr/listeners.h"

struct backends {
	int nft;                                    /* 0, or the negative errno of the question */
	bool iptables[LISTENERS_FAMILIES];          /* save and restore are both installed */
	char variant[LISTENERS_FAMILIES][32];       /* "legacy", "nf_tables"; "": not told */
	char path[LISTENERS_FAMILIES][PATH_MAX];    /* of the restore program */
	char legacy_tables[LISTENERS_FAMILIES][64]; /* that exist here, blanks between them */
};

void backends_read(struct backends *b);

/* Chooses for the option `backend`, and says why in `why` (a sentence without a full stop). nf_tables
 * wherever it answers, also beside iptables rules: the kernel runs both in the order of their priorities.
 * REDIRECT_BACKEND_NFT or REDIRECT_BACKEND_IPTABLES; -EOPNOTSUPP where the host lacks what is wanted. */
int backend_choose(enum redirect_backend wanted, const struct backends *b, char *why, size_t cap);
