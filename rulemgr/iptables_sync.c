/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_sync.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/iptables_handover.h"
#include "rulemgr/iptables_run.h"
#include "rulemgr/lock.h"

/* How often a change by somebody else is met by doing it again. */
#define INSTALL_ATTEMPTS 5

static bool host_has(int family)
{
	return family == LISTENERS_IPV4 || access("/proc/self/net/if_inet6", F_OK) == 0;
}

/* ------------------------------------------------------------------------------------------------ */

static void have_add_port(struct iptables_have *have, uint16_t port)
{
	for (size_t i = 0; i < have->n_ports; i++) {
		if (have->ports[i] == port)
			return;
	}
	if (port != 0 && have->n_ports < MODEL_PORTS_MAX)
		have->ports[have->n_ports++] = port;
}

/* Those of rules that lead somewhere before earlier ones. */
static void have_add_ports(struct iptables_have *have, bool kept)
{
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		for (size_t i = 0; i < have->text[f].n; i++) {
			const struct iptables_line *l = &have->text[f].lines[i];

			if (l->kind == IPTABLES_RULE && iptables_line_is_kept(l) == kept)
				have_add_port(have, iptables_line_port(l));
		}
	}
}

static int have_read_family(struct iptables_have *have, int family, struct diag *d)
{
	struct iptables_text *t = &have->text[family];
	struct strbuf text;
	int r;

	strbuf_init_heap(&text);
	r = iptables_save(family, have->by, &text, d);
	if (r == 0 && iptables_text_parse(t, text.data, true) < 0)
		r = diag_set(d, ENOMEM, NULL, 0, "no memory for the rules of iptables");
	strbuf_free(&text);
	for (size_t i = 0; r == 0 && i < t->n; i++)
		have->present = have->present || !iptables_line_is_probe(&t->lines[i]);
	return r;
}

static bool family_is_paused(const struct iptables_text *t, bool tried)
{
	const char *chain = tried ? IPTABLES_TRIAL_TAKE : IPTABLES_TAKE;

	for (size_t i = 0; i < t->n; i++) {
		if (iptables_line_is_pause(&t->lines[i]) && strcmp(t->lines[i].chain, chain) == 0)
			return true;
	}
	return false;
}

/* Which rules decide, and whether they are paused. */
static void have_judge(struct iptables_have *have)
{
	struct iptables_trial trial;

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		iptables_trial_find(&have->text[f], &trial);
		if (!trial.on)
			continue;
		trial.previous |= have->trial.previous;
		have->trial = trial;
	}
	have->tried = iptables_trial_is_running(&have->trial, time(NULL));
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		have->paused = have->paused || family_is_paused(&have->text[f], have->tried);
}

/* ip6tables may be missing where nobody uses IPv6; iptables may not. */
static int read_by(struct iptables_have *have, const char *by, struct diag *d)
{
	int r = 0;

	*have = (struct iptables_have){.by = by};
	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++) {
		have->usable[f] =
			host_has(f) && (f == LISTENERS_IPV4 || iptables_has_programs(f, by));
		if (have->usable[f])
			r = have_read_family(have, f, d);
	}
	if (r < 0)
		iptables_have_free(have);
	return r;
}

static bool has_lines(const struct iptables_have *have)
{
	bool has = false;

	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		has = has || have->text[f].n > 0;
	return has;
}

/* Somebody may have changed which variant stands under the plain names. */
static void read_by_variants(struct iptables_have *have)
{
	static const char *const variants[] = {IPTABLES_LEGACY, IPTABLES_NFT};
	struct iptables_have found;
	struct diag ignored;

	for (size_t i = 0; !has_lines(have) && i < ARRAY_LEN(variants); i++) {
		if (!iptables_has_programs(LISTENERS_IPV4, variants[i]) ||
		    read_by(&found, variants[i], &ignored) < 0)
			continue;
		if (has_lines(&found)) {
			iptables_have_free(have);
			*have = found;
		} else {
			iptables_have_free(&found);
		}
	}
}

int iptables_read(struct iptables_have *have, struct diag *d)
{
	struct iptables_have found;
	int r = read_by(&found, IPTABLES_PLAIN, d);

	if (r < 0)
		return r;
	read_by_variants(&found);
	have_judge(&found);
	have_add_ports(&found, false);
	have_add_ports(&found, true);
	*have = found;
	return 0;
}

void iptables_have_free(struct iptables_have *have)
{
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		iptables_text_free(&have->text[f]);
	*have = (struct iptables_have){0};
}

bool iptables_has_family(const struct iptables_have *have, int family)
{
	for (size_t i = 0; i < have->text[family].n; i++) {
		const struct iptables_line *l = &have->text[family].lines[i];

		if (!iptables_line_is_probe(l) && !iptables_line_is_kept(l))
			return true;
	}
	return false;
}

/* What is wanted, in the form of what is there. `w` NULL: nothing. 0 or -ENOMEM. */
static int target_build(const struct want *w, int family, struct iptables_text *target)
{
	struct strbuf text;
	int r;

	strbuf_init_heap(&text);
	if (w != NULL)
		iptables_build(w, family, &text);
	r = text.truncated ? -ENOMEM : iptables_text_parse(target, text.data, false);
	strbuf_free(&text);
	return r;
}

struct compare {
	iptables_differs_fn *fn;
	void *ctx;
	int family;
};

static void compare_change(void *ctx, bool missing, const struct iptables_line *l)
{
	const struct compare *c = ctx;

	c->fn(c->ctx, c->family, missing, l);
}

int iptables_compare_texts(const struct iptables_have *have, const struct iptables_text *want,
			   iptables_differs_fn *fn, void *ctx)
{
	struct compare c = {.fn = fn, .ctx = ctx};
	int n = 0;

	for (c.family = 0; c.family < LISTENERS_FAMILIES; c.family++) {
		struct iptables_text deciding;

		if (!have->usable[c.family])
			continue;
		if (iptables_trial_half(&have->text[c.family], have->tried, &deciding) < 0)
			return -ENOMEM;
		n += (int)iptables_text_diff(&deciding, &want[c.family], compare_change, &c);
		iptables_text_free(&deciding);
	}
	return n;
}

int iptables_compare(const struct iptables_have *have, const struct want *w,
		     iptables_differs_fn *fn, void *ctx)
{
	struct iptables_text targets[LISTENERS_FAMILIES] = {0};
	int r = 0;

	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++)
		r = target_build(w, f, &targets[f]);
	if (r == 0)
		r = iptables_compare_texts(have, targets, fn, ctx);
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		iptables_text_free(&targets[f]);
	return r;
}

/* ------------------------------------------------------------------------------------------------ */

/* Turns one family from `have` to `want`. Nothing is run where there is nothing to do. */
static int change_family(int family, const char *by, const struct iptables_text *have,
			 const struct iptables_text *want, bool exact, bool dry_run, struct diag *d)
{
	struct strbuf body;
	int r = 0;

	strbuf_init_heap(&body);
	iptables_text_replace(have, want, exact, &body);
	if (body.truncated)
		r = diag_set(d, ENOMEM, NULL, 0, "no memory for the rules of iptables");
	else if (body.len > 0)
		r = iptables_restore(family, by, &body, dry_run, d);
	strbuf_free(&body);
	return r;
}

/* Puts families 0..last back to what they were. The error that led here is in `d`. */
static void undo(const struct iptables_have *before, int last, struct diag *d)
{
	struct iptables_have now = {0};
	struct diag why;
	size_t len = strlen(d->text);
	int r = iptables_read(&now, &why);

	for (int f = 0; r == 0 && f <= last; f++) {
		if (!iptables_text_equal(&now.text[f], &before->text[f]))
			r = change_family(f, before->by, &now.text[f], &before->text[f], true,
					  false, &why);
	}
	iptables_have_free(&now);
	if (r == 0)
		snprintf(d->text + len, sizeof(d->text) - len, "; everything is as it was before");
	else
		snprintf(d->text + len, sizeof(d->text) - len,
			 "; and it could not be taken back: %s; run transocks-rules flush",
			 why.text);
}

static int change_all(const struct iptables_have *have, const struct iptables_text *targets,
		      bool dry_run, struct diag *d)
{
	bool all_goes = true;

	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		all_goes = all_goes && targets[f].n == 0;
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		int r = change_family(f, have->by, &have->text[f], &targets[f], all_goes, dry_run,
				      d);

		if (r < 0) {
			if (!dry_run)
				undo(have, f, d);
			return r;
		}
	}
	return 0;
}

/* Somebody who changes our jumps between our reading and our writing is seen here. */
static int verify(const struct iptables_text *targets, bool *agrees, struct diag *d)
{
	struct iptables_have now;
	int r = iptables_read(&now, d);

	*agrees = true;
	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++)
		*agrees = *agrees && iptables_text_jumps_agree(&now.text[f], &targets[f]);
	if (r == 0)
		iptables_have_free(&now);
	return r;
}

/* 1: nothing is to be done. `lock`: to note the change with, or -1. */
static int change_once(const struct iptables_change *c, const struct iptables_have *have,
		       bool dry_run, int lock, bool *agrees, struct diag *d)
{
	struct iptables_text targets[LISTENERS_FAMILIES] = {0};
	int r = c->build(c->ctx, have, targets, d);

	if (r == 0) {
		lock_note(lock);
		r = change_all(have, targets, dry_run, d);
	}
	if (r == 0 && !dry_run)
		r = verify(targets, agrees, d);
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		iptables_text_free(&targets[f]);
	return r;
}

static int change_until_it_holds(const struct iptables_change *c, bool dry_run, int lock,
				 bool *present, struct diag *d)
{
	bool agrees = false;

	for (int i = 0; i < INSTALL_ATTEMPTS && !agrees; i++) {
		struct iptables_have have;
		int r = iptables_read(&have, d);

		if (r < 0)
			return r;
		*present = *present || (i == 0 && have.present);
		r = change_once(c, &have, dry_run, lock, &agrees, d);
		iptables_have_free(&have);
		if (r != 0 || dry_run)
			return r < 0 ? r : 0;
	}
	if (!agrees)
		return diag_set(d, EBUSY, NULL, 0,
				"somebody else changes our rules of iptables again and again");
	return 0;
}

int iptables_change(const struct iptables_change *c, bool dry_run, bool *present, struct diag *d)
{
	/* Between reading and writing nobody holds the lock of iptables. */
	int r, lock = c->lock != NULL ? *c->lock : lock_take(d);

	if (lock == -EBUSY)
		return lock;
	r = change_until_it_holds(c, dry_run, dry_run || c->silent ? -1 : lock, present, d);
	if (c->lock == NULL)
		lock_drop(lock);
	return r;
}

void iptables_note(struct iptables_result *result, const char *fmt, ...)
{
	struct diag *d = &result->notes[result->n_notes++];
	va_list ap;

	BUG_ON(result->n_notes > IPTABLES_NOTES);
	va_start(ap, fmt);
	vsnprintf(d->text, sizeof(d->text), fmt, ap);
	va_end(ap);
}

void iptables_note_variant(const struct iptables_have *have, struct iptables_result *result)
{
	if (have->by[0] != '\0')
		iptables_note(result,
			      "the rules that are there are of iptables-%.*s, and so are the new "
			      "ones: flush first if they should not be",
			      (int)strlen(have->by) - 1, have->by);
}

static void note_left_out(struct iptables_result *result, int family, const char *why)
{
	iptables_note(result, "%s is left out: %s", listeners_family[family], why);
}

/* Which families are to be written. */
static void choose_families(const struct want *w, struct want *reduced,
			    struct iptables_result *result)
{
	char path[PATH_MAX];

	*reduced = *w;
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		if (!w->family[f])
			continue;
		reduced->family[f] = false;
		if (!host_has(f))
			note_left_out(result, f, "this host has none");
		else if (f == LISTENERS_IPV6 &&
			 (iptables_find("ip6tables-save", path, sizeof(path)) == NULL ||
			  iptables_find("ip6tables-restore", path, sizeof(path)) == NULL))
			note_left_out(result, f,
				      "ip6tables is not installed; its connections go direct");
		else
			reduced->family[f] = true;
		result->family[f] = reduced->family[f];
	}
}

int iptables_targets(const struct want *w, struct iptables_text *targets,
		     struct iptables_result *result, struct diag *d)
{
	struct want reduced;
	int r = iptables_check(w, d);

	if (r < 0)
		return r;
	choose_families(w, &reduced, result);
	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++) {
		r = target_build(&reduced, f, &targets[f]);
		if (r < 0)
			diag_set(d, -r, NULL, 0, "no memory for the rules of iptables");
	}
	return r;
}

struct installing {
	const struct iptables_request *request;
	struct iptables_result *result;
};

static int build_install(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
			 struct diag *d)
{
	struct installing *i = ctx;
	int r;

	i->result->n_notes = 0;
	iptables_note_variant(have, i->result);
	r = iptables_targets(i->request->want, targets, i->result, d);
	if (r == 0)
		r = iptables_handover_check(have, targets, i->request->force, i->result, d);
	return r;
}

int iptables_install(const struct iptables_request *q, struct iptables_result *result,
		     struct diag *d)
{
	struct iptables_result done = {0};
	struct installing i = {.request = q, .result = &done};
	struct iptables_change c = {.build = build_install, .ctx = &i, .lock = q->lock};
	int r = iptables_check(q->want, d);

	if (r == 0)
		r = iptables_change(&c, q->dry_run, &done.present, d);
	if (r == 0)
		*result = done;
	return r;
}

/* Of nothing, targets are empty. */
static int build_flush(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
		       struct diag *d)
{
	const bool *paused_only = ctx;

	(void)targets;
	if (*paused_only && have->present && !have->paused)
		return diag_set(d, ECANCELED, NULL, 0,
				"rules of iptables were installed again meanwhile: they stay");
	return 0;
}

int iptables_flush(bool dry_run, bool paused_only, struct iptables_result *result, struct diag *d)
{
	struct iptables_result done = {0};
	struct iptables_change c = {.build = build_flush, .ctx = &paused_only};
	int r = iptables_change(&c, dry_run, &done.present, d);

	if (r < 0)
		return r;
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		done.family[f] = done.present && host_has(f);
	*result = done;
	return 0;
}

/* ------------------------------------------------------------------------------------------------ */

struct sweeping {
	bool found;
};

/* Of nothing, targets are empty. */
static int build_sweep(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
		       struct diag *d)
{
	struct sweeping *s = ctx;

	(void)targets, (void)d;
	if (have->present || !has_lines(have))
		return 1;
	s->found = true;
	return 0;
}

int iptables_sweep(bool dry_run, bool *found, struct diag *d)
{
	struct sweeping s = {.found = false};
	struct iptables_change c = {.build = build_sweep, .ctx = &s};
	bool present = false;
	int r = iptables_change(&c, dry_run, &present, d);

	*found = s.found;
	return r;
}

int iptables_pause(struct diag *d)
{
	static const char *const chains[] = {IPTABLES_TAKE, IPTABLES_TRIAL_TAKE};
	struct iptables_have have;
	struct strbuf body;
	char line[160];
	int r, lock = lock_take(d);

	if (lock == -EBUSY)
		return lock;
	r = iptables_read(&have, d);
	if (r < 0) {
		lock_drop(lock);
		return r;
	}
	if (!have.present)
		r = diag_set(d, ENOENT, NULL, 0, "nothing is installed");
	else
		lock_note(lock);
	for (int f = 0; r == 0 && !have.paused && f < LISTENERS_FAMILIES; f++) {
		strbuf_init_heap(&body);
		for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
			snprintf(line, sizeof(line), "-I %s 1 %s\n", chains[i],
				 iptables_pause_rule);
			iptables_text_edit(&have.text[f], chains[i], line, &body);
		}
		if (body.len > 0)
			r = iptables_restore(f, have.by, &body, false, d);
		strbuf_free(&body);
	}
	iptables_have_free(&have);
	lock_drop(lock);
	return r;
}
