/* SPDX-License-Identifier: MIT */
#include "rulemgr/sync.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "policy/strbuf.h"
#include "rulemgr/carry.h"
#include "rulemgr/encode.h"
#include "rulemgr/holder.h"
#include "rulemgr/loan.h"
#include "rulemgr/trial.h"

#define SYNC_TRIES 10
/* As much of one as a message has room for. */
#define QUOTED_COMMENT_MAX 256

int sync_check_owner(const struct have *have, struct diag *d)
{
	char comment[QUOTED_COMMENT_MAX];
	struct strbuf sb;

	if (!have->present || have->ours)
		return 0;
	strbuf_init(&sb, comment, sizeof(comment));
	strbuf_put_quoted(&sb, have->comment, strlen(have->comment));
	return diag_set(
		d, EEXIST, NULL, 0,
		"table %s is not ours (its comment is %s): left as it is; rename or delete it",
		MODEL_TABLE_TEXT, comment);
}

static bool is_to_be_owned(const struct model *want)
{
	return want != NULL && (want->flags & NFT_TABLE_F_OWNER) != 0;
}

/* Nothing borrowed changes the present table: it is another's, or has just vanished with its owner. */
static int sync_not_lent(const struct have *have, int err, struct diag *d)
{
	char holder[HOLDER_TEXT_MAX], why[sizeof(d->text)];

	if (err == -EBUSY || err == -EPERM || err == -ESHUTDOWN)
		return err;
	if (!holder_find(have->owner, holder, sizeof(holder)))
		return -ERESTART;
	snprintf(why, sizeof(why), "%s", d->text);
	return diag_set(
		d, EEXIST, NULL, 0,
		"table %s is owned by %s, and only that can change it; it vanishes when that "
		"ends. %.300s",
		MODEL_TABLE_TEXT, holder, why);
}

/* An owned table is changed over the socket that owns it. */
static int sync_send(struct kernel *k, struct batch *b, const struct have *have, bool to_be_owned,
		     bool dry_run, struct diag *d)
{
	struct loan l;
	int r;

	if (have->owner == 0 && (!to_be_owned || dry_run))
		return batch_send(b, k, !dry_run, d);
	r = loan_begin(&l, k->control, to_be_owned, d);
	if (r < 0)
		return have->owner == 0 ? r : sync_not_lent(have, r, d);
	if (have->owner != 0 && have->owner != kernel_port(&l.kernel)) {
		diag_set(d, EEXIST, NULL, 0, "The socket that transocksd keeps is another one");
		r = sync_not_lent(have, -EEXIST, d);
	} else {
		r = batch_send(b, &l.kernel, !dry_run, d);
	}
	loan_end(&l);
	return r;
}

static int sync_once(struct kernel *k, const struct have *have, const struct model *want,
		     bool dry_run, struct diag *d)
{
	struct batch *b = batch_new(have->generation);
	int r = b != NULL ? 0 : -ENOMEM;

	if (r == 0 && have->present)
		r = encode_removal(b);
	if (r == 0 && want != NULL)
		r = encode_model(b, want);
	if (r < 0)
		diag_set(d, -r, NULL, 0, "cannot build the batch: %s", strerror(-r));
	else
		r = sync_send(k, b, have, is_to_be_owned(want), dry_run, d);
	batch_free(b);
	return r;
}

/* Two that got into each other's way must not do so again in step. */
static void sync_pause(int try)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	usleep((useconds_t)(1000 * (1 + (now.tv_nsec / 1000 + getpid()) % (10L * (try + 1)))));
}

static int sync_busy(struct diag *d)
{
	return diag_set(d, EBUSY, NULL, 0,
			"others changed the ruleset each of the %d times that we tried",
			SYNC_TRIES);
}

typedef int read_fn(struct kernel *k, struct have *have, struct model *m, struct diag *d);

static int sync_read_by(read_fn *fn, struct kernel *k, struct have *have, struct model *m,
			struct diag *d)
{
	for (int try = 0; try < SYNC_TRIES; try++) {
		int r = fn(k, have, m, d);

		if (r != -ERESTART)
			return r;
		sync_pause(try);
	}
	return sync_busy(d);
}

int sync_read(struct kernel *k, struct have *have, struct model *m, struct diag *d)
{
	return sync_read_by(have_read_model, k, have, m, d);
}

int sync_read_chains(struct kernel *k, struct have *have, struct model *m, struct diag *d)
{
	return sync_read_by(have_read_chains, k, have, m, d);
}

int sync_look(struct kernel *k, struct have *have, struct diag *d)
{
	struct model m;
	int r = sync_read_chains(k, have, &m, d);

	if (r == 0)
		model_free(&m);
	return r;
}

/* Reads, checks, and carries over into `want` what must not be lost. */
static int sync_prepare(struct kernel *k, struct model *want, struct have *have, struct diag *d)
{
	struct model old;
	/* A removal carries nothing over. */
	int r = (want != NULL ? have_read_model : have_read_chains)(k, have, &old, d);

	if (r < 0)
		return r;
	r = sync_check_owner(have, d);
	if (want != NULL &&
	    trial_is_over(&old)) /* the live sets are those of the table before it */
		trial_keep_previous(&old);
	if (r == 0 && want != NULL && have->present && carry_elements(want, &old) < 0)
		r = diag_no_memory(d);
	model_free(&old);
	return r;
}

int sync_table(struct kernel *k, struct model *want, bool dry_run, struct have *have,
	       struct diag *d)
{
	for (int try = 0; try < SYNC_TRIES; try++) {
		int r = sync_prepare(k, want, have, d);

		if (r == 0 && (have->present || want != NULL))
			r = sync_once(k, have, want, dry_run, d);
		if (r != -ERESTART)
			return r;
		sync_pause(try);
	}
	return sync_busy(d);
}

/* Those of `a` that `b` has not, or has otherwise, into `out`. */
static int set_difference(const struct set *a, const struct set *b, struct set *out)
{
	size_t k = 0;

	*out = *a;
	out->elements = NULL;
	out->n_elements = 0;
	for (size_t i = 0; i < a->n_elements; i++) {
		const struct element *e = &a->elements[i], *other = NULL;

		while (k < b->n_elements && element_compare(a, &b->elements[k], e) < 0)
			k++;
		if (k < b->n_elements)
			other = &b->elements[k];
		if (other != NULL && memcmp(other->first, e->first, sizeof(e->first)) == 0 &&
		    memcmp(other->last, e->last, sizeof(e->last)) == 0 &&
		    strcmp(other->comment, e->comment) == 0)
			continue;
		if (set_add_element(out, e) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int set_copy(const struct set *s, struct set *copy)
{
	static const struct set nothing;

	return set_difference(s, &nothing, copy);
}

static int sync_send_edit(struct kernel *k, const struct have *have, const struct set *before,
			  const struct set *after, bool dry_run, struct diag *d)
{
	struct set removed = {.name = ""}, added = {.name = ""};
	struct batch *b = batch_new(have->generation);
	int r = b != NULL ? 0 : -ENOMEM;

	if (r == 0)
		r = set_difference(before, after, &removed);
	if (r == 0)
		r = set_difference(after, before, &added);
	if (r == 0)
		r = encode_removed_elements(b, &removed);
	if (r == 0)
		r = encode_added_elements(b, &added);
	if (r < 0)
		diag_set(d, -r, NULL, 0, "cannot build the batch: %s", strerror(-r));
	else if (removed.n_elements > 0 || added.n_elements > 0)
		r = sync_send(k, b, have, false, dry_run, d);
	batch_free(b);
	free(removed.elements);
	free(added.elements);
	return r;
}

static int sync_edit_once(struct kernel *k, const char *name, sync_edit_fn *fn, void *ctx,
			  bool dry_run, struct diag *d)
{
	struct set after = {.name = ""};
	const struct set *before;
	struct have have;
	struct model m;
	int r = have_read_model(k, &have, &m, d);

	if (r < 0)
		return r;
	r = sync_check_owner(&have, d);
	if (r == 0 && trial_is_over(&m)) {
		/* Its sets are looked at no more, and those of the table before go by other names. */
		if (trial_keep_previous(&m))
			r = diag_set(d, ETIME, NULL, 0, "a trial is over, and not tidied up");
		else
			have.present = false;
	}
	before = model_find_set(&m, name);
	if (r == 0 && !have.present)
		r = diag_set(d, ENOENT, NULL, 0, MODEL_NOT_INSTALLED);
	else if (r == 0 && before == NULL)
		r = diag_set(d, ENOENT, NULL, 0, "table %s has no set %s: install it again",
			     MODEL_TABLE_TEXT, name);
	if (r == 0 && set_copy(before, &after) < 0)
		r = diag_no_memory(d);
	if (r == 0)
		r = fn(ctx, &after, d);
	if (r == 0)
		r = sync_send_edit(k, &have, before, &after, dry_run, d);
	free(after.elements);
	model_free(&m);
	return r;
}

int sync_edit_set(struct kernel *k, const char *name, sync_edit_fn *fn, void *ctx, bool dry_run,
		  struct diag *d)
{
	for (int try = 0; try < SYNC_TRIES; try++) {
		int r = sync_edit_once(k, name, fn, ctx, dry_run, d);

		if (r != -ERESTART)
			return r;
		sync_pause(try);
	}
	return sync_busy(d);
}

static int sync_change_once(struct kernel *k, const struct change *c, bool dry_run,
			    struct have *have, struct model *m, struct diag *d)
{
	struct batch *b = batch_new(have->generation);
	int r = sync_check_owner(have, d);

	if (b == NULL)
		r = diag_no_memory(d);
	if (r == 0)
		r = c->build(c->ctx, b, have, m, d);
	if (r > 0)
		r = sync_send(k, b, have, c->to_be_owned, dry_run, d);
	batch_free(b);
	return r;
}

int sync_change(struct kernel *k, const struct change *c, bool dry_run, struct have *have,
		struct diag *d)
{
	for (int try = 0; try < SYNC_TRIES; try++) {
		struct model m;
		int r = (c->without_sets ? have_read_chains : have_read_model)(k, have, &m, d);

		if (r == 0) {
			r = sync_change_once(k, c, dry_run, have, &m, d);
			model_free(&m);
		}
		if (r != -ERESTART)
			return r;
		sync_pause(try);
	}
	return sync_busy(d);
}
