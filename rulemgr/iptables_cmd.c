/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_cmd.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#include "rulemgr/backend.h"
#include "rulemgr/iptables_run.h"
#include "rulemgr/iptables_trial_sync.h"
#include "rulemgr/linger.h"
#include "rulemgr/lock.h"
#include "rulemgr/routes.h"
#include "rulemgr/trial_tell.h"
#include "rulemgr/want_tell.h"

bool iptables_is_chosen(enum redirect_backend wanted, int nft)
{
	return wanted == REDIRECT_BACKEND_IPTABLES ||
	       (wanted == REDIRECT_BACKEND_AUTO && nft == -EOPNOTSUPP);
}

/* What cannot be told is a warning, and no. */
static bool is_installed(struct report *r)
{
	struct have have;
	struct diag why;

	if (iptables_read_have(&have, &why) == 0)
		return have.present;
	report_warn(r, "whether there are rules of iptables is not known: %s", why.text);
	return false;
}

bool iptables_is_used(struct kernel *k, int nft, enum redirect_backend wanted, struct report *r)
{
	struct have have;
	struct diag ignored; /* whoever goes on by nf_tables will find the same */

	if (iptables_is_chosen(wanted, nft))
		return true;
	if (nft < 0 || wanted == REDIRECT_BACKEND_NFT)
		return false;
	return have_read(k, &have, &ignored) == 0 && !have.present && is_installed(r);
}

int iptables_refuse_beside(bool again, struct report *r)
{
	size_t n = r->n_warnings;
	bool installed = is_installed(r);

	if (again)
		r->n_warnings = n;
	if (!installed)
		return 0;
	diag_set(&r->error, EEXIST, NULL, 0,
		 "rules of transocks-rules by iptables are installed: run transocks-rules flush "
		 "before you change the backend");
	return EXIT_FAILURE;
}

/* Two backends at once would each count and judge every flow. */
static int refuse_beside_nft(struct diag *d)
{
	struct have have;
	struct kernel k;
	int r;

	if (kernel_open(&k, d) < 0)
		return 0;
	r = have_read(&k, &have, d);
	kernel_close(&k);
	if (r == 0 && have.present && have.ours)
		return diag_set(
			d, EEXIST, NULL, 0,
			"table %s is installed: run transocks-rules flush before you change "
			"the backend",
			MODEL_TABLE_TEXT);
	return 0;
}

static void tell_families(const struct iptables_result *result, struct strbuf *out)
{
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		if (result->family[f])
			strbuf_printf(out, "%s%s", f > 0 && result->family[0] ? " and " : "",
				      listeners_family[f]);
	}
}

static void tell_install(const struct args *a, const struct want *w,
			 const struct iptables_result *result, const struct routes_change *change,
			 const char *why, struct report *r)
{
	bool dry_run = a->dry_run;

	strbuf_printf(&r->text, "%s%s rules of iptables for ", dry_run ? "would " : "",
		      dry_run ? (result->present ? "replace" : "install")
			      : (result->present ? "replaced" : "installed"));
	tell_families(result, &r->text);
	strbuf_printf(&r->text, ": new TCP flows go to port %u, except from uid %u\nbackend: %s\n",
		      w->port, w->uid, why);
	want_tell(w, a->conf, &r->text);
	routes_change_tell_done(change, dry_run, &r->text);
	for (size_t i = 0; i < result->n_notes; i++)
		report_warn(r, "%s", result->notes[i].text);
	json_string(&r->json, "backend", "iptables");
	json_string(&r->json, "backend_why", why);
	json_bool(&r->json, "dry_run", dry_run);
	json_bool(&r->json, "replaced", result->present);
	json_uint(&r->json, "port", w->port);
	json_uint(&r->json, "uid", w->uid);
	want_put_json(w, a->conf, &r->json);
	routes_change_put_json(change, &r->json, "routes");
	json_array_begin(&r->json, "families");
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		if (result->family[f])
			json_string(&r->json, NULL, listeners_family[f]);
	}
	json_array_end(&r->json);
}

/* What an installation has done. */
struct done {
	struct iptables_result result;
	struct routes_change routes;
	bool previous; /* a trial goes back to other rules */
};

static int install_rules(const struct args *a, const struct want *w, bool dry_run, int lock,
			 struct done *done, struct diag *d)
{
	struct iptables_request q = {
		.want = w, .dry_run = dry_run, .force = a->force, .lock = &lock};

	if (a->confirm_ms > 0)
		return iptables_trial_install(&q, a->confirm_ms, &done->result, &done->previous, d);
	return iptables_install(&q, &done->result, d);
}

/* The way to this host comes first, so that no marked packet is without it. */
static int install_with_routes(const struct args *a, const struct want *w, int lock,
			       struct done *done, struct diag *d)
{
	const struct mark *mark = want_routes_mark(w);
	int err = refuse_beside_nft(d);

	if (err == 0 && (a->confirm_ms > 0 ||
			 mark != NULL)) /* may be refused for what the present routes are for */
		err = install_rules(a, w, true, lock, done, d);
	if (err == 0)
		err = routes_before(mark, w->family, a->dry_run, &done->routes, d);
	if (err == 0)
		err = routes_after(install_rules(a, w, a->dry_run, lock, done, d), mark, a->dry_run,
				   &done->routes, d);
	return err;
}

int iptables_install_run(const struct args *a, const struct want *w, struct report *r)
{
	struct done done = {.routes = {.n = 0}};
	struct backends b;
	char why[512];
	int lock, code, err;

	backends_read(&b);
	err = backend_choose(REDIRECT_BACKEND_IPTABLES, &b, why, sizeof(why));
	if (err < 0)
		return report_exit_code(diag_set(&r->error, -err, NULL, 0, "%s", why));
	/* Nobody installs by nf_tables meanwhile, or in another mode. */
	lock = lock_take(&r->error);
	if (lock == -EBUSY)
		return report_exit_code(lock);
	code = linger_begin(&r->error);
	if (code == 0) {
		err = install_with_routes(a, w, lock, &done, &r->error);
		code = report_exit_code(err);
	}
	lock_drop(lock);
	if (code == 0) {
		tell_install(a, w, &done.result, &done.routes, why, r);
		trial_tell_begun(a, done.previous, "what was there", watcher_end_iptables, r);
	}
	routes_change_free(&done.routes);
	return code;
}

void iptables_as_have(const struct iptables_have *from, struct have *have)
{
	have->present = have->ours = from->present;
	have->ports.n = from->n_ports;
	memcpy(have->ports.list, from->ports, sizeof(have->ports.list));
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		for (size_t i = 0; i < from->text[f].n; i++)
			have->transparent |= from->text[f].lines[i].kind == IPTABLES_RULE &&
					     strstr(from->text[f].lines[i].rest, "-j TPROXY ");
	}
}

int iptables_read_have(struct have *have, struct diag *d)
{
	struct iptables_have found;
	char path[PATH_MAX];
	int r;

	*have = (struct have){.present = false};
	if (iptables_find("iptables-save", path, sizeof(path)) == NULL)
		return 0;
	r = iptables_read(&found, d);
	if (r < 0)
		return r;
	iptables_as_have(&found, have);
	iptables_have_free(&found);
	return 0;
}

void iptables_sweep_run(const struct args *a, struct report *r)
{
	char path[PATH_MAX];
	struct diag why;
	bool found;

	if (iptables_find("iptables-save", path, sizeof(path)) == NULL)
		return;
	if (iptables_sweep(a->dry_run, &found, &why) < 0)
		report_warn(r, "whether a probe has left something behind is not known: %s",
			    why.text);
	else if (found)
		strbuf_printf(&r->text, "%s what a probe has left in iptables\n",
			      a->dry_run ? "would remove" : "removed");
}
