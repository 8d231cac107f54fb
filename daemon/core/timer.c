/* SPDX-License-Identifier: MIT */
#include "daemon/core/timer.h"

#include <limits.h>

/*
 * Level 0 holds the next 64 ticks, a slot for each; a slot of level n spans 64^n ticks and is
 * emptied into the levels below when the wheel reaches its first tick. Distances within a level
 * are 1 to 64 slots: the slot of the present one has been emptied and stands for the next round.
 */
#define DELAY_MAX  ((uint64_t)INT64_MAX / 2) /* keeps sums from overflowing */
#define TICK_NEVER UINT64_MAX

void wheel_init(struct wheel *w, uint64_t now_ms)
{
	*w = (struct wheel){.tick = now_ms / TIMER_TICK_MS};
	for (unsigned level = 0; level < WHEEL_LEVELS; level++)
		for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
			list_init(&w->slots[level][slot]);
}

/* What is further than the coarsest level reaches waits there for as many rounds as it takes. */
static void wheel_file(struct wheel *w, struct timer *t)
{
	uint64_t delta = t->tick - w->tick;
	unsigned level = 0, slot;

	while (level < WHEEL_LEVELS - 1 && delta >> (WHEEL_BITS * (level + 1)) != 0)
		level++;
	slot = (unsigned)(t->tick >> (WHEEL_BITS * level)) % WHEEL_SLOTS;
	w->used[level] |= (uint64_t)1 << slot;
	list_add_tail(&w->slots[level][slot], &t->node);
}

void timer_set(struct wheel *w, struct timer *t, uint64_t now_ms, uint64_t delay_ms,
	       void (*fn)(struct timer *t))
{
	list_del(&t->node);
	if (delay_ms > DELAY_MAX)
		delay_ms = DELAY_MAX;
	t->fn = fn;
	t->tick = (now_ms + delay_ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
	if (t->tick <= w->tick)
		t->tick = w->tick + 1;
	wheel_file(w, t);
}

void timer_init(struct timer *t)
{
	list_init(&t->node);
	t->tick = 0;
	t->fn = NULL;
}

void timer_cancel(struct timer *t)
{
	list_del(&t->node);
}

bool timer_is_set(const struct timer *t)
{
	return !list_empty(&t->node);
}

/* When the first slot of `level` that holds something is due. Bits that cancelled timers left are
 * cleared on the way, so that each is looked at once. */
static uint64_t level_next(struct wheel *w, unsigned level)
{
	uint64_t present = w->tick >> (WHEEL_BITS * level);

	while (w->used[level] != 0) {
		unsigned first = (unsigned)(present + 1) % WHEEL_SLOTS;
		uint64_t used = w->used[level];
		uint64_t turned = used >> first | used << ((WHEEL_SLOTS - first) % WHEEL_SLOTS);
		unsigned distance = (unsigned)__builtin_ctzll(turned);
		unsigned slot = (first + distance) % WHEEL_SLOTS;

		if (!list_empty(&w->slots[level][slot]))
			return (present + 1 + distance) << (WHEEL_BITS * level);
		w->used[level] &= ~((uint64_t)1 << slot);
	}
	return TICK_NEVER;
}

static uint64_t wheel_next(struct wheel *w)
{
	uint64_t next = TICK_NEVER;

	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		uint64_t at = level_next(w, level);

		if (at < next)
			next = at;
	}
	return next;
}

static void wheel_take(struct wheel *w, unsigned level, struct list *out)
{
	unsigned slot = (unsigned)(w->tick >> (WHEEL_BITS * level)) % WHEEL_SLOTS;

	list_init(out);
	list_splice(out, &w->slots[level][slot]);
	w->used[level] &= ~((uint64_t)1 << slot);
}

/* Empties the slots that begin at the present tick, the coarsest first. */
static void wheel_cascade(struct wheel *w)
{
	struct list due, *node;

	for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
		if (w->tick % ((uint64_t)1 << (WHEEL_BITS * level)) != 0)
			continue;
		wheel_take(w, level, &due);
		while ((node = list_pop(&due)) != NULL)
			wheel_file(w, container_of(node, struct timer, node));
	}
}

void wheel_advance(struct wheel *w, uint64_t now_ms)
{
	uint64_t target = now_ms / TIMER_TICK_MS, next;
	struct list due, *node;

	/* What a callback sets is at least a tick ahead, so this ends. */
	while ((next = wheel_next(w)) <= target) {
		w->tick = next;
		wheel_cascade(w);
		wheel_take(w, 0, &due);
		while ((node = list_pop(&due)) != NULL) {
			struct timer *t = container_of(node, struct timer, node);

			t->fn(t);
		}
	}
	if (w->tick < target)
		w->tick = target;
}

int wheel_timeout(struct wheel *w, uint64_t now_ms)
{
	uint64_t next = wheel_next(w), at_ms;

	if (next == TICK_NEVER)
		return -1;
	at_ms = next * TIMER_TICK_MS;
	if (at_ms <= now_ms)
		return 0;
	return at_ms - now_ms > INT_MAX ? INT_MAX : (int)(at_ms - now_ms);
}
