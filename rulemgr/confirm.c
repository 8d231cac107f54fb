/* SPDX-License-Identifier: MIT */
/*
 * confirm: a table, or rules of iptables, on trial (install --confirm) is there for good.
 */
#include "rulemgr/command.h"

#include <errno.h>

#include "rulemgr/iptables_cmd.h"
#include "rulemgr/iptables_trial_sync.h"
#include "rulemgr/trial_sync.h"

static int confirm_with(struct kernel *k, const struct args *a, struct report *r)
{
	int err = trial_confirm(k, a->dry_run, &r->error);
	struct diag untidy;
	size_t flows;

	json_string(&r->json, "table", MODEL_TABLE_TEXT);
	json_bool(&r->json, "dry_run", a->dry_run);
	json_bool(&r->json, "confirmed", err == 0 && !a->dry_run);
	if (err == -ETIME)
		trial_end(k, false, &flows, &untidy); /* its watcher may have been killed */
	if (err == -ENOENT || err == -ETIME)
		return EXIT_NOT_INSTALLED;
	if (err == 0)
		strbuf_printf(&r->text, "%s table %s\n", a->dry_run ? "would confirm" : "confirmed",
			      MODEL_TABLE_TEXT);
	return report_exit_code(err);
}

/* The same by iptables. */
static int confirm_iptables(const struct args *a, struct report *r)
{
	int err = iptables_trial_confirm(a->dry_run, &r->error);
	struct diag untidy;
	size_t flows;

	json_string(&r->json, "backend", "iptables");
	json_bool(&r->json, "dry_run", a->dry_run);
	json_bool(&r->json, "confirmed", err == 0 && !a->dry_run);
	if (err == -ETIME)
		iptables_trial_end(false, &flows, &untidy);
	if (err == -ENOENT || err == -ETIME)
		return EXIT_NOT_INSTALLED;
	if (err == 0)
		strbuf_printf(&r->text, "%s rules of iptables\n",
			      a->dry_run ? "would confirm" : "confirmed");
	return report_exit_code(err);
}

int confirm_run(const struct args *a, struct report *r)
{
	struct kernel k;
	int code, err = kernel_open(&k, &r->error);

	if (iptables_is_used(&k, err, REDIRECT_BACKEND_AUTO, r)) {
		kernel_close(&k);
		return confirm_iptables(a, r);
	}
	if (err < 0)
		return report_exit_code(err);
	k.control = a->conf != NULL ? a->conf->control : NULL;
	code = confirm_with(&k, a, r);
	kernel_close(&k);
	return code;
}
