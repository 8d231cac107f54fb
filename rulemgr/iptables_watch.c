/* SPDX-License-Identifier: MIT */
/*
 * watch where iptables did the work. Nothing announces a change of its rules, and nothing says who made it: they are
 * read now and then. What transocks-rules itself makes of them it has noted (lock.h): that is meant, and counts from
 * then on.
 */
#include "rulemgr/iptables_cmd.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "rulemgr/iptables_sync.h"
#include "rulemgr/lock.h"
#include "rulemgr/resolve.h"
#include "rulemgr/watch_tell.h"

#define LOOK_MS 1000
/* Repairs in one minute; then somebody else wants other rules than we do. */
#define REPAIRS_MAX 6
#define MINUTE_MS   60000

enum finding { IN_SYNC, REMOVED, CHANGED };

struct watch {
	bool as_json, repair;
	/* Intended, without live exceptions; and those that decided when they were last as intended. */
	struct iptables_text want[LISTENERS_FAMILIES], last[LISTENERS_FAMILIES];
	bool flushed;  /* by transocks-rules: nothing is wanted */
	bool watching; /* that has been told; before it nothing is an event */
	/* When it was last looked. */
	bool present, paused, tried;
	int64_t trial_end; /* the last second of that trial, since 1970 */
	uint64_t noted;
	/* What was told last. */
	enum finding told;
	char told_differences[1024];
	char told_failure[sizeof(((struct diag *)0)->text)];
	bool told_pause;
	int64_t repairs_ms[REPAIRS_MAX]; /* the last ones, oldest first */
	size_t n_repairs;
	int failed; /* negative errno: nobody reads what we tell */
};

struct telling {
	struct watch *w;
	const struct iptables_have *have; /* NULL: without differences */
	struct json *json;
	struct strbuf *text;
	size_t n;
};

static void free_texts(struct iptables_text *texts)
{
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		iptables_text_free(&texts[f]);
}

static void put_difference(void *ctx, int family, bool missing, const struct iptables_line *l)
{
	struct telling *t = ctx;

	if (t->json != NULL)
		iptables_difference_put(family, missing, l, t->json);
	if (t->text != NULL && t->n++ < TOLD_DIFFS_MAX) {
		strbuf_puts(t->text, t->n == 1 ? ": " : "; ");
		iptables_difference_format(family, missing, l, t->text);
	}
}

static void put_differences(void *ctx, struct json *j)
{
	struct telling *t = ctx;

	if (t->have == NULL)
		return;
	t->json = j;
	json_array_begin(j, "differences");
	iptables_compare_texts(t->have, t->w->want, put_difference, t);
	json_array_end(j);
}

/* `have`: with what differs there. */
static void tell(struct watch *w, const char *event, const char *text,
		 const struct iptables_have *have, const char *differences)
{
	struct telling t = {.w = w, .have = have};
	int r = watch_tell_rules(w->as_json, event, text, differences, put_differences, &t);

	if (r < 0)
		w->failed = r;
}

/* Returns how many there are, with a text of the first ones. */
static int find_differences(struct watch *w, const struct iptables_have *have, struct strbuf *text)
{
	struct telling t = {.w = w, .text = text};
	int n = iptables_compare_texts(have, w->want, put_difference, &t);

	if (t.n > TOLD_DIFFS_MAX)
		strbuf_printf(text, "; and %zu more differences", t.n - TOLD_DIFFS_MAX);
	return n;
}

/* What decides now is intended. A jump is put back first or last in its chain. */
static int take_over(struct iptables_text *texts, const struct iptables_have *have, bool exceptions)
{
	int r = 0;

	free_texts(texts);
	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++) {
		const struct iptables_text *t = &have->text[f];

		r = exceptions ? iptables_trial_half(t, have->tried, &texts[f])
			       : iptables_trial_keep(t, have->tried, &texts[f]);
		for (size_t i = 0; r == 0 && i < texts[f].n; i++) {
			if (texts[f].lines[i].position > 1)
				texts[f].lines[i].position = 0;
		}
	}
	return r;
}

/* The tool itself, or the end of a trial, has made it so. */
static int watch_adopt(struct watch *w, const struct iptables_have *have)
{
	static const char by[] = " by transocks-rules";
	char differences[256], text[128];
	struct strbuf sb;
	int n;

	strbuf_init(&sb, differences, sizeof(differences));
	n = find_differences(w, have, &sb);
	w->told = IN_SYNC;
	w->told_differences[0] = '\0';
	w->flushed = !have->present;
	if (!have->present) {
		snprintf(text, sizeof(text), "rules of iptables removed%s", by);
		if (w->present)
			tell(w, "removed", text, NULL, NULL);
	} else if (have->paused && !w->paused && !(w->tried && !have->tried)) {
		snprintf(text, sizeof(text), "rules of iptables draining: new flows go direct,%s",
			 by);
		tell(w, "draining", text, NULL, NULL);
	} else if (w->tried && !have->tried && (have->trial.on || time(NULL) > w->trial_end)) {
		tell(w, "trial_ended", "the trial of rules of iptables has ended", NULL, NULL);
	} else if (w->tried && !have->tried && n == 0) { /* the time was not over */
		snprintf(text, sizeof(text), "rules of iptables confirmed%s", by);
		tell(w, "confirmed", text, NULL, NULL);
	} else if (n != 0 || !w->present) {
		snprintf(text, sizeof(text), "rules of iptables installed%s%s",
			 w->present ? " again" : "", by);
		tell(w, "installed", text, NULL, NULL);
	}
	n = take_over(w->want, have, false);
	return n == 0 ? take_over(w->last, have, true) : n;
}

static void tell_finding(struct watch *w, enum finding found, const struct iptables_have *have,
			 const char *differences)
{
	static const char *const watching[] = {
		[IN_SYNC] = "watching rules of iptables",
		[REMOVED] = "watching rules of iptables, which are not there",
		[CHANGED] = "watching rules of iptables, which are not as intended",
	};

	if (!w->watching)
		tell(w, "watching", watching[found], found == CHANGED ? have : NULL, differences);
	else if (found == IN_SYNC)
		tell(w, "in_sync", "rules of iptables are as intended again", NULL, NULL);
	else if (found == REMOVED)
		tell(w, "removed", "rules of iptables removed", NULL, NULL);
	else
		tell(w, "changed", "rules of iptables changed", have, differences);
}

/* ------------------------------------------------------------------------------------------------ */

/* What is intended, and into its empty chains the live exceptions of `from`. */
static int write_target(const struct iptables_text *want, const struct iptables_text *from,
			struct iptables_text *target)
{
	const char *table = NULL;
	struct strbuf out;
	int r;

	strbuf_init_heap(&out);
	for (size_t i = 0; i < want->n; i++) {
		const struct iptables_line *l = &want->lines[i];
		bool tail = l->kind == IPTABLES_RULE && strcmp(l->chain, IPTABLES_BYPASS) == 0;

		if (table == NULL || strcmp(table, l->table) != 0)
			strbuf_printf(&out, "*%s\n", l->table);
		table = l->table;
		for (size_t k = 0; tail && k < from->n; k++) {
			const struct iptables_line *e = &from->lines[k];

			if (iptables_line_is_exception(e) && strcmp(e->table, "filter") != 0)
				strbuf_printf(&out, "-A %s %s\n", e->chain, e->rest);
		}
		if (l->kind == IPTABLES_CHAIN)
			strbuf_printf(&out, ":%s - [0:0]\n", l->chain);
		else
			strbuf_printf(&out, "-%c %s %s\n", l->position == 1 ? 'I' : 'A', l->chain,
				      l->rest);
	}
	r = out.truncated ? -ENOMEM : iptables_text_parse(target, out.data, false);
	strbuf_free(&out);
	return r;
}

static bool has_exceptions(const struct iptables_text *t)
{
	bool has = false;

	for (size_t i = 0; iptables_tables[i] != NULL; i++)
		has = has || iptables_text_has_chain(t, iptables_tables[i], IPTABLES_BYPASS);
	return has;
}

static int build_repair(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
			struct diag *d)
{
	static const struct iptables_text none;
	const struct watch *w = ctx;

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		bool there = has_exceptions(&have->text[f]);

		if (have->usable[f] &&
		    write_target(&w->want[f], there ? &none : &w->last[f], &targets[f]) < 0)
			return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	}
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Whether a repair is allowed now. */
static bool may_repair(struct watch *w)
{
	int64_t now = now_ms();
	char text[128];

	while (w->n_repairs > 0 && w->repairs_ms[0] + MINUTE_MS <= now) {
		w->n_repairs--;
		memmove(w->repairs_ms, w->repairs_ms + 1, w->n_repairs * sizeof(now));
	}
	if (w->n_repairs < REPAIRS_MAX) {
		w->told_pause = false;
		return true;
	}
	snprintf(text, sizeof(text),
		 "rules of iptables were repaired %d times within a minute: not again for %lld s",
		 REPAIRS_MAX, (long long)(w->repairs_ms[0] + MINUTE_MS - now + 999) / 1000);
	if (!w->told_pause)
		tell(w, "paused", text, NULL, NULL);
	w->told_pause = true;
	return false;
}

static void watch_repair(struct watch *w)
{
	struct iptables_change c = {.build = build_repair, .ctx = w, .silent = true};
	char text[sizeof(w->told_failure) + 64];
	bool present = false;
	struct diag d;
	int r;

	if (!may_repair(w))
		return;
	r = iptables_change(&c, false, &present, &d);
	if (r < 0) {
		snprintf(text, sizeof(text), "cannot repair: %s", d.text);
		if (strcmp(d.text, w->told_failure) != 0)
			tell(w, "repair_failed", text, NULL, NULL);
		snprintf(w->told_failure, sizeof(w->told_failure), "%s", d.text);
		return;
	}
	w->repairs_ms[w->n_repairs++] = now_ms();
	w->present = true;
	w->told = IN_SYNC;
	w->told_differences[0] = w->told_failure[0] = '\0';
	tell(w, "repaired", "repaired: rules of iptables installed again", NULL, NULL);
}

/* Nobody is in the middle of a change. */
static int read_locked(struct iptables_have *have, uint64_t *noted, struct diag *d)
{
	int r, lock = lock_take(d);

	if (lock == -EBUSY)
		return lock;
	*noted = lock_noted(lock);
	r = iptables_read(have, d);
	lock_drop(lock);
	return r;
}

static int watch_compare(struct watch *w, const struct iptables_have *have)
{
	char differences[sizeof(w->told_differences)];
	enum finding found = IN_SYNC;
	struct strbuf sb;
	int n, r = 0;

	strbuf_init(&sb, differences, sizeof(differences));
	n = find_differences(w, have, &sb);
	if (n < 0)
		return n;
	if (!have->present && !w->flushed)
		found = REMOVED;
	else if (n > 0)
		found = CHANGED;
	if (found != CHANGED)
		differences[0] = '\0';
	if (!w->watching || found != w->told || strcmp(differences, w->told_differences) != 0)
		tell_finding(w, found, have, differences);
	w->told = found;
	snprintf(w->told_differences, sizeof(w->told_differences), "%s", differences);
	w->watching = true;
	w->present = have->present;
	if (found == IN_SYNC) /* so that live exceptions come back as well */
		r = take_over(w->last, have, true);
	else if (w->repair && !w->flushed)
		watch_repair(w);
	return r;
}

/* 0, or a negative errno with `d` filled. */
static int watch_look(struct watch *w, struct diag *d)
{
	struct iptables_have have;
	uint64_t noted;
	int r = read_locked(&have, &noted, d);
	bool ran_out;

	if (r == -EBUSY) /* somebody is at it, and will be seen */
		return 0;
	if (r < 0)
		return r;
	ran_out = w->tried && !have.tried && have.trial.on;
	if (w->watching && (ran_out || noted != w->noted)) {
		w->noted = noted;
		r = watch_adopt(w, &have);
		w->present = have.present;
	} else {
		w->noted = noted;
		r = watch_compare(w, &have);
	}
	w->paused = have.paused;
	w->tried = have.tried;
	w->trial_end = have.trial.end;
	iptables_have_free(&have);
	return r < 0 ? diag_set(d, -r, NULL, 0, "out of memory") : 0;
}

/* Until a signal comes. 0, or a negative errno with `d` filled. */
static int watch_loop(struct watch *w, struct diag *d)
{
	static const struct timespec pause = {.tv_sec = LOOK_MS / 1000,
					      .tv_nsec = LOOK_MS % 1000 * 1000000};
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	do
		r = watch_look(w, d);
	while (r == 0 && w->failed == 0 && sigtimedwait(&set, NULL, &pause) < 0);
	if (r == 0 && w->failed < 0)
		r = diag_set(d, -w->failed, NULL, 0, "cannot go on: %s", strerror(-w->failed));
	return r;
}

int iptables_watch_run(const struct args *a, struct report *r)
{
	struct watch w = {.as_json = a->json, .repair = a->repair};
	struct iptables_result families = {0};
	struct want want;
	int err, code = resolve_want(a, false, &want, r);

	if (code != 0)
		return code;
	report_print_warnings(r);
	err = iptables_targets(&want, w.want, &families, &r->error);
	if (err == 0)
		err = watch_loop(&w, &r->error);
	free_texts(w.want);
	free_texts(w.last);
	return report_exit_code(err);
}
