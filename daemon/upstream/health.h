/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whether an upstream is worth trying, from what became of attempts at it. Time and chance are parameters.
 *
 *   HEALTH_UP         three failures in a row          -> HEALTH_EJECTED, for 1 s
 *   HEALTH_EJECTED    its time is over, somebody tries -> HEALTH_TRIAL
 *                     worked (who had no other choice) -> HEALTH_RETURNING
 *   HEALTH_TRIAL      failed                           -> HEALTH_EJECTED, for twice as long
 *                     worked                           -> HEALTH_RETURNING
 *   HEALTH_RETURNING  one failure                      -> HEALTH_EJECTED, for twice as long
 *                     10 s                             -> HEALTH_UP
 *
 * Attempts that began before the present state say nothing about it: of 500 that fail together three eject and
 * the others are too late to make it longer, and what had been accepted before the ejection does not end it.
 *
 * Any thread. Who finds it up and succeeds reads two words and takes no lock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HEALTH_FAILURES   3 /* in a row */
#define HEALTH_BACKOFF_MS 1000
/* A quarter of each is left to chance: gateways that lost an upstream together do not come back to it
 * together. */
#define HEALTH_BACKOFF_MAX_MS 60000
#define HEALTH_RAMP_MS        10000 /* from nothing to its whole share */
/* A trial whose end nobody has told is forgotten then. */
#define HEALTH_TRIAL_MS 60000
#define HEALTH_FULL     1000 /* health_share() */

enum health_state { HEALTH_UP, HEALTH_EJECTED, HEALTH_TRIAL, HEALTH_RETURNING };

/* What came of telling: the caller logs it. */
enum health_change {
	HEALTH_SAME,
	HEALTH_LOST,       /* is ejected now */
	HEALTH_STILL_LOST, /* the trial failed: ejected for longer */
	HEALTH_FOUND,      /* works again and returns slowly */
	HEALTH_WHOLE,      /* has its whole share again */
};

/* Written under the lock, read without. */
struct health {
	atomic_uint state;             /* enum health_state */
	atomic_uint failures;          /* in a row, while it is up */
	atomic_uint_fast64_t since_ms; /* of the state */
	atomic_uint_fast64_t until_ms; /* the last ejection */
	pthread_mutex_t lock;
	uint64_t backoff_ms; /* the last one without chance; 0: it has been up since then */
};

void health_init(struct health *h);
void health_destroy(struct health *h);

/* An attempt that began at `began_ms` has failed by the upstream's fault, or worked. `random`: any bits. */
enum health_change health_failed(struct health *h, uint64_t began_ms, uint64_t now_ms,
				 uint32_t random);
enum health_change health_worked(struct health *h, uint64_t began_ms, uint64_t now_ms);
/* It ended without showing either; if it was the trial, another one may be made. */
void health_unknown(struct health *h, uint64_t began_ms);

/* How much of its usual share it should get, 0..HEALTH_FULL: 0 while it is ejected. */
unsigned health_share(const struct health *h, uint64_t now_ms);
/* Whether the ejection is over, so that somebody may take the trial. */
bool health_is_due(const struct health *h, uint64_t now_ms);
/* Takes the trial. False: somebody else has. */
bool health_take_trial(struct health *h, uint64_t now_ms);
/* HEALTH_WHOLE once, if the slow return is over. */
enum health_change health_look(struct health *h, uint64_t now_ms);
