/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_trial_sync.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/flows.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/iptables_handover.h"
#include "rulemgr/lock.h"
#include "rulemgr/routes.h"

#define MS 1000

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * MS + ts.tv_nsec / 1000000;
}

int64_t iptables_trial_left(const struct iptables_trial *trial)
{
	int64_t now = now_ms();

	return iptables_trial_is_running(trial, now / MS) ? (trial->end + 1) * MS - now : 0;
}

static int out_of_memory(struct diag *d)
{
	return diag_set(d, ENOMEM, NULL, 0, "no memory for the rules of iptables");
}

struct beginning {
	const struct iptables_request *request;
	struct iptables_result *result;
	int64_t ms;
	bool previous;
};

static int begin_family(const struct beginning *b, const struct iptables_text *have,
			struct iptables_text *target, struct diag *d)
{
	struct iptables_trial times = {.start = now_ms() / MS};
	struct iptables_text new = *target;
	const char *refusal = iptables_trial_refusal(have, &new);
	int r = 0;

	times.end = times.start + (b->ms + MS - 1) / MS;
	*target = (struct iptables_text){0};
	if (refusal != NULL)
		r = diag_set(d, EEXIST, NULL, 0, "%s", refusal);
	else if (iptables_trial_begin(have, &new, &times, target) < 0)
		r = out_of_memory(d);
	iptables_text_free(&new);
	return r;
}

static int build_begin(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
		       struct diag *d)
{
	struct beginning *b = ctx;
	int r;

	b->result->n_notes = 0;
	iptables_note_variant(have, b->result);
	r = iptables_targets(b->request->want, targets, b->result, d);
	if (r == 0) /* confirm would */
		r = iptables_handover_check(have, targets, b->request->force, b->result, d);
	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++)
		r = begin_family(b, &have->text[f], &targets[f], d);
	b->previous = have->trial.on ? have->trial.previous : have->present && !have->paused;
	return r;
}

int iptables_trial_install(const struct iptables_request *q, int64_t ms,
			   struct iptables_result *result, bool *previous, struct diag *d)
{
	struct iptables_result done = {0};
	struct beginning b = {.request = q, .result = &done, .ms = ms};
	struct iptables_change c = {.build = build_begin, .ctx = &b, .lock = q->lock};
	int r = iptables_change(&c, q->dry_run, &done.present, d);
	size_t len = strlen(d->text);

	/* Which module it lacks the kernel does not always say. */
	if (r == -EOPNOTSUPP || r == -EIO)
		snprintf(d->text + len, sizeof(d->text) - len,
			 "; --confirm takes the match time (CONFIG_NETFILTER_XT_MATCH_TIME)");
	if (r < 0)
		return r;
	*result = done;
	*previous = b.previous;
	return 0;
}

static int keep(const struct iptables_have *have, bool tried, struct iptables_text *targets,
		struct diag *d)
{
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		if (iptables_trial_keep(&have->text[f], tried, &targets[f]) < 0)
			return out_of_memory(d);
	}
	return 0;
}

static int build_confirmation(void *ctx, const struct iptables_have *have,
			      struct iptables_text *targets, struct diag *d)
{
	(void)ctx;
	if (!have->trial.on)
		return diag_set(
			d, ENOENT, NULL, 0,
			"nothing waits for confirmation: nothing was on trial, or the trial has "
			"ended and the rules before are back");
	if (!have->tried)
		return diag_set(d, ETIME, NULL, 0, "too late: the trial has ended, and %s",
				have->trial.previous ? "the rules before are back"
						     : "new flows go direct again");
	return keep(have, true, targets, d);
}

int iptables_trial_confirm(bool dry_run, struct diag *d)
{
	struct iptables_change c = {.build = build_confirmation};
	bool present = false;

	return iptables_change(&c, dry_run, &present, d);
}

struct ending {
	bool cut;
	size_t *flows;
	bool removed; /* there was nothing before */
};

static int check_flows(const struct ending *e, const struct iptables_have *found,
		       const struct iptables_text *targets, struct diag *d)
{
	struct have have = {.present = false};
	const char *what;
	struct flows f;
	int n;

	if (e->cut)
		return 0;
	if (e->removed) {
		iptables_as_have(found, &have);
		n = flows_read(&have, &f, d) < 0 ? 0 : (int)flows_total(&f);
	} else {
		n = iptables_handover_cuts(found, targets, &what, d);
	}
	*e->flows = n > 0 ? (size_t)n : 0;
	return *e->flows == 0 ? 0
			      : diag_set(d, EBUSY, NULL, 0, "%zu redirected flow%s left", *e->flows,
					 *e->flows == 1 ? " is" : "s are");
}

/* Without rules before, targets stay empty: all of it goes. */
static int build_end(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
		     struct diag *d)
{
	struct ending *e = ctx;
	struct iptables_trial trial;
	int r = 0;

	if (!have->trial.on)
		return 1;
	if (have->tried)
		return diag_set(d, EAGAIN, NULL, 0, "the trial is not over");
	e->removed = !have->trial.previous;
	if (!e->removed)
		r = keep(have, false, targets, d);
	for (int f = 0; r == 0 && f < LISTENERS_FAMILIES; f++) {
		iptables_trial_find(&have->text[f], &trial);
		if (trial.on && !trial.previous)
			iptables_text_free(&targets[f]);
	}
	return r == 0 ? check_flows(e, have, targets, d) : r;
}

int iptables_trial_end(bool cut, size_t *flows, struct diag *d)
{
	struct ending e = {.cut = cut, .flows = flows};
	int r, lock = lock_take(d);
	struct iptables_change c = {.build = build_end, .ctx = &e, .lock = &lock};
	struct routes_change routes;
	bool present = false;

	if (lock == -EBUSY)
		return lock;
	r = iptables_change(&c, false, &present, d);
	/* Who installs meanwhile needs the routes, and waits for the lock. */
	if (r == 0 && e.removed) {
		r = routes_remove(false, &routes, d);
		routes_change_free(&routes);
	}
	lock_drop(lock);
	return r;
}
