/* SPDX-License-Identifier: MIT */
#include "daemon/flow/logins.h"

#include <crypt.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon/core/shared.h"

#define NICE 10 /* flows come first */

enum job_state { JOB_FREE, JOB_QUEUED, JOB_RUNNING };

struct login_job {
	struct list node; /* of logins->queue or logins->free */
	struct list waiting;
	enum job_state state;
	struct login_digest digest;
	struct addr client;
	bool user_known;
	bool c_string; /* crypt(3) stops at a NUL, so what is behind one could be anything */
	char password[256];
	char hash[USERS_HASH_MAX + 1];
};

const char *login_error(enum login_result r)
{
	static const char *const texts[] = {
		[LOGIN_NO_USER] = "no such user",
		[LOGIN_WRONG_PASSWORD] = "wrong password",
		[LOGIN_BUSY] = "too many passwords are waiting to be checked",
	};

	return r == LOGIN_OK || r == LOGIN_WAITS ? NULL : texts[r];
}

int logins_init(struct logins *ls, struct diag *d)
{
	int rc = 0;

	memset(ls, 0, sizeof(*ls));
	list_init(&ls->queue);
	list_init(&ls->free);
	for (size_t i = 0; i < ARRAY_LEN(ls->keys) && rc == 0; i++)
		rc = hash_key_init(&ls->keys[i]);
	if (rc < 0)
		return diag_set(d, -rc, NULL, 0, "no random bytes: %s", strerror(-rc));
	pthread_mutex_init(&ls->lock, NULL);
	pthread_cond_init(&ls->wake, NULL);
	ls->ready = true;
	return 0;
}

void logins_destroy(struct logins *ls)
{
	if (!ls->ready)
		return;
	pthread_mutex_lock(&ls->lock);
	BUG_ON(!list_empty(&ls->queue));
	ls->stopping = true;
	pthread_cond_broadcast(&ls->wake);
	pthread_mutex_unlock(&ls->lock);
	for (unsigned i = 0; i < ls->n_threads; i++)
		pthread_join(ls->threads[i], NULL);
	free(ls->jobs);
	pthread_cond_destroy(&ls->wake);
	pthread_mutex_destroy(&ls->lock);
	ls->ready = false;
}

/* --- what was right a moment ago --- */

static struct login_seen *seen_set(struct logins *ls, const struct login_digest *digest)
{
	return ls->seen[digest->half[0] % LOGINS_SETS];
}

static bool digest_equal(const struct login_digest *a, const struct login_digest *b)
{
	return ((a->half[0] ^ b->half[0]) | (a->half[1] ^ b->half[1])) == 0;
}

static bool seen_has(struct logins *ls, const struct login_digest *digest, uint64_t now_ms)
{
	const struct login_seen *set = seen_set(ls, digest);

	for (size_t i = 0; i < LOGINS_WAYS; i++) {
		if (set[i].until_ms > now_ms && digest_equal(&set[i].digest, digest))
			return true;
	}
	return false;
}

static void seen_add(struct logins *ls, const struct login_digest *digest)
{
	struct login_seen *set = seen_set(ls, digest), *oldest = set;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	for (size_t i = 1; i < LOGINS_WAYS; i++) {
		if (set[i].until_ms < oldest->until_ms)
			oldest = &set[i];
	}
	oldest->digest = *digest;
	oldest->until_ms =
		(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + LOGINS_REMEMBER_MS;
}

/* --- the threads --- */

/* The time does not tell where the two differ. */
static bool hash_equal(const char *a, const char *b)
{
	size_t n = strlen(a);
	unsigned char differ = 0;

	if (n != strlen(b)) /* of the same setting they never are */
		return false;
	for (size_t i = 0; i < n; i++)
		differ |= (unsigned char)(a[i] ^ b[i]);
	return differ == 0;
}

/* Takes as long for a user that there is not. */
static bool job_is_right(const struct login_job *job, struct crypt_data *data)
{
	const char *hash = crypt_r(job->password, job->hash, data);
	bool equal = hash != NULL && hash[0] != '*' && hash_equal(hash, job->hash);

	explicit_bzero(data, sizeof(*data));
	return equal && job->user_known && job->c_string;
}

static void job_free(struct logins *ls, struct login_job *job)
{
	explicit_bzero(job->password, sizeof(job->password));
	explicit_bzero(job->hash, sizeof(job->hash));
	if (job->state == JOB_QUEUED)
		SHARED_SUB(ls->n_waiting, 1);
	else
		SHARED_SUB(ls->n_running, 1);
	job->state = JOB_FREE;
	list_del(&job->node);
	list_add_tail(&ls->free, &job->node);
}

/* On the worker's thread. */
static void desk_answers(struct post *p)
{
	struct login_desk *desk = container_of(p, struct login_desk, post);
	struct list *node;

	for (;;) {
		struct login *l;

		pthread_mutex_lock(&desk->logins->lock);
		node = list_pop(&desk->done);
		pthread_mutex_unlock(&desk->logins->lock);
		if (node == NULL)
			return;
		l = container_of(node, struct login, node);
		l->waiting = false;
		l->fn(l, l->result);
	}
}

/* To everybody who waits for it. */
static void job_answer(struct login_job *job, enum login_result result)
{
	struct list *node;

	while ((node = list_pop(&job->waiting)) != NULL) {
		struct login *l = container_of(node, struct login, node);

		l->job = NULL;
		l->result = result;
		list_add_tail(&l->desk->done, &l->node);
		loop_post(l->desk->loop, &l->desk->post, desk_answers);
	}
}

static void *logins_thread(void *arg)
{
	struct logins *ls = arg;
	struct crypt_data *data = calloc(1, sizeof(*data));
	struct list *node;

	setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
	pthread_mutex_lock(&ls->lock);
	while (!ls->stopping) {
		struct login_job *job;
		bool right;

		node = list_pop(&ls->queue);
		if (node == NULL) {
			pthread_cond_wait(&ls->wake, &ls->lock);
			continue;
		}
		job = container_of(node, struct login_job, node);
		job->state = JOB_RUNNING;
		SHARED_SUB(ls->n_waiting, 1);
		SHARED_ADD(ls->n_running, 1);
		SHARED_ADD(ls->n_checked, 1);
		pthread_mutex_unlock(&ls->lock);
		right = data != NULL && job_is_right(job, data);
		pthread_mutex_lock(&ls->lock);
		if (right)
			seen_add(ls, &job->digest);
		job_answer(job, right             ? LOGIN_OK
				: data == NULL    ? LOGIN_BUSY
				: job->user_known ? LOGIN_WRONG_PASSWORD
						  : LOGIN_NO_USER);
		job_free(ls, job);
	}
	pthread_mutex_unlock(&ls->lock);
	free(data);
	return NULL;
}

/* With the first job: most daemons have none. False: not even one thread. */
static bool logins_begin(struct logins *ls)
{
	if (ls->jobs == NULL) {
		ls->jobs = calloc(LOGINS_JOBS_MAX, sizeof(*ls->jobs));
		for (size_t i = 0; ls->jobs != NULL && i < LOGINS_JOBS_MAX; i++) {
			list_init(&ls->jobs[i].waiting);
			list_add_tail(&ls->free, &ls->jobs[i].node);
		}
	}
	while (ls->jobs != NULL && ls->n_threads < LOGINS_THREADS &&
	       pthread_create(&ls->threads[ls->n_threads], NULL, logins_thread, ls) == 0)
		ls->n_threads++;
	return ls->n_threads > 0;
}

/* --- asking --- */

static size_t put_part(uint8_t *out, const void *bytes, size_t n)
{
	out[0] = (uint8_t)n;
	out[1] = (uint8_t)(n >> 8);
	memcpy(out + 2, bytes, n);
	return 2 + n;
}

/* Of the hash in the file as well: with another one it is another question. */
static struct login_digest digest_of(const struct logins *ls, const struct login_request *q,
				     const char *hash)
{
	uint8_t bytes[2 + 255 + 2 + 255 + 2 + USERS_HASH_MAX];
	struct login_digest digest;
	size_t n;

	n = put_part(bytes, q->user, q->user_len);
	n += put_part(bytes + n, q->password, q->password_len);
	n += put_part(bytes + n, hash, strlen(hash));
	digest.half[0] = hash_bytes(&ls->keys[0], bytes, n);
	digest.half[1] = hash_bytes(&ls->keys[1], bytes, n);
	explicit_bzero(bytes, sizeof(bytes));
	return digest;
}

/* The job that asks just that; else a free one, NULL if there is none for this client. */
static struct login_job *job_find(struct logins *ls, const struct login_digest *digest,
				  const struct addr *client)
{
	size_t n = 0;

	for (size_t i = 0; i < LOGINS_JOBS_MAX; i++) {
		struct login_job *job = &ls->jobs[i];

		if (job->state == JOB_FREE)
			continue;
		if (digest_equal(&job->digest, digest))
			return job;
		n += addr_equal_ip(&job->client, client);
	}
	if (n >= LOGINS_PER_CLIENT_MAX || list_empty(&ls->free))
		return NULL;
	return container_of(ls->free.next, struct login_job, node);
}

static void job_begin(struct logins *ls, struct login_job *job, const struct login_digest *digest,
		      const struct login_request *q, const struct user *user, const char *hash)
{
	job->user_known = user != NULL;
	job->c_string = memchr(q->password, '\0', q->password_len) == NULL;
	memcpy(job->password, q->password, q->password_len);
	job->password[q->password_len] = '\0';
	snprintf(job->hash, sizeof(job->hash), "%s", hash);
	job->digest = *digest;
	job->client = *q->client;
	job->state = JOB_QUEUED;
	SHARED_ADD(ls->n_waiting, 1);
	list_del(&job->node);
	list_add_tail(&ls->queue, &job->node);
	pthread_cond_signal(&ls->wake);
}

enum login_result login_check(struct login *l, struct login_desk *desk,
			      const struct login_request *q,
			      void (*fn)(struct login *l, enum login_result r))
{
	struct logins *ls = desk->logins;
	const struct user *user = users_find(q->users, q->user, q->user_len);
	const char *hash =
		(user != NULL ? user
			      : users_any(q->users, hash_bytes(&ls->keys[2], q->user, q->user_len)))
			->hash;
	const struct login_digest digest = digest_of(ls, q, hash);
	struct login_job *job = NULL;
	enum login_result result = LOGIN_BUSY;

	pthread_mutex_lock(&ls->lock);
	if (user != NULL && seen_has(ls, &digest, desk->loop->now_ms))
		result = LOGIN_OK;
	else if (logins_begin(ls))
		job = job_find(ls, &digest, q->client);
	if (job != NULL) {
		if (job->state == JOB_FREE)
			job_begin(ls, job, &digest, q, user, hash);
		*l = (struct login){.job = job, .desk = desk, .waiting = true, .fn = fn};
		list_add_tail(&job->waiting, &l->node);
		result = LOGIN_WAITS;
	}
	if (result == LOGIN_BUSY)
		SHARED_ADD(ls->n_refused, 1);
	pthread_mutex_unlock(&ls->lock);
	return result;
}

void login_cancel(struct login *l)
{
	struct logins *ls;

	if (!l->waiting)
		return;
	ls = l->desk->logins;
	pthread_mutex_lock(&ls->lock);
	list_del(&l->node);
	if (l->job != NULL && l->job->state == JOB_QUEUED && list_empty(&l->job->waiting))
		job_free(ls, l->job);
	pthread_mutex_unlock(&ls->lock);
	l->waiting = false;
}

void login_desk_init(struct login_desk *desk, struct logins *ls, struct loop *loop)
{
	*desk = (struct login_desk){.loop = loop, .logins = ls};
	list_init(&desk->done);
}
