/* SPDX-License-Identifier: MIT */
#include "rulemgr/trial_tell.h"

#include "policy/duration.h"

void trial_tell_begun(const struct args *a, bool previous, const char *what, watcher_end_fn *end,
		      struct report *r)
{
	struct diag d;

	json_int(&r->json, "confirm_ms", a->confirm_ms);
	if (a->confirm_ms == 0 || a->dry_run)
		return;
	strbuf_puts(&r->text, "on trial for ");
	duration_put(&r->text, a->confirm_ms);
	strbuf_puts(&r->text, ": unless `transocks-rules confirm` is run by then, ");
	if (previous)
		strbuf_printf(&r->text, "%s before is back by itself\n", what);
	else
		strbuf_puts(&r->text, "new flows go direct again by themselves\n");
	if (watcher_start(a->confirm_ms, end, a->conf->control, &d) < 0)
		report_warn(r,
			    "%s: the trial ends in time all the same, and what is left of it then "
			    "acts no more",
			    d.text);
}

void trial_tell_left(int64_t left_ms, bool previous, struct report *r)
{
	json_int(&r->json, "trial_left_ms", left_ms);
	strbuf_puts(&r->text, "on trial for another ");
	duration_put(&r->text, (left_ms + 999) / 1000 * 1000);
	strbuf_printf(&r->text, ": `transocks-rules confirm` keeps it, or %s by themselves\n",
		      previous ? "the rules before are back" : "new flows go direct again");
}
