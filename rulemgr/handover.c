/* SPDX-License-Identifier: MIT */
#include "rulemgr/handover.h"

#include <errno.h>

#include "rulemgr/flows.h"
#include "rulemgr/sync.h"
#include "rulemgr/trial.h"

/* Whether the table that is there has flows that need what the new one does not do; then with *have. 1: yes; 0; or a
 * negative errno with `d`. */
static int is_break(struct kernel *k, const struct want *w, const struct model *m,
		    struct have *have, struct diag *d)
{
	struct model old;
	int r = have_read(k, have, d);

	/* A table may be large, and is not read whole for nothing. */
	if (r == 0 && (!have->ours || (!have->transparent && want_routes_mark(w) == NULL)))
		return 0;
	if (r == 0 || r == -ERESTART)
		r = sync_read(k, have, &old, d);
	if (r < 0)
		return r;
	r = have->ours && !trial_is_possible(m, &old);
	model_free(&old);
	return r;
}

void handover_say(const char *what, size_t n, struct diag *d)
{
	diag_set(d, EBUSY, NULL, 0,
		 "another %s cuts %zu live redirected flow%s of the rules that are there: flush "
		 "first, which waits for %s",
		 what, n, plural(n), n == 1 ? "it" : "them");
}

int handover_check(struct kernel *k, const struct args *a, const struct want *w,
		   const struct model *m, struct report *r)
{
	struct flows flows;
	struct have have;
	struct diag why;
	bool other_mode;
	size_t n;
	int err = is_break(k, w, m, &have, &r->error);

	if (err <= 0)
		return report_exit_code(err);
	if (flows_read(&have, &flows, &why) < 0) {
		report_warn(r, "%s; whether live redirected flows are cut is not known", why.text);
		return 0;
	}
	n = flows_total(&flows);
	if (n == 0)
		return 0;
	other_mode = have.transparent != (want_routes_mark(w) != NULL);
	handover_say(other_mode ? "mode" : "tproxy_mark", n, &why);
	if (a->force) {
		report_warn(r, "%s", why.text);
		return 0;
	}
	diag_set(&r->error, EBUSY, NULL, 0, "%.400s (--force installs all the same)", why.text);
	return EXIT_FAILURE;
}
