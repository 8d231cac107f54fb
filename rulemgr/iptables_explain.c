/* SPDX-License-Identifier: MIT */
/*
 * The sub-command `test` where iptables did the work.
 */
#include "rulemgr/iptables_cmd.h"

#include <errno.h>

#include "rulemgr/explain.h"
#include "rulemgr/iptables_ask.h"
#include "rulemgr/linger.h"

int iptables_need_installed(struct report *r)
{
	struct have have;
	int err = iptables_read_have(&have, &r->error);

	if (err < 0)
		return report_exit_code(err);
	if (have.present)
		return 0;
	diag_set(&r->error, ENOENT, NULL, 0,
		 "not installed: there are no rules of iptables of ours");
	return EXIT_NOT_INSTALLED;
}

int iptables_explain_run(struct probe *p, struct report *r)
{
	int err, code = iptables_need_installed(r);
	struct iptables_answer a;

	if (code == 0)
		code = linger_begin(&r->error); /* nothing else takes the cage away */
	if (code != 0)
		return code;
	json_string(&r->json, "backend", "iptables");
	err = iptables_ask(p, &a, &r->error);
	if (err == -ENOENT)
		return EXIT_NOT_INSTALLED;
	if (err < 0)
		return report_exit_code(err);
	explain_tell_verdict(p, a.verdict, &a.arrives, a.why, &r->text);
	explain_put_verdict(p, a.verdict, a.verdict == VERDICT_TAKEN ? &a.arrives : NULL, a.why,
			    a.rule, &r->json);
	return 0;
}
