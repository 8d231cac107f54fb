/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_handover.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/flows.h"
#include "rulemgr/handover.h"

/* By what the rules of a family would be other, so that its flows were cut; NULL: they are not. */
static const char *find_break(const struct iptables_text *have, const struct iptables_text *target)
{
	const char *a = iptables_text_mark(have), *b = iptables_text_mark(target);

	if (a == NULL || (b != NULL && strcmp(a, b) == 0))
		return NULL;
	if (target->n == 0)
		return "family";
	return b == NULL ? "mode" : "tproxy_mark";
}

int iptables_handover_cuts(const struct iptables_have *have, const struct iptables_text *targets,
			   const char **what, struct diag *d)
{
	struct have taken = {.present = true, .ours = true, .transparent = true}; /* no ports */
	struct flows flows = {0};
	bool asked = false;
	int r = 0;
	size_t n = 0;

	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++) {
		const char *found = find_break(&have->text[f], &targets[f]);

		if (found == NULL)
			continue;
		if (!asked)
			r = flows_read(&taken, &flows, d);
		asked = true;
		n += flows.n[f];
		if (flows.n[f] > 0)
			*what = found;
	}
	return r < 0 ? r : (int)n;
}

int iptables_handover_check(const struct iptables_have *have, const struct iptables_text *targets,
			    bool force, struct iptables_result *result, struct diag *d)
{
	const char *what = "";
	struct diag why;
	int n = iptables_handover_cuts(have, targets, &what, &why);

	if (n < 0)
		iptables_note(result, "%s; whether live redirected flows are cut is not known",
			      why.text);
	if (n <= 0)
		return 0;
	handover_say(what, (size_t)n, &why);
	if (!force)
		return diag_set(d, EEXIST, NULL, 0, "%.400s (--force installs all the same)",
				why.text);
	iptables_note(result, "%s", why.text);
	return 0;
}
