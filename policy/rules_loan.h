/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The words of transocksd and transocks-rules about the netlink socket that owns rules, on the daemon's control
 * socket. A request is one of these lines; its answer is RULES_DONE, or an object with one of these errors.
 */
#define RULES_KEEP "rules keep" /* keep the socket that comes along (SCM_RIGHTS) */
#define RULES_LEND "rules lend" /* the answer brings it, until the connection closes */
#define RULES_DROP "rules drop" /* close it */
/* The first two are not for a daemon that is ending; who takes rules away borrows from that one, too. */
#define RULES_LEND_ANYWAY "rules lend anyway"

#define RULES_DONE "{}\n"

#define RULES_ERROR_DENIED "only root and the daemon's user may do that"
#define RULES_ERROR_NONE   "no rules are kept here"
#define RULES_ERROR_BUSY   "somebody else is changing the rules"
#define RULES_ERROR_ENDING "this daemon is ending"
#define RULES_ERROR_WRONG  "not a netlink socket to netfilter"

/* Where transocksd listens for them unless configured (option control). */
#define RULES_CONTROL_PATH "/run/transocks/transocksd.sock"
