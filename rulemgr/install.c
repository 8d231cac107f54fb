/* SPDX-License-Identifier: MIT */
#include "rulemgr/command.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/handover.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/linger.h"
#include "rulemgr/lock.h"
#include "rulemgr/preflight.h"
#include "rulemgr/resolve.h"
#include "rulemgr/routes.h"
#include "rulemgr/sync.h"
#include "rulemgr/trial_sync.h"
#include "rulemgr/trial_tell.h"
#include "rulemgr/want_tell.h"

/* What an installation has done. */
struct done {
	struct trial_result trial;
	struct routes_change routes;
};

static void install_list(const struct model *m, struct strbuf *out)
{
	char hook[64];

	for (size_t i = 0; i < m->n_sets; i++)
		strbuf_printf(out, "  set %s, %zu element%s: %s\n", m->sets[i].name,
			      m->sets[i].n_elements, plural(m->sets[i].n_elements),
			      m->sets[i].comment);
	for (size_t i = 0; i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		strbuf_printf(out, "  chain %s, %s: %s\n", c->name,
			      chain_format_hook(c, hook, sizeof(hook)), c->comment);
		for (size_t k = 0; k < c->n_rules; k++)
			strbuf_printf(out, "    %zu. %s: %s\n", k + 1, c->rules[k].comment,
				      rule_verdict_name(&c->rules[k]));
	}
}

static void install_tell(const struct args *a, const struct want *w, const struct model *m,
			 const struct done *done, struct strbuf *out)
{
	bool present = done->trial.have.present;

	strbuf_printf(out, "%s table %s: new TCP flows go to port %u, except from uid %u",
		      a->dry_run ? (present ? "would replace" : "would install")
				 : (present ? "replaced" : "installed"),
		      MODEL_TABLE_TEXT, w->port, w->uid);
	if (w->mark.mask != 0)
		strbuf_printf(out, " or with mark 0x%x/0x%x", w->mark.value, w->mark.mask);
	for (size_t i = 0; i < w->n_gateways; i++)
		strbuf_printf(out, "%s%s", i == 0 ? "; forwarded flows from " : ", ",
			      w->gateways[i]);
	strbuf_putc(out, '\n');
	want_tell(w, a->conf, out);
	routes_change_tell_done(&done->routes, a->dry_run, out);
	if (!a->dry_run)
		return;
	install_list(m, out);
	strbuf_puts(out, "the kernel accepts all of it; nothing was changed\n");
}

static void install_put_json(const struct args *a, const struct want *w, const struct done *done,
			     struct json *j)
{
	char mark[32];

	json_string(j, "table", MODEL_TABLE_TEXT);
	json_bool(j, "dry_run", a->dry_run);
	json_bool(j, "replaced", done->trial.have.present);
	json_uint(j, "port", w->port);
	json_uint(j, "uid", w->uid);
	snprintf(mark, sizeof(mark), "0x%x/0x%x", w->mark.value, w->mark.mask);
	json_string(j, "mark", mark);
	json_array_begin(j, "gateway");
	for (size_t i = 0; i < w->n_gateways; i++)
		json_string(j, NULL, w->gateways[i]);
	json_array_end(j);
	want_put_json(w, a->conf, j);
	routes_change_put_json(&done->routes, j, "routes");
}

/* Flows that the table to be replaced has redirected live on; flush must be able to count them. */
static int install_add_earlier_ports(struct kernel *k, struct want *w, struct diag *d)
{
	struct have have;
	int r = sync_look(k, &have, d);

	for (size_t i = 0; r == 0 && i < have.ports.n; i++) {
		if (have.ports.list[i] != w->port)
			w->earlier_ports[w->n_earlier_ports++] = have.ports.list[i];
	}
	return r;
}

static int install_table(struct kernel *k, const struct args *a, const struct want *w,
			 struct model *m, struct trial_result *trial, struct diag *d)
{
	if (a->confirm_ms > 0)
		return trial_install(k, w, a->confirm_ms, a->dry_run, trial, d);
	return sync_table(k, m, a->dry_run, &trial->have, d);
}

/* The way to this host comes first, so that no marked packet is without it. */
static int install_locked(struct kernel *k, const struct args *a, const struct want *w,
			  struct model *m, struct done *done, struct report *r)
{
	const struct mark *mark = want_routes_mark(w);
	struct trial_result *trial = &done->trial;
	int err = 0;

	if (a->confirm_ms > 0) /* may be refused for the mark that the present routes are for */
		err = trial_install(k, w, a->confirm_ms, true, trial, &r->error);
	if (err < 0)
		return err;
	err = routes_before(mark, w->family, a->dry_run, &done->routes, &r->error);
	if (err == 0)
		err = routes_after(install_table(k, a, w, m, trial, &r->error), mark, a->dry_run,
				   &done->routes, &r->error);
	return err;
}

/* Of two that install in different modes, the routes of one must not meet the table of the other, and of two backends
 * only one is to be there. No signal parts them either. An exit code. */
static int install_with_routes(struct kernel *k, const struct args *a, const struct want *w,
			       struct model *m, struct done *done, struct report *r)
{
	int code, lock = lock_take(&r->error);

	if (lock == -EBUSY)
		return report_exit_code(lock);
	code = iptables_refuse_beside(true, r);
	if (code == 0)
		code = linger_begin(&r->error);
	if (code == 0)
		code = report_exit_code(install_locked(k, a, w, m, done, r));
	lock_drop(lock);
	return code;
}

static int install_with(struct kernel *k, const struct args *a, struct report *r)
{
	struct model m = {0};
	struct done done = {.routes = {.n = 0}};
	struct want w;
	int err, code = iptables_refuse_beside(false, r);

	if (code == 0)
		code = resolve_want(a, true, &w, r);
	if (code == 0)
		code = preflight_run(k, a, &w, r);
	if (code != 0)
		return code;
	err = install_add_earlier_ports(k, &w, &r->error);
	if (err < 0)
		return report_exit_code(err);
	err = want_build(&w, &m);
	if (err < 0)
		diag_set(&r->error, -err, NULL, 0, "cannot build the table: %s", strerror(-err));
	else
		code = handover_check(k, a, &w, &m, r);
	if (err == 0 && code == 0)
		code = install_with_routes(k, a, &w, &m, &done, r);
	if (err == 0 && code == 0) {
		install_tell(a, &w, &m, &done, &r->text);
		install_put_json(a, &w, &done, &r->json);
		trial_tell_begun(a, done.trial.previous, "the table", watcher_end_table, r);
	}
	routes_change_free(&done.routes);
	model_free(&m);
	return code != 0 ? code : report_exit_code(err);
}

static int install_by_iptables(const struct args *a, struct report *r)
{
	struct want w;
	int code;

	code = resolve_want(a, true, &w, r);
	if (code == 0)
		code = preflight_run(NULL, a, &w, r);
	return code == 0 ? iptables_install_run(a, &w, r) : code;
}

int install_run(const struct args *a, struct report *r)
{
	struct kernel k;
	int code, err;

	if (a->json) /* whoever reads it gets an object in any case */
		linger_hold_signals();
	err = kernel_open(&k, &r->error);
	if (iptables_is_chosen(a->conf->redirect.backend, err)) {
		kernel_close(&k);
		return install_by_iptables(a, r);
	}
	if (err < 0)
		return report_exit_code(err);
	k.control = a->conf->control;
	code = install_with(&k, a, r);
	kernel_close(&k);
	return code;
}
