/* SPDX-License-Identifier: MIT */
#include "rulemgr/sync.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/carry.h"
#include "rulemgr/encode.h"

#define SYNC_TRIES 10

int sync_check_owner(const struct have *have, struct diag *d)
{
	if (!have->present || have->ours)
		return 0;
	return diag_set(
		d, EEXIST, NULL, 0,
		"table %s is not ours (its comment is \"%s\"): left as it is; rename or delete it",
		MODEL_TABLE_TEXT, have->comment);
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
		r = batch_send(b, k, !dry_run, d);
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

int sync_read(struct kernel *k, struct have *have, struct model *m, struct diag *d)
{
	for (int try = 0; try < SYNC_TRIES; try++) {
		int r = have_read_model(k, have, m, d);

		if (r != -ERESTART)
			return r;
		sync_pause(try);
	}
	return sync_busy(d);
}

/* Reads, checks, and carries over into `want` what must not be lost. */
static int sync_prepare(struct kernel *k, struct model *want, struct have *have, struct diag *d)
{
	struct model old;
	int r = have_read_model(k, have, &old, d);

	if (r < 0)
		return r;
	r = sync_check_owner(have, d);
	if (r == 0 && want != NULL && carry_elements(want, &old) < 0)
		r = diag_set(d, ENOMEM, NULL, 0, "out of memory");
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
