/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whether users and passwords are right. crypt(3) takes milliseconds to a tenth of a second, on purpose, so it runs on
 * threads of its own, at lower priority than the workers, and not for every flow: who was right is remembered for a
 * moment, and flows that ask the same thing at the same time wait for one answer.
 *
 * One for the daemon, behind one lock. What waits is bounded, in all and for each client address, so that wrong
 * passwords cost their senders' turn and not that of others. A password lives here until it has been checked and is
 * wiped then; what is remembered is a keyed hash.
 */
#include <pthread.h>

#include "daemon/core/hash.h"
#include "daemon/core/loop.h"
#include "policy/addr.h"
#include "policy/users.h"

#define LOGINS_THREADS        2
#define LOGINS_JOBS_MAX       128
#define LOGINS_PER_CLIENT_MAX 8     /* different ones */
#define LOGINS_REMEMBER_MS    60000 /* since crypt(3) said so */
#define LOGINS_SETS           256
#define LOGINS_WAYS           4

enum login_result {
	LOGIN_OK,
	LOGIN_NO_USER,
	LOGIN_WRONG_PASSWORD,
	LOGIN_BUSY,  /* too much is waiting already */
	LOGIN_WAITS, /* the answer comes later */
};

/* NULL for LOGIN_OK, else a constant sentence for the log. */
const char *login_error(enum login_result r);

struct login_job;

/* Keyed, so that nobody can look for two that are alike. */
struct login_digest {
	uint64_t half[2];
};

/* Of one worker: where answers for it come in. Embedded. */
struct login_desk {
	struct loop *loop;
	struct logins *logins;
	struct list done; /* guarded by logins->lock */
	struct post post;
};

/* One that waits. Embedded, zero at first; belongs to its worker. */
struct login {
	struct list node; /* guarded by logins->lock: of its job, or of its desk */
	struct login_job *job;
	struct login_desk *desk;
	enum login_result result;
	bool waiting;
	void (*fn)(struct login *l, enum login_result r); /* on the worker's thread */
};

struct logins {
	pthread_mutex_t lock; /* guards all that follows but the keys */
	pthread_cond_t wake;
	struct hash_key keys[3];
	pthread_t threads[LOGINS_THREADS];
	unsigned n_threads; /* started with the first job */
	bool stopping, ready;
	struct login_job *jobs; /* LOGINS_JOBS_MAX of them; NULL until the first one */
	struct list queue, free;
	struct login_seen {
		struct login_digest digest;
		uint64_t until_ms;
	} seen[LOGINS_SETS][LOGINS_WAYS];
	/* Written under the lock; SHARED_GET() without it. Jobs, the first three. */
	uint64_t n_waiting, n_running;
	uint64_t n_checked; /* by crypt(3) */
	uint64_t n_refused; /* LOGIN_BUSY */
};

/* 0 or -errno with `d`. */
int logins_init(struct logins *ls, struct diag *d);
/* Nobody waits any more (BUG otherwise). Waits for what a thread is at. All zeros are fine. */
void logins_destroy(struct logins *ls);

void login_desk_init(struct login_desk *desk, struct logins *ls, struct loop *loop);

/* Who asks, and what. */
struct login_request {
	const struct users *users;
	const char *user, *password; /* of any bytes; not used after the call */
	size_t user_len, password_len;
	const struct addr *client; /* as clients_of() says */
};

/* On the worker's thread. LOGIN_WAITS: `fn` will be called with `l`, unless it is cancelled. */
enum login_result login_check(struct login *l, struct login_desk *desk,
			      const struct login_request *q,
			      void (*fn)(struct login *l, enum login_result r));
/* Fine where nothing waits. */
void login_cancel(struct login *l);
