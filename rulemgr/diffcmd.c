/* SPDX-License-Identifier: MIT */
#include "rulemgr/command.h"

#include "rulemgr/intent.h"
#include "rulemgr/iptables_cmd.h"

static int diff_with(struct kernel *k, const struct args *a, struct intent *i, struct report *r)
{
	int code = intent_compare(k, a, i, r);

	if (code != 0)
		return code;
	json_bool(&r->json, "installed", i->have.present);
	if (i->have.present)
		intent_tell(i, SIZE_MAX, r);
	return intent_judge(i, r);
}

int diff_run(const struct args *a, struct report *r)
{
	struct intent i = {.want = {.redirect = NULL}};
	struct kernel k;
	int code, err = kernel_open(&k, &r->error);

	if (iptables_is_used(&k, err, a->conf->redirect.backend, r)) {
		kernel_close(&k);
		return iptables_diff_run(a, r);
	}
	if (err < 0)
		return report_exit_code(err);
	code = diff_with(&k, a, &i, r);
	intent_free(&i);
	kernel_close(&k);
	return code;
}
