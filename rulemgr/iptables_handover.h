/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * handover.h for rules of iptables: TPROXY flows live by the rules of their family that know their mark. REDIRECT
 * flows go on in any case, see IPTABLES_KEEP. One thread, blocking.
 */
#include "rulemgr/iptables_sync.h"

/* How many live flows are cut where `targets`, one of each family, take the place of what is there; *what: by what
 * that is other. Or a negative errno with `d` filled: they cannot be counted. */
int iptables_handover_cuts(const struct iptables_have *have, const struct iptables_text *targets,
			   const char **what, struct diag *d);

/* Refuses that (-EEXIST with `d`), with `force` only says it, in the notes. */
int iptables_handover_check(const struct iptables_have *have, const struct iptables_text *targets,
			    bool force, struct iptables_result *result, struct diag *d);
