/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/health.h"

static unsigned health_state(const struct health *h)
{
	return atomic_load_explicit(&h->state, memory_order_relaxed);
}

static uint64_t health_since(const struct health *h)
{
	return atomic_load_explicit(&h->since_ms, memory_order_relaxed);
}

static uint64_t health_until(const struct health *h)
{
	return atomic_load_explicit(&h->until_ms, memory_order_relaxed);
}

static void health_set(struct health *h, enum health_state state, uint64_t now_ms)
{
	atomic_store_explicit(&h->failures, 0, memory_order_relaxed);
	atomic_store_explicit(&h->since_ms, now_ms, memory_order_relaxed);
	atomic_store_explicit(&h->state, state, memory_order_relaxed);
}

void health_init(struct health *h)
{
	atomic_init(&h->state, HEALTH_UP);
	atomic_init(&h->failures, 0);
	atomic_init(&h->since_ms, 0);
	atomic_init(&h->until_ms, 0);
	h->backoff_ms = 0;
	pthread_mutex_init(&h->lock, NULL);
}

void health_destroy(struct health *h)
{
	pthread_mutex_destroy(&h->lock);
}

static void health_eject(struct health *h, uint64_t now_ms, uint32_t random)
{
	uint64_t ms = h->backoff_ms == 0 ? HEALTH_BACKOFF_MS : 2 * h->backoff_ms;

	if (ms > HEALTH_BACKOFF_MAX_MS)
		ms = HEALTH_BACKOFF_MAX_MS;
	h->backoff_ms = ms;
	atomic_store_explicit(&h->until_ms, now_ms + ms - random % (ms / 4), memory_order_relaxed);
	health_set(h, HEALTH_EJECTED, now_ms);
}

static enum health_change health_failed_locked(struct health *h, uint64_t began_ms, uint64_t now_ms,
					       uint32_t random)
{
	unsigned n;

	switch ((enum health_state)health_state(h)) {
	case HEALTH_UP:
		if (began_ms < health_since(h))
			return HEALTH_SAME;
		n = atomic_load_explicit(&h->failures, memory_order_relaxed) + 1;
		if (n < HEALTH_FAILURES) {
			atomic_store_explicit(&h->failures, n, memory_order_relaxed);
			return HEALTH_SAME;
		}
		health_eject(h, now_ms, random);
		return HEALTH_LOST;
	case HEALTH_RETURNING:
		if (began_ms < health_since(h))
			return HEALTH_SAME;
		health_eject(h, now_ms, random);
		return HEALTH_LOST;
	case HEALTH_EJECTED: /* tried for want of others; that counts once its time is over */
		if (began_ms < health_until(h))
			return HEALTH_SAME;
		break;
	case HEALTH_TRIAL:
		if (began_ms < health_since(h))
			return HEALTH_SAME;
		break;
	}
	health_eject(h, now_ms, random);
	return HEALTH_STILL_LOST;
}

enum health_change health_failed(struct health *h, uint64_t began_ms, uint64_t now_ms,
				 uint32_t random)
{
	enum health_change change;

	pthread_mutex_lock(&h->lock);
	change = health_failed_locked(h, began_ms, now_ms, random);
	pthread_mutex_unlock(&h->lock);
	return change;
}

static bool health_ramp_is_over(const struct health *h, uint64_t now_ms)
{
	return health_state(h) == HEALTH_RETURNING && now_ms >= health_since(h) + HEALTH_RAMP_MS;
}

static enum health_change health_worked_locked(struct health *h, uint64_t began_ms, uint64_t now_ms)
{
	switch ((enum health_state)health_state(h)) {
	case HEALTH_UP: /* what began before this one is past */
		if (began_ms >= health_since(h))
			health_set(h, HEALTH_UP, began_ms);
		break;
	case HEALTH_EJECTED:
		if (began_ms <= health_since(h))
			break;
		health_set(h, HEALTH_RETURNING, now_ms);
		return HEALTH_FOUND;
	case HEALTH_TRIAL:
		if (began_ms < health_since(h))
			break;
		health_set(h, HEALTH_RETURNING, now_ms);
		return HEALTH_FOUND;
	case HEALTH_RETURNING:
		break;
	}
	return HEALTH_SAME;
}

enum health_change health_worked(struct health *h, uint64_t began_ms, uint64_t now_ms)
{
	enum health_change change;
	unsigned state = health_state(h);

	if (state == HEALTH_RETURNING ||
	    (state == HEALTH_UP && atomic_load_explicit(&h->failures, memory_order_relaxed) == 0))
		return HEALTH_SAME;
	pthread_mutex_lock(&h->lock);
	change = health_worked_locked(h, began_ms, now_ms);
	pthread_mutex_unlock(&h->lock);
	return change;
}

/* Its time is over since long: the next one who comes may take the trial. */
void health_unknown(struct health *h, uint64_t began_ms)
{
	if (health_state(h) != HEALTH_TRIAL)
		return;
	pthread_mutex_lock(&h->lock);
	if (health_state(h) == HEALTH_TRIAL && began_ms >= health_since(h))
		health_set(h, HEALTH_EJECTED, health_since(h));
	pthread_mutex_unlock(&h->lock);
}

unsigned health_share(const struct health *h, uint64_t now_ms)
{
	uint64_t since = health_since(h);

	switch ((enum health_state)health_state(h)) {
	case HEALTH_UP:
		return HEALTH_FULL;
	case HEALTH_RETURNING:
		if (now_ms >= since + HEALTH_RAMP_MS)
			return HEALTH_FULL;
		if (now_ms <= since)
			return 1;
		return 1 + (unsigned)((now_ms - since) * (HEALTH_FULL - 1) / HEALTH_RAMP_MS);
	case HEALTH_EJECTED:
	case HEALTH_TRIAL:
		break;
	}
	return 0;
}

bool health_is_due(const struct health *h, uint64_t now_ms)
{
	unsigned state = health_state(h);

	return (state == HEALTH_EJECTED && now_ms >= health_until(h)) ||
	       (state == HEALTH_TRIAL && now_ms >= health_since(h) + HEALTH_TRIAL_MS);
}

bool health_take_trial(struct health *h, uint64_t now_ms)
{
	bool taken;

	pthread_mutex_lock(&h->lock);
	taken = health_is_due(h, now_ms);
	if (taken)
		health_set(h, HEALTH_TRIAL, now_ms);
	pthread_mutex_unlock(&h->lock);
	return taken;
}

enum health_change health_look(struct health *h, uint64_t now_ms)
{
	bool over;

	if (!health_ramp_is_over(h, now_ms))
		return HEALTH_SAME;
	pthread_mutex_lock(&h->lock);
	over = health_ramp_is_over(h, now_ms);
	if (over) {
		h->backoff_ms = 0;
		health_set(h, HEALTH_UP, now_ms);
	}
	pthread_mutex_unlock(&h->lock);
	return over ? HEALTH_WHOLE : HEALTH_SAME;
}
