/* SPDX-License-Identifier: MIT */
#include "rulemgr/command.h"

#include <errno.h>

#include "rulemgr/conntrack.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/routes.h"
#include "rulemgr/sync.h"

struct flush {
	struct have have;
	bool counted;
	size_t flows; /* redirected and alive just before */
};

static void flush_tell(const struct flush *f, bool dry_run, struct strbuf *out)
{
	/* The kernel goes on translating them while it has conntrack and any other NAT chain. */
	static const char doubt[] = " (or kept alive by other NAT rules of this host)";

	if (!f->have.present) {
		strbuf_printf(out, "nothing to remove: there is no table %s\n", MODEL_TABLE_TEXT);
		return;
	}
	strbuf_printf(out, "%s table %s; ", dry_run ? "would remove" : "removed", MODEL_TABLE_TEXT);
	if (!f->counted)
		strbuf_puts(out, "proxied flows not counted\n");
	else
		strbuf_printf(out, "%zu proxied flow%s %scut%s\n", f->flows,
			      f->flows == 1 ? "" : "s", dry_run ? "would be " : "",
			      f->flows > 0 ? doubt : "");
	if (dry_run)
		strbuf_puts(out, "the kernel accepts it; nothing was changed\n");
}

static void flush_put_json(const struct flush *f, bool dry_run, struct json *j)
{
	json_string(j, "table", MODEL_TABLE_TEXT);
	json_bool(j, "dry_run", dry_run);
	json_bool(j, "installed", f->have.present);
	if (!f->have.present)
		json_uint(j, "flows_cut", 0);
	else if (f->counted)
		json_uint(j, "flows_cut", f->flows);
}

/* Counts first: without its rules, the kernel no longer tracks the flows. */
static int flush_with(struct kernel *k, const struct args *a, struct report *r)
{
	struct flush f = {0};
	struct routes_change routes = {0};
	struct diag uncounted;
	int err = have_read(k, &f.have, &r->error);

	if (err == 0 && f.have.ours) {
		f.counted = conntrack_count_redirected(&f.have, &f.flows, &uncounted) == 0;
		if (!f.counted)
			report_warn(r, "%s", uncounted.text);
	}
	if (err == 0 || err == -ERESTART)
		err = sync_table(k, NULL, a->dry_run, &f.have, &r->error);
	if (err == 0)
		err = routes_remove(a->dry_run, &routes, &r->error);
	routes_change_free(&routes);
	if (err == 0) {
		flush_tell(&f, a->dry_run, &r->text);
		flush_put_json(&f, a->dry_run, &r->json);
	}
	return report_exit_code(err);
}

/* Whether there is nothing left for nf_tables to do; what it cannot tell, the removal will. */
static bool flush_is_done(struct kernel *k, bool removed)
{
	struct have have;
	struct diag d;

	return removed && (k->sock == NULL || (have_read(k, &have, &d) == 0 && !have.present));
}

int flush_run(const struct args *a, struct report *r)
{
	struct kernel k;
	bool removed;
	int code, err = kernel_open(&k, &r->error);

	if (err < 0 && err != -EOPNOTSUPP)
		return report_exit_code(err);
	code = iptables_flush_run(a->dry_run, err == 0, &removed, r);
	if (code != 0 || flush_is_done(&k, removed) || err < 0) {
		kernel_close(&k);
		return code != 0 || removed ? code : report_exit_code(err);
	}
	code = flush_with(&k, a, r);
	kernel_close(&k);
	return code;
}
