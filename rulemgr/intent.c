/* SPDX-License-Identifier: MIT */
#include "rulemgr/intent.h"

#include <errno.h>

#include "rulemgr/resolve.h"
#include "rulemgr/sync.h"

static int out_of_memory(struct report *r)
{
	diag_set(&r->error, ENOMEM, NULL, 0, "out of memory");
	return EXIT_FAILURE;
}

int intent_build(const struct args *a, struct want *w, struct model *m, struct report *r)
{
	int code = resolve_want(a, w, r);

	if (code != 0)
		return code;
	return want_build(w, m) < 0 ? out_of_memory(r) : 0;
}

int intent_compare(struct kernel *k, const struct args *a, struct intent *i, struct report *r)
{
	int err, code = intent_build(a, &i->want, &i->wanted, r);

	if (code != 0)
		return code;
	err = sync_read(k, &i->have, &i->found, &r->error);
	if (err == 0)
		err = sync_check_owner(&i->have, &r->error);
	if (err < 0)
		return report_exit_code(err);
	if (i->have.present && diff_models(&i->wanted, &i->found, &i->diff) < 0)
		return out_of_memory(r);
	return 0;
}

void intent_free(struct intent *i)
{
	model_free(&i->wanted);
	model_free(&i->found);
	diff_free(&i->diff);
}

int intent_judge(const struct intent *i, struct report *r)
{
	if (!i->have.present) {
		diag_set(&r->error, ENOENT, NULL, 0, "table %s is not installed", MODEL_TABLE_TEXT);
		return EXIT_NOT_INSTALLED;
	}
	if (i->diff.n > 0) {
		diag_set(&r->error, ESTALE, NULL, 0,
			 "table %s differs in %zu place%s from what is configured",
			 MODEL_TABLE_TEXT, i->diff.n, i->diff.n == 1 ? "" : "s");
		return EXIT_DRIFT;
	}
	return 0;
}
