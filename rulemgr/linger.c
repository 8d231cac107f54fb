/* SPDX-License-Identifier: MIT */
#include "rulemgr/linger.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/drain.h"
#include "rulemgr/iptables_sync.h"

/* Between two looks; a look that takes long makes it longer. */
#define LINGER_PAUSE_MIN_MS 100
#define LINGER_PAUSE_MAX_MS 1000
#define LINGER_PAUSE_FACTOR 10
/* Between two lines, where they stay. */
#define LINGER_LINE_MS 5000

struct wait {
	struct kernel *k; /* NULL: iptables */
	const struct have *have;
	struct lingered l;
	int64_t deadline;    /* ms */
	uint32_t generation; /* in which the table was known to be drained */
	bool show, terminal;
	int64_t next_line; /* ms */
};

static sigset_t linger_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	return signals;
}

void linger_hold_signals(void)
{
	sigset_t signals = linger_signals();

	sigprocmask(SIG_BLOCK, &signals, NULL);
}

int linger_begin(struct diag *d)
{
	static const struct timespec at_once;
	sigset_t signals = linger_signals();
	int n;

	linger_hold_signals();
	n = sigtimedwait(&signals, NULL, &at_once);
	if (n <= 0)
		return 0;
	diag_set(d, EINTR, NULL, 0, "stopped by a signal; nothing was changed");
	return EXIT_SIGNAL + n;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 1: they are gone; and here as below 0: they are drained still. */
static int wait_check_iptables(struct diag *d)
{
	struct iptables_have have;
	int r = iptables_read(&have, d);

	if (r < 0)
		return r;
	if (!have.present)
		r = 1;
	else if (!have.paused)
		r = diag_set(d, ECANCELED, NULL, 0,
			     "rules of iptables were installed again meanwhile: they stay");
	iptables_have_free(&have);
	return r;
}

/* Somebody may have changed the table, or any other. One that vanishes with its owner leaves the generation as it is. */
static int wait_check_table(struct wait *w, struct diag *d)
{
	struct have have;
	struct model m;
	uint32_t generation;
	bool over;
	int r = kernel_generation(w->k, &generation);

	if (r < 0)
		return diag_set(d, -r, NULL, 0, "netfilter does not answer");
	if (generation == w->generation && w->have->owner == 0)
		return 0;
	r = sync_read_chains(w->k, &have, &m, d);
	if (r < 0)
		return r;
	over = have.present && drain_is_over(&m);
	model_free(&m);
	w->generation = have.generation;
	if (over)
		return diag_set(d, ECANCELED, NULL, 0,
				"table %s was installed again meanwhile: it stays",
				MODEL_TABLE_TEXT);
	return have.present ? 0 : 1;
}

static void wait_show(struct wait *w, int64_t now)
{
	size_t n = flows_total(&w->l.flows);
	int64_t left_ms = w->deadline > now ? w->deadline - now : 0;

	if (!w->show || (!w->terminal && now < w->next_line))
		return;
	w->next_line = now + LINGER_LINE_MS;
	fprintf(stderr, "%s%zu redirected flow%s left, %lld s%s", w->terminal ? "\r\033[K" : "", n,
		plural(n), (long long)(left_ms + 999) / 1000, w->terminal ? " " : "\n");
	fflush(stderr);
}

/* Returns the number of the signal that came meanwhile, or 0. */
static int wait_pause(const sigset_t *signals, int64_t ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	int n = sigtimedwait(signals, NULL, &pause);

	return n > 0 ? n : 0;
}

/* Looks once. 1: it is over, and w->l.end says how; 0 with *pause_ms: not yet. */
static int wait_look(struct wait *w, int64_t *pause_ms, struct diag *d)
{
	int64_t began = now_ms(), now;
	int r = w->k != NULL ? wait_check_table(w, d) : wait_check_iptables(d);

	if (r > 0)
		w->l.end = LINGER_GONE;
	if (r == 0)
		r = flows_read(w->have, &w->l.flows, d);
	if (r != 0)
		return r;
	now = now_ms();
	if (flows_total(&w->l.flows) == 0) {
		w->l.end = LINGER_DONE;
		return 1;
	}
	if (now >= w->deadline) {
		w->l.end = LINGER_TIME;
		return 1;
	}
	wait_show(w, now);
	*pause_ms = *pause_ms * 2 < LINGER_PAUSE_MAX_MS ? *pause_ms * 2 : LINGER_PAUSE_MAX_MS;
	if (*pause_ms < (now - began) * LINGER_PAUSE_FACTOR)
		*pause_ms = (now - began) * LINGER_PAUSE_FACTOR;
	if (*pause_ms > w->deadline - now)
		*pause_ms = w->deadline - now;
	return 0;
}

static int wait_all(struct wait *w, struct diag *d)
{
	sigset_t signals = linger_signals();
	int64_t pause_ms = LINGER_PAUSE_MIN_MS / 2;

	for (;;) {
		int r = wait_look(w, &pause_ms, d);

		if (r != 0)
			return r < 0 ? r : 0;
		w->l.signal = wait_pause(&signals, pause_ms);
		if (w->l.signal != 0) {
			w->l.end = LINGER_SIGNAL;
			return 0;
		}
	}
}

int linger(struct kernel *k, const struct have *have, int64_t ms, bool show, struct lingered *l,
	   struct diag *d)
{
	struct wait w = {.k = k, .have = have, .show = show};
	int r;

	w.deadline = now_ms() + ms;
	w.terminal = show && isatty(STDERR_FILENO);
	r = wait_all(&w, d);
	if (w.terminal)
		fputs("\r\033[K", stderr);
	if (r == 0)
		*l = w.l;
	return r;
}
