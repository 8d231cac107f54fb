/* SPDX-License-Identifier: MIT */
/*
 * watch: tells when others change our table, or the ip rules and routes that it needs, who it was and what differs
 * then from what is intended, and with --repair puts that back. Intended is what the configuration says, until transocks-rules itself
 * changes the table: that is meant, whatever the outcome, and counts from then on.
 */
#include "rulemgr/command.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/carry.h"
#include "rulemgr/drain.h"
#include "rulemgr/intent.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/lock.h"
#include "rulemgr/route_events.h"
#include "rulemgr/sync.h"
#include "rulemgr/trial.h"
#include "rulemgr/watch_routes.h"
#include "rulemgr/watch_tell.h"

/* One change is seldom alone: looks once others have been quiet for so long, or after the longer time. */
#define QUIET_MS     100
#define QUIET_MAX_MS 1000
/* Looks all the same now and then. A table that vanishes with its owner is not announced. */
#define LOOK_MS       10000
#define LOOK_OWNED_MS 1000
/* Repairs in one minute; then somebody else wants another table than we do. */
#define REPAIRS_MAX 6
#define MINUTE_MS   60000
/* After a repair that failed; doubled each time, up to a minute. */
#define RETRY_MS 1000

#define NEVER INT64_MAX

enum finding { IN_SYNC, REMOVED, FOREIGN, CHANGED };

struct watch {
	bool as_json, repair;
	struct kernel k;
	struct events events;
	int route_events; /* descriptor */
	int signals;      /* signalfd(2) */
	struct model want;
	bool flushed;  /* by transocks-rules: nothing is wanted */
	bool watching; /* that has been told; before it nothing is an event */
	bool present;  /* the table, when it was last looked at */
	/* Changes that have not been looked at. */
	struct culprits by;
	int64_t dirty_ms, quiet_ms; /* first and last of them; NEVER: none */
	bool adopt;                 /* the last one was made by transocks-rules */
	uint32_t repaired;          /* generation that our last repair began */
	/* What was told last. */
	enum finding told;
	char told_differences[1024];
	char told_routes[1024]; /* "": as intended */
	char told_failure[sizeof(((struct diag *)0)->text)];
	int64_t looked_ms, retry_ms; /* NEVER: nothing to retry */
	int64_t retry_delay_ms;
	int64_t repairs_ms[REPAIRS_MAX]; /* the last ones, oldest first */
	size_t n_repairs;
	int failed; /* negative errno: nobody reads what we tell */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void tell(struct watch *w, const char *event, const char *text, const struct culprits *by,
		 const struct diff *diff)
{
	int r = watch_tell(w->as_json, event, text, by, diff, NULL);

	if (r < 0)
		w->failed = r;
}

static void tell_routes(struct watch *w, const char *event, const char *text,
			const struct routes_change *routes)
{
	int r = watch_tell(w->as_json, event, text, NULL, NULL, routes);

	if (r < 0)
		w->failed = r;
}

static void mark_dirty(struct watch *w)
{
	w->quiet_ms = now_ms();
	if (w->dirty_ms == NEVER)
		w->dirty_ms = w->quiet_ms;
}

static void on_event(void *ctx, const struct event *event)
{
	struct watch *w = ctx;

	if (event->generation == w->repaired)
		return;
	w->adopt = strcmp(event->name, "transocks-rules") == 0;
	culprits_add(&w->by, event);
	mark_dirty(w);
}

static void watch_read_events(struct watch *w)
{
	int r;

	while ((r = events_read(&w->events, on_event, w)) == -ENOBUFS) {
		w->adopt = false;
		w->by.more = true;
		mark_dirty(w);
	}
	if (r == 0)
		r = route_events_read(w->route_events);
	if (r > 0)
		mark_dirty(w);
	if (r < 0)
		w->failed = r;
}

/* The new half, and nothing else, of the trial that was wanted. */
static bool is_confirmed(struct watch *w, const struct model *m)
{
	struct diff diff = {0};
	bool same;

	if (!trial_is_on(&w->want) || trial_is_on(m))
		return false;
	trial_keep_new(&w->want); /* it is replaced anyway */
	same = diff_models(&w->want, m, &diff) == 0 && diff.n == 0;
	diff_free(&diff);
	return same;
}

/* The tool itself has made another table than the one that was wanted. */
static void tell_adopted(struct watch *w, const struct model *m)
{
	bool replaces = w->present;

	if (drain_is_on(m) && !drain_is_on(&w->want))
		tell(w, "draining", "table " MODEL_TABLE_TEXT " draining: new flows go direct",
		     &w->by, NULL);
	else if (trial_is_over(m))
		tell(w, "trial_ended", "the trial of table " MODEL_TABLE_TEXT " has ended", &w->by,
		     NULL);
	else if (is_confirmed(w, m))
		tell(w, "confirmed", "table " MODEL_TABLE_TEXT " confirmed", &w->by, NULL);
	else
		tell(w, "installed",
		     replaces ? "table " MODEL_TABLE_TEXT " installed again"
			      : "table " MODEL_TABLE_TEXT " installed",
		     &w->by, NULL);
}

/* The tool itself, or the end of a trial, has made it so. Takes over *m. */
static void watch_adopt(struct watch *w, const struct have *have, struct model *m)
{
	struct diff diff = {0};

	w->flushed = !have->present;
	w->told = IN_SYNC;
	w->told_differences[0] = '\0';
	if (!have->present) {
		if (w->present)
			tell(w, "removed", "table " MODEL_TABLE_TEXT " removed", &w->by, NULL);
		w->present = false;
		return;
	}
	if (diff_models(&w->want, m, &diff) == 0 && (!w->present || diff.n > 0))
		tell_adopted(w, m);
	w->present = true;
	diff_free(&diff);
	model_free(&w->want);
	w->want = *m;
	*m = (struct model){.n_sets = 0};
}

static enum finding watch_compare(const struct watch *w, const struct have *have,
				  const struct model *m, struct diff *diff)
{
	if (!have->present)
		return w->flushed ? IN_SYNC : REMOVED;
	if (!have->ours)
		return FOREIGN;
	if (diff_models(&w->want, m, diff) < 0)
		return CHANGED;
	return w->flushed || diff->n > 0 ? CHANGED : IN_SYNC;
}

/* What it begins with. */
static void tell_watching(struct watch *w, enum finding found, const struct diff *diff)
{
	static const char *const texts[] = {
		[IN_SYNC] = "watching table " MODEL_TABLE_TEXT,
		[REMOVED] = "watching table " MODEL_TABLE_TEXT ", which is not there",
		[FOREIGN] = "watching table " MODEL_TABLE_TEXT ", which is not ours",
		[CHANGED] = "watching table " MODEL_TABLE_TEXT ", which is not as intended",
	};

	w->watching = true;
	tell(w, "watching", texts[found], NULL, found == CHANGED ? diff : NULL);
}

static void tell_finding(struct watch *w, enum finding found, const struct diff *diff)
{
	bool seen = w->by.n > 0 || w->by.more;

	switch (found) {
	case IN_SYNC:
		tell(w, "in_sync", "table " MODEL_TABLE_TEXT " is as intended again", NULL, NULL);
		break;
	case REMOVED:
		if (!seen && (w->want.flags & NFT_TABLE_F_OWNER))
			tell(w, "removed",
			     "table " MODEL_TABLE_TEXT
			     " is not there: it vanishes with transocksd, which owns it",
			     NULL, NULL);
		else
			tell(w, "removed",
			     seen ? "table " MODEL_TABLE_TEXT " removed"
				  : "table " MODEL_TABLE_TEXT " is not there",
			     &w->by, NULL);
		break;
	case FOREIGN:
		tell(w, "foreign", "table " MODEL_TABLE_TEXT " is now one that is not ours", &w->by,
		     NULL);
		break;
	case CHANGED:
		tell(w, "changed",
		     seen ? "table " MODEL_TABLE_TEXT " changed"
			  : "table " MODEL_TABLE_TEXT " is not as intended",
		     &w->by, diff);
		break;
	}
}

/* Says what is new in it. */
static void watch_found(struct watch *w, enum finding found, const struct diff *diff)
{
	char differences[sizeof(w->told_differences)];
	struct strbuf sb;

	strbuf_init(&sb, differences, sizeof(differences));
	for (size_t i = 0; i < diff->n; i++)
		difference_format(&diff->items[i], &sb);
	if (!w->watching)
		tell_watching(w, found, diff);
	else if (found != w->told || strcmp(differences, w->told_differences) != 0)
		tell_finding(w, found, diff);
	w->told = found;
	snprintf(w->told_differences, sizeof(w->told_differences), "%s", differences);
}

/* Milliseconds until the next repair is allowed; 0: now. */
static int64_t repair_wait(struct watch *w, int64_t now)
{
	while (w->n_repairs > 0 && w->repairs_ms[0] + MINUTE_MS <= now) {
		w->n_repairs--;
		memmove(w->repairs_ms, w->repairs_ms + 1, w->n_repairs * sizeof(now));
	}
	return w->n_repairs < REPAIRS_MAX ? 0 : w->repairs_ms[0] + MINUTE_MS - now;
}

static void watch_repaired(struct watch *w)
{
	w->repairs_ms[w->n_repairs++] = now_ms();
	w->told_failure[0] = '\0';
	w->retry_ms = NEVER;
	w->retry_delay_ms = RETRY_MS;
}

static int watch_repair_table(struct watch *w, struct diag *d)
{
	struct have have;
	int r = sync_table(&w->k, &w->want, false, &have, d);

	if (r < 0)
		return r;
	w->repaired = have.generation + 1; /* held by the batch itself */
	w->present = true;
	w->told = IN_SYNC;
	w->told_differences[0] = '\0';
	tell(w, "repaired", "repaired: table " MODEL_TABLE_TEXT " installed again", NULL, NULL);
	return 0;
}

static int watch_repair_routes(struct watch *w, struct diag *d)
{
	struct routes_change done = {.n = 0};
	int r = watch_routes_repair(&w->want, &done, d);

	if (r == 0) {
		w->told_routes[0] = '\0';
		tell_routes(w, "routes_repaired",
			    "repaired: the ip rules and routes of TPROXY are as intended again",
			    NULL);
	}
	routes_change_free(&done);
	return r;
}

static void watch_repair_failed(struct watch *w, const struct diag *d)
{
	char text[sizeof(w->told_failure) + 64];

	if (strcmp(d->text, w->told_failure) != 0) {
		snprintf(w->told_failure, sizeof(w->told_failure), "%s", d->text);
		snprintf(text, sizeof(text), "cannot repair: %s", d->text);
		tell(w, "repair_failed", text, NULL, NULL);
	}
	w->retry_ms = now_ms() + w->retry_delay_ms;
	if (w->retry_delay_ms < MINUTE_MS)
		w->retry_delay_ms *= 2;
}

/* The routes before the table, as install does it: no marked packet is without its way then. */
static void watch_repair(struct watch *w, bool table, bool routes)
{
	int64_t now = now_ms(), wait_ms = repair_wait(w, now);
	char text[128];
	struct diag d;
	int r = 0;

	if (wait_ms > 0) {
		snprintf(text, sizeof(text),
			 "table " MODEL_TABLE_TEXT
			 " was repaired %d times within a minute: not again for %lld s",
			 REPAIRS_MAX, (long long)(wait_ms + 999) / 1000);
		if (w->retry_ms == NEVER)
			tell(w, "paused", text, NULL, NULL);
		w->retry_ms = now + wait_ms;
		return;
	}
	if (routes)
		r = watch_repair_routes(w, &d);
	if (r == 0 && table)
		r = watch_repair_table(w, &d);
	if (r == 0)
		watch_repaired(w);
	else
		watch_repair_failed(w, &d);
}

/* What is new in them. */
static void watch_found_routes(struct watch *w, const struct routes_change *lacks)
{
	char differences[sizeof(w->told_routes)];
	struct strbuf sb;

	strbuf_init(&sb, differences, sizeof(differences));
	routes_change_tell(lacks, &sb);
	if (strcmp(differences, w->told_routes) == 0)
		return;
	if (lacks->n == 0)
		tell_routes(w, "routes_in_sync",
			    "the ip rules and routes of TPROXY are as intended again", NULL);
	else
		tell_routes(w, "routes_changed",
			    "the ip rules and routes of TPROXY are not as intended", lacks);
	snprintf(w->told_routes, sizeof(w->told_routes), "%s", differences);
}

/* Whether they are as the table needs them. 1: not; 0; -ERESTART: they are changing; another negative errno with `d`. */
static int watch_look_at_routes(struct watch *w, struct diag *d)
{
	struct routes_change lacks = {.n = 0};
	int r = watch_routes_compare(&w->want, &lacks, d);

	if (r == 0) {
		watch_found_routes(w, &lacks);
		r = lacks.n > 0;
	}
	routes_change_free(&lacks);
	return r;
}

/* Whether it is to be so from now on. That a trial runs out is no change by anybody. */
static bool watch_is_meant(const struct watch *w, const struct have *have, const struct model *m)
{
	bool ran_out =
		have->ours && trial_is_over(m) && trial_is_on(&w->want) && !trial_is_over(&w->want);

	return w->watching && (ran_out || (w->adopt && (have->ours || !have->present)));
}

/* Compares the table with what is meant, and says so. 0, or a negative errno with `d` filled. */
static int watch_look_at_table(struct watch *w, enum finding *found, struct diag *d)
{
	struct diff diff = {0};
	struct have have;
	struct model m;
	int r = sync_read(&w->k, &have, &m, d);

	if (r < 0)
		return r;
	*found = IN_SYNC;
	if (watch_is_meant(w, &have, &m)) {
		watch_adopt(w, &have, &m);
	} else {
		*found = watch_compare(w, &have, &m, &diff);
		watch_found(w, *found, &diff);
		w->present = have.present;
		/* So that live exceptions come back as well. */
		if (*found == IN_SYNC && carry_elements(&w->want, &m) < 0)
			r = diag_no_memory(d);
	}
	diff_free(&diff);
	model_free(&m);
	w->adopt = false;
	w->by = (struct culprits){.n = 0};
	return r;
}

/* What install and flush do to the routes and to the table does not belong together before they are done: they hold
 * the lock as long. 0, -EBUSY: look again soon, or another negative errno with `d` filled. */
static int watch_look_at_both(struct watch *w, int lock, struct diag *d)
{
	enum finding found;
	int r = watch_look_at_table(w, &found, d), routes = 0;

	if (r < 0 || w->failed < 0)
		return r;
	if (lock == -EBUSY)
		return -EBUSY;
	if (w->flushed) {
		w->told_routes[0] = '\0';
		w->retry_ms = NEVER;
		return 0;
	}
	if (found != REMOVED || w->repair)
		routes = watch_look_at_routes(w, d);
	if (routes < 0)
		return routes == -ERESTART ? -EBUSY : routes;
	if (found == IN_SYNC && routes == 0)
		w->retry_ms = NEVER;
	else if (w->repair)
		watch_repair(w, found != IN_SYNC, routes > 0);
	return 0;
}

/* 0, or a negative errno with `d` filled. */
static int watch_look(struct watch *w, struct diag *d)
{
	int r, lock = lock_try();

	w->looked_ms = now_ms();
	watch_read_events(w); /* of whoever held the lock until now */
	r = watch_look_at_both(w, lock, d);
	lock_drop(lock);
	w->dirty_ms = NEVER;
	if (r == -EBUSY) /* it goes on changing */
		mark_dirty(w);
	return r == -EBUSY ? 0 : r;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t watch_due(const struct watch *w)
{
	bool owned = (w->want.flags & NFT_TABLE_F_OWNER) != 0;
	int64_t due = w->looked_ms + (owned ? LOOK_OWNED_MS : LOOK_MS);

	if (w->dirty_ms != NEVER)
		/* What the tool itself has made is to be seen before others change it. */
		due = w->adopt ? 0 : earlier(w->quiet_ms + QUIET_MS, w->dirty_ms + QUIET_MAX_MS);
	return earlier(due, w->retry_ms);
}

/* Until a signal comes. 0, or a negative errno with `d` filled. */
static int watch_loop(struct watch *w, struct diag *d)
{
	struct pollfd fds[] = {{.fd = w->signals, .events = POLLIN},
			       {.fd = events_fd(&w->events), .events = POLLIN},
			       {.fd = w->route_events, .events = POLLIN}};
	int r = 0;

	while (r == 0 && w->failed == 0 && !(fds[0].revents & POLLIN)) {
		int64_t wait_ms = watch_due(w) - now_ms();

		if (poll(fds, ARRAY_LEN(fds), wait_ms > 0 ? (int)wait_ms : 0) < 0 && errno != EINTR)
			return diag_set(d, errno, NULL, 0, "poll: %s", strerror(errno));
		if (fds[1].revents != 0 || fds[2].revents != 0)
			watch_read_events(w);
		if (watch_due(w) <= now_ms())
			r = watch_look(w, d);
	}
	if (r == 0 && w->failed < 0)
		r = diag_set(d, -w->failed, NULL, 0, "cannot go on: %s", strerror(-w->failed));
	return r;
}

static int watch_hold_signals(struct diag *d)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	fd = sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -1 : signalfd(-1, &set, SFD_CLOEXEC);
	return fd >= 0 ? fd : diag_set(d, errno, NULL, 0, "signals: %s", strerror(errno));
}

static int watch_with(struct watch *w, const struct args *a, struct report *r)
{
	struct want want;
	int err, code = intent_build(a, &want, &w->want, r);

	if (code != 0)
		return code;
	report_print_warnings(r);
	w->signals = err = watch_hold_signals(&r->error);
	if (err >= 0)
		err = events_open(&w->events, &r->error);
	if (err < 0)
		return report_exit_code(err);
	w->route_events = err = route_events_open(&r->error);
	if (err >= 0)
		err = watch_look(w, &r->error);
	if (err == 0)
		err = watch_loop(w, &r->error);
	if (w->route_events >= 0)
		close(w->route_events);
	events_close(&w->events);
	close(w->signals);
	return report_exit_code(err);
}

int watch_run(const struct args *a, struct report *r)
{
	struct watch w = {.as_json = a->json, .repair = a->repair};
	int code, err = kernel_open(&w.k, &r->error);

	if (iptables_is_used(&w.k, err, a->conf->redirect.backend, r)) {
		kernel_close(&w.k);
		return iptables_watch_run(a, r);
	}
	if (err < 0)
		return report_exit_code(err);
	w.k.control = a->conf->control;
	w.dirty_ms = w.retry_ms = NEVER;
	w.retry_delay_ms = RETRY_MS;
	code = watch_with(&w, a, r);
	model_free(&w.want);
	kernel_close(&w.k);
	return code;
}
