/* SPDX-License-Identifier: MIT */
/*
 * flush: the table, or what iptables has, goes when its last redirected flow has ended. Until then it is drained; with --now it goes at once
 * and takes them with it.
 */
#include "rulemgr/command.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/conntrack.h"
#include "rulemgr/drain.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/iptables_sync.h"
#include "rulemgr/linger.h"
#include "rulemgr/lock.h"
#include "rulemgr/routes.h"

struct flush {
	const char *what; /* "table inet transocks" */
	struct have have;
	bool counted;
	struct flows flows; /* redirected and alive: before with --now, else at the end */
	bool removed;
	bool gone;        /* somebody else has removed it meanwhile, or its owner has ended */
	size_t n_entries; /* of conntrack, removed */
	bool entries_removed;
	struct routes_change routes;
};

static void flush_tell_cut(const struct flush *f, const struct args *a, struct strbuf *out)
{
	size_t n = flows_total(&f->flows);

	if (!f->counted)
		strbuf_puts(out, "; redirected flows not counted");
	else if (a->now)
		strbuf_printf(out, "; %zu redirected flow%s %scut", n, plural(n),
			      a->dry_run ? "would be " : "");
	else if (a->dry_run && n > 0)
		strbuf_printf(out, " when %zu redirected flow%s %s ended", n, plural(n),
			      n == 1 ? "has" : "have");
	else
		strbuf_puts(out, "; 0 redirected flows cut");
	if (f->entries_removed && f->n_entries > 0)
		strbuf_printf(out, "; %zu conntrack entr%s removed", f->n_entries,
			      f->n_entries == 1 ? "y" : "ies");
	strbuf_putc(out, '\n');
}

static void flush_tell(const struct flush *f, const struct args *a, struct strbuf *out)
{
	if (!f->have.present) {
		strbuf_printf(out, "nothing to remove: there is no %s\n", f->what);
	} else if (f->gone) {
		strbuf_printf(out, "%s went meanwhile, by somebody else or with its owner\n",
			      f->what);
	} else if (f->removed) {
		strbuf_printf(out, "%s %s", a->dry_run ? "would remove" : "removed", f->what);
		flush_tell_cut(f, a, out);
	}
	if (f->routes.n > 0)
		routes_change_format(&f->routes, out);
	if (a->dry_run && f->have.present)
		strbuf_puts(out, "the kernel accepts it; nothing was changed\n");
}

/* The flows that the rules wait for. */
static void flush_name_left(const struct flush *f, struct strbuf *out)
{
	char client[ADDR_TEXT_MAX], dest[ADDR_TEXT_MAX];

	for (int family = 0; family < 2; family++) {
		size_t n = f->flows.n[family];

		for (size_t i = 0; i < n && i < FLOWS_NAMED_MAX; i++) {
			const struct flow *flow = &f->flows.named[family][i];

			strbuf_printf(out, "  %s -> %s\n",
				      addr_format(&flow->client, client, sizeof(client)),
				      addr_format(&flow->dest, dest, sizeof(dest)));
		}
		if (n > FLOWS_NAMED_MAX)
			strbuf_printf(out, "  and %zu more by %s\n", n - FLOWS_NAMED_MAX,
				      listeners_family[family]);
	}
}

static void flush_put_left(const struct flush *f, struct json *j)
{
	char text[ADDR_TEXT_MAX];

	json_uint(j, "flows_left", flows_total(&f->flows));
	json_array_begin(j, "left");
	for (int family = 0; family < 2; family++) {
		for (size_t i = 0; i < f->flows.n[family] && i < FLOWS_NAMED_MAX; i++) {
			const struct flow *flow = &f->flows.named[family][i];

			json_object_begin(j, NULL);
			json_string(j, "client", addr_format(&flow->client, text, sizeof(text)));
			json_string(j, "dest", addr_format(&flow->dest, text, sizeof(text)));
			json_object_end(j);
		}
	}
	json_array_end(j);
}

static void flush_put_json(const struct flush *f, bool iptables, const struct args *a,
			   struct json *j)
{
	if (iptables)
		json_string(j, "backend", "iptables");
	else
		json_string(j, "table", MODEL_TABLE_TEXT);
	json_bool(j, "dry_run", a->dry_run);
	json_bool(j, "installed", f->have.present);
	json_bool(j, "removed", f->removed && !a->dry_run);
	if (!f->have.present)
		json_uint(j, "flows_cut", 0);
	else if (f->counted)
		json_uint(j, "flows_cut", a->now ? flows_total(&f->flows) : 0);
	if (f->have.present && f->counted && !a->now)
		flush_put_left(f, j);
	if (f->entries_removed)
		json_uint(j, "entries_removed", f->n_entries);
}

/* `k` NULL, here and below: by iptables. */
static int flush_read(struct kernel *k, struct have *have, struct diag *d)
{
	return k != NULL ? sync_look(k, have, d) : iptables_read_have(have, d);
}

static int flush_remove(struct kernel *k, bool dry_run, struct have *have, struct diag *d)
{
	struct iptables_result result;

	return k != NULL ? sync_table(k, NULL, dry_run, have, d)
			 : iptables_flush(dry_run, false, &result, d);
}

static int flush_start(struct kernel *k, struct have *have, struct diag *d)
{
	int err;

	if (k != NULL)
		return drain_start(k, have, d);
	err = iptables_pause(d);
	*have = (struct have){.present = false};
	if (err == -ENOENT)
		return 0;
	return err == 0 ? iptables_read_have(have, d) : err;
}

static int flush_finish(struct kernel *k, bool *removed, struct diag *d)
{
	struct iptables_result result;
	int err;

	if (k != NULL)
		return drain_finish(k, removed, d);
	err = iptables_flush(false, true, &result, d);
	if (err == 0)
		*removed = result.present;
	return err;
}

/* Counts first: without its rules, the kernel no longer tracks the flows. Returns 0 or a negative errno. */
static int flush_now(struct kernel *k, const struct args *a, struct flush *f, struct report *r)
{
	struct diag found;
	int err = flush_read(k, &f->have, &r->error);

	if (err == 0 && f->have.ours) {
		f->counted = flows_read(&f->have, &f->flows, &found) == 0;
		if (!f->counted)
			report_warn(r, "%s", found.text);
	}
	if (err == 0)
		err = flush_remove(k, a->dry_run, &f->have, &r->error);
	if (err < 0)
		return err;
	f->removed = f->have.present;
	if (!f->removed || a->dry_run || !f->counted)
		return 0;
	f->entries_removed = true;
	if (conntrack_remove_redirected(&f->have, &f->n_entries, &found) < 0)
		report_warn(r, "%s", found.text);
	return 0;
}

static int flush_count(struct kernel *k, struct flush *f, struct report *r)
{
	struct diag uncounted;
	int err = k != NULL ? 0 : flush_read(k, &f->have, &r->error);

	if (err == 0)
		err = flush_remove(k, true, &f->have, &r->error);
	if (err < 0 || !f->have.present)
		return err;
	f->removed = true;
	f->counted = flows_read(&f->have, &f->flows, &uncounted) == 0;
	if (!f->counted)
		report_warn(r, "%s", uncounted.text);
	return 0;
}

/* Returns an exit code. */
static int flush_leave(const struct flush *f, const struct lingered *l, struct report *r)
{
	static const char then[] =
		"new flows go direct already, and the rules stay for these; run flush again to go "
		"on waiting, flush --now to cut them, or install to take new flows again";
	size_t n = flows_total(&f->flows);

	flush_name_left(f, &r->text);
	if (l->end == LINGER_SIGNAL) {
		diag_set(&r->error, EINTR, NULL, 0, "stopped waiting for %zu redirected flow%s: %s",
			 n, plural(n), then);
		return EXIT_SIGNAL + l->signal;
	}
	diag_set(&r->error, EBUSY, NULL, 0, "%zu redirected flow%s left: %s", n,
		 n == 1 ? " is" : "s are", then);
	return EXIT_BUSY;
}

/* Returns an exit code. */
static int flush_drain(struct kernel *k, const struct args *a, struct flush *f, struct report *r)
{
	struct diag why;
	struct lingered l;
	int err;

	linger_hold_signals(); /* from here on the table is not as it was */
	err = flush_start(k, &f->have, &r->error);
	if (err < 0 || !f->have.present)
		return report_exit_code(err);
	err = linger(k, &f->have, a->drain_ms, !a->json, &l, &why);
	if (err == -ECANCELED) {
		r->error = why;
		return EXIT_FAILURE;
	}
	if (err < 0) {
		diag_set(&r->error, -err, NULL, 0,
			 "%.300s; new flows go direct already, and the rules stay for those that "
			 "may be left: flush --now removes it all the same",
			 why.text);
		return report_exit_code(err);
	}
	if (l.end == LINGER_GONE) {
		f->gone = true;
		return 0;
	}
	f->counted = true;
	f->flows = l.flows;
	if (l.end != LINGER_DONE)
		return flush_leave(f, &l, r);
	err = flush_finish(k, &f->removed, &r->error);
	f->gone = err == 0 && !f->removed;
	return report_exit_code(err);
}

/* Whether there are rules by the other backend; what cannot be told is not. */
static bool flush_has_other(const struct kernel *k)
{
	struct have have = {.present = false};
	struct kernel other;
	struct diag d;

	if (k != NULL)
		return iptables_read_have(&have, &d) == 0 && have.present;
	if (kernel_open(&other, &d) < 0)
		return false;
	if (have_read(&other, &have, &d) < 0)
		have.present = false;
	kernel_close(&other);
	return have.present;
}

/* Marked packets may need the routes for as long as the table is there, and so do those of somebody who has
 * installed it again since. */
static int flush_routes(struct kernel *k, const struct args *a, struct flush *f, struct report *r)
{
	int lock = lock_take(&r->error), err = lock;
	struct have now;

	if (lock == -EBUSY)
		return report_exit_code(lock);
	err = flush_read(k, &now, &r->error);
	if (err == 0 && (a->dry_run || (!now.present && !flush_has_other(k))))
		err = routes_remove(a->dry_run, &f->routes, &r->error);
	lock_drop(lock);
	return report_exit_code(err);
}

static int flush_with(struct kernel *k, const struct args *a, bool tell_json, struct report *r)
{
	struct flush f = {.what = k != NULL ? "table " MODEL_TABLE_TEXT : "rules of iptables"};
	int code;

	if (a->now)
		code = report_exit_code(flush_now(k, a, &f, r));
	else if (a->dry_run)
		code = report_exit_code(flush_count(k, &f, r));
	else
		code = flush_drain(k, a, &f, r);
	if (code == 0)
		code = flush_routes(k, a, &f, r);
	if (code == 0)
		flush_tell(&f, a, &r->text);
	if (tell_json)
		flush_put_json(&f, k == NULL, a, &r->json);
	routes_change_free(&f.routes);
	return code;
}

/* Whether iptables has something. `beside_nft`: nf_tables is there, so that iptables failing is only a warning. An
 * exit code. */
static int flush_find_iptables(const struct args *a, bool beside_nft, bool *found, struct report *r)
{
	struct have have;
	int err = iptables_read_have(&have, &r->error);

	*found = err == 0 && have.present;
	if (err < 0 && beside_nft) {
		report_warn(r, "whether there are rules of iptables is not known: %s",
			    r->error.text);
		err = 0;
	} else if (err == 0 && !*found) {
		iptables_sweep_run(a, r);
	}
	return report_exit_code(err);
}

/* Whether there is nothing for nf_tables to do; what it cannot tell, the removal will. */
static bool flush_is_all(struct kernel *k)
{
	struct have have;
	struct diag d;

	return k->sock == NULL || (have_read(k, &have, &d) == 0 && !have.present);
}

int flush_run(const struct args *a, struct report *r)
{
	struct kernel k;
	bool iptables, all;
	int code, err = kernel_open(&k, &r->error);

	if (err < 0 && err != -EOPNOTSUPP)
		return report_exit_code(err);
	code = flush_find_iptables(a, err == 0, &iptables, r);
	all = iptables && flush_is_all(&k);
	if (code == 0 && iptables)
		code = flush_with(NULL, a, all, r); /* a member of the object stands there once */
	if (code == 0 && !all)
		code = report_exit_code(err);
	if (code == 0 && !all) {
		k.control = a->conf != NULL ? a->conf->control : NULL;
		code = flush_with(&k, a, true, r);
	}
	kernel_close(&k);
	return code;
}
