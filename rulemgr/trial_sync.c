/* SPDX-License-Identifier: MIT */
#include "rulemgr/trial_sync.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/carry.h"
#include "rulemgr/encode.h"
#include "rulemgr/flows.h"
#include "rulemgr/lock.h"
#include "rulemgr/routes.h"

struct beginning {
	const struct want *want;
	int64_t ms;
	struct model m; /* of the last try */
	bool previous;
};

/* Makes of what is there what the trial would go back to. */
static bool take_previous(struct model *m, const struct have *have)
{
	return have->present && (!trial_is_on(m) || trial_keep_previous(m));
}

static int begin_model(struct beginning *b, const struct have *have, struct model *m,
		       struct diag *d)
{
	bool running = trial_is_on(m) && !trial_is_over(m);
	const char *unknown;

	model_free(&b->m);
	if (want_build(b->want, &b->m) < 0)
		return diag_no_memory(d);
	/* The live exceptions are those of the table that decides at the moment. */
	if (running && carry_elements(&b->m, m) < 0)
		return diag_no_memory(d);
	b->previous = take_previous(m, have);
	if (!b->previous)
		m->comment[0] = '\0';
	else if (!running && carry_elements(&b->m, m) < 0)
		return diag_no_memory(d);
	unknown = trial_find_unknown(m);
	if (unknown != NULL)
		return diag_set(
			d, EEXIST, NULL, 0,
			"\"%s\" in table %s has parts that are not ours, and could not be "
			"put back after a trial: install without --confirm, or take them out",
			unknown, MODEL_TABLE_TEXT);
	if (b->previous && !trial_is_possible(&b->m, m))
		return diag_set(
			d, EEXIST, NULL, 0,
			"--confirm cannot change mode or tproxy_mark of a table that is there: "
			"flush before, or install without");
	/* One table has one owner, and no process of ours changes it for the way back. */
	if (b->previous && ((b->m.flags ^ m->flags) & ~(uint32_t)NFT_TABLE_F_OWNER) != 0)
		return diag_set(
			d, EEXIST, NULL, 0,
			"--confirm cannot go back to a table with flags of others (dormant): "
			"flush before, or install without");
	if (b->previous && b->m.flags != m->flags)
		return diag_set(
			d, EEXIST, NULL, 0,
			"--confirm cannot change when_daemon_down of a table that is there: flush "
			"before, or install without");
	return trial_begin(&b->m, m, b->ms) < 0 ? diag_no_memory(d) : 0;
}

static int build_begin(void *ctx, struct batch *batch, const struct have *have, struct model *m,
		       struct diag *d)
{
	struct beginning *b = ctx;
	int r = begin_model(b, have, m, d);

	if (r < 0)
		return r;
	if (have->present)
		r = encode_removal(batch);
	if (r == 0)
		r = encode_model(batch, &b->m);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot build the batch: %s", strerror(-r));
	return 1;
}

int trial_install(struct kernel *k, const struct want *w, int64_t ms, bool dry_run,
		  struct trial_result *result, struct diag *d)
{
	struct beginning b = {.want = w, .ms = ms};
	bool open = w->redirect->when_daemon_down == REDIRECT_DOWN_OPEN;
	struct change change = {.build = build_begin, .ctx = &b, .to_be_owned = open};
	int r = sync_change(k, &change, dry_run, &result->have, d);

	result->previous = b.previous;
	model_free(&b.m);
	return r;
}

/* The gates first, then the chains, then the sets that those looked at. */
static int encode_confirmation(struct batch *b, const struct model *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];
		const struct rule *gate = trial_find_gate(c);

		if (trial_is_previous(c->name))
			r = encode_removed_chain(b, c);
		else if (gate != NULL)
			r = encode_removed_rule(b, c, gate);
	}
	for (size_t i = 0; r == 0 && i < m->n_sets; i++) {
		const struct set *s = &m->sets[i];

		if (trial_is_previous(s->name) || strcmp(s->name, TRIAL_SET) == 0)
			r = encode_removed_set(b, s);
	}
	return r;
}

static int build_confirmation(void *ctx, struct batch *b, const struct have *have, struct model *m,
			      struct diag *d)
{
	(void)ctx;
	if (!have->present || !trial_is_on(m))
		return diag_set(
			d, ENOENT, NULL, 0,
			"nothing waits for confirmation: nothing was on trial, or the trial has "
			"ended and the rules before are back");
	if (trial_is_over(m))
		return diag_set(d, ETIME, NULL, 0, "too late: the trial has ended, and %s",
				trial_has_previous(m) ? "the rules before are back"
						      : "new flows go direct again");
	return encode_confirmation(b, m) < 0 ? diag_no_memory(d) : 1;
}

int trial_confirm(struct kernel *k, bool dry_run, struct diag *d)
{
	struct change change = {.build = build_confirmation};
	struct have have;

	return sync_change(k, &change, dry_run, &have, d);
}

struct ending {
	bool cut;
	size_t *flows;
	bool removed; /* there was no table before */
};

static int check_flows(const struct ending *e, const struct have *have, struct diag *d)
{
	struct flows f;

	if (e->cut || flows_read(have, &f, d) < 0)
		return 0;
	*e->flows = flows_total(&f);
	return *e->flows == 0 ? 0
			      : diag_set(d, EBUSY, NULL, 0, "%zu redirected flow%s left", *e->flows,
					 *e->flows == 1 ? " is" : "s are");
}

static int build_end(void *ctx, struct batch *b, const struct have *have, struct model *m,
		     struct diag *d)
{
	struct ending *ending = ctx;
	int r;

	if (!have->present || !trial_is_on(m))
		return 0;
	if (!trial_is_over(m))
		return diag_set(d, EAGAIN, NULL, 0, "the trial is not over");
	if (trial_keep_previous(m)) {
		const char *unknown = trial_find_unknown(m);

		if (unknown != NULL)
			return diag_set(d, EEXIST, NULL, 0, "\"%s\" was changed during the trial",
					unknown);
		r = encode_removal(b);
		if (r == 0)
			r = encode_model(b, m);
	} else {
		r = check_flows(ending, have, d);
		if (r < 0)
			return r;
		r = encode_removal(b);
		ending->removed = true;
	}
	return r < 0 ? diag_no_memory(d) : 1;
}

int trial_end(struct kernel *k, bool cut, size_t *flows, struct diag *d)
{
	struct ending ending = {.cut = cut, .flows = flows};
	struct change change = {.build = build_end, .ctx = &ending};
	struct routes_change routes;
	struct have have;
	/* Somebody who installs meanwhile needs the routes. */
	int r, lock = lock_take(d);

	if (lock == -EBUSY)
		return lock;
	r = sync_change(k, &change, false, &have, d);
	if (r == 0 && ending.removed) {
		r = routes_remove(false, &routes, d);
		routes_change_free(&routes);
	}
	lock_drop(lock);
	return r;
}
