/* SPDX-License-Identifier: MIT */
/* The real crypt(3), real threads, and a loop that is turned by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <crypt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "daemon/flow/logins.h"

/* A user each of: fast to check, and one that keeps a thread busy for long enough to see what waits. */
struct fixture {
	struct logins logins;
	struct loop loop;
	struct login_desk desk;
	struct users *users;
	struct addr client;
	unsigned n_answers, wanted;
	enum login_result last;
};

static struct fixture *fixture; /* of the test that runs */

static struct users *make_users(const char *bob, const char *slow)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	struct users *users = NULL;
	char text[1024];
	struct diag d;
	int n;

	n = snprintf(text, sizeof(text), "bob:%s\n", crypt_r(bob, "$5$rounds=1000$salt", data));
	memset(data, 0, sizeof(*data));
	n += snprintf(text + n, sizeof(text) - (size_t)n, "slow:%s\n",
		      crypt_r(slow, "$6$rounds=60000$salt", data));
	memset(data, 0, sizeof(*data));
	n += snprintf(text + n, sizeof(text) - (size_t)n, "empty:%s\n",
		      crypt_r("", "$5$rounds=1000$salt", data));
	free(data);
	assert_int_equal(users_parse(text, (size_t)n, "users", &users, &d), 0);
	return users;
}

static int setup_fixture(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct diag d;

	assert_int_equal(loop_init(&f->loop, &d), 0);
	assert_int_equal(logins_init(&f->logins, &d), 0);
	login_desk_init(&f->desk, &f->logins, &f->loop);
	f->users = make_users("secret", "slow secret");
	assert_int_equal(addr_parse(&f->client, "10.91.0.2"), 0);
	*state = fixture = f;
	return 0;
}

static int teardown_fixture(void **state)
{
	struct fixture *f = *state;

	logins_destroy(&f->logins);
	loop_destroy(&f->loop);
	users_free(f->users);
	free(f);
	return 0;
}

static void answered(struct login *l, enum login_result r)
{
	assert_false(l->waiting);
	fixture->last = r;
	if (++fixture->n_answers == fixture->wanted)
		loop_stop(&fixture->loop);
}

static enum login_result ask_bytes(struct fixture *f, struct login *l, const char *user,
				   size_t user_len, const char *password, size_t password_len)
{
	const struct login_request q = {.users = f->users,
					.user = user,
					.user_len = user_len,
					.password = password,
					.password_len = password_len,
					.client = &f->client};

	return login_check(l, &f->desk, &q, answered);
}

static enum login_result ask(struct fixture *f, struct login *l, const char *user,
			     const char *password)
{
	return ask_bytes(f, l, user, strlen(user), password, strlen(password));
}

static void wait_answers(struct fixture *f, unsigned n)
{
	f->wanted = f->n_answers + n;
	f->loop.stop = false;
	loop_run(&f->loop);
}

/* The answer, also if it comes later. */
static enum login_result check_bytes(struct fixture *f, const char *user, size_t user_len,
				     const char *password, size_t password_len)
{
	struct login l = {.waiting = false};
	enum login_result r = ask_bytes(f, &l, user, user_len, password, password_len);

	if (r != LOGIN_WAITS)
		return r;
	wait_answers(f, 1);
	return f->last;
}

static enum login_result check(struct fixture *f, const char *user, const char *password)
{
	return check_bytes(f, user, strlen(user), password, strlen(password));
}

static void test_right_and_wrong(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(check(f, "bob", "secret"), LOGIN_OK);
	assert_int_equal(check(f, "slow", "slow secret"), LOGIN_OK);
	assert_int_equal(check(f, "empty", ""), LOGIN_OK);
	assert_int_equal(check(f, "bob", "Secret"), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check(f, "bob", ""), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check(f, "bob", "slow secret"), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check(f, "bobby", "secret"), LOGIN_NO_USER);
	assert_int_equal(check(f, "", ""), LOGIN_NO_USER);
	assert_int_equal(check(f, "", "secret"), LOGIN_NO_USER);
	/* C strings would end there. */
	assert_int_equal(check_bytes(f, "bob", 3, "secret\0y", 8), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check_bytes(f, "bob\0x", 5, "secret", 6), LOGIN_NO_USER);
	assert_int_equal(check_bytes(f, "empty", 5, "\0", 1), LOGIN_WRONG_PASSWORD);
}

static void test_right_is_remembered(void **state)
{
	struct fixture *f = *state;
	struct users *before = f->users;
	struct login l = {.waiting = false};

	assert_int_equal(check(f, "bob", "secret"), LOGIN_OK);
	assert_int_equal(f->logins.n_checked, 1);
	assert_int_equal(ask(f, &l, "bob", "secret"), LOGIN_OK);
	/* Nothing else is. */
	assert_int_equal(check(f, "bob", "wrong"), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check(f, "bob", "wrong"), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check(f, "alice", "secret"), LOGIN_NO_USER);
	assert_int_equal(f->logins.n_checked, 4);
	/* Nor is it with another hash in the file, or once the time is over. */
	f->users = make_users("new", "slow");
	assert_int_equal(check(f, "bob", "secret"), LOGIN_WRONG_PASSWORD);
	users_free(f->users);
	f->users = before;
	assert_int_equal(ask(f, &l, "bob", "secret"), LOGIN_OK);
	f->loop.now_ms += LOGINS_REMEMBER_MS + 1;
	assert_int_equal(check(f, "bob", "secret"), LOGIN_OK);
	assert_int_equal(f->logins.n_checked, 6);
}

static void test_the_same_question_is_asked_once(void **state)
{
	struct fixture *f = *state;
	struct login l[200];

	for (size_t i = 0; i < 200; i++)
		assert_int_equal(ask(f, &l[i], "slow", "slow secret"), LOGIN_WAITS);
	wait_answers(f, 200);
	assert_int_equal(f->last, LOGIN_OK);
	assert_int_equal(f->logins.n_checked, 1);
}

static void test_what_waits_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct login l[LOGINS_JOBS_MAX], more = {.waiting = false};
	char password[32], client[32];
	size_t n = 0;

	f->logins.stopping = true; /* the threads leave everything as it is */
	for (unsigned c = 0; c < LOGINS_JOBS_MAX / LOGINS_PER_CLIENT_MAX; c++) {
		snprintf(client, sizeof(client), c % 2 > 0 ? "10.91.0.%u" : "fd91:0:0:%x::", c);
		assert_int_equal(addr_parse(&f->client, client), 0);
		for (unsigned i = 0; i < LOGINS_PER_CLIENT_MAX; i++) {
			snprintf(password, sizeof(password), "wrong %u %u", c, i);
			assert_int_equal(ask(f, &l[n++], "slow", password), LOGIN_WAITS);
		}
		assert_int_equal(ask(f, &more, "slow", "one more"), LOGIN_BUSY);
	}
	assert_int_equal(addr_parse(&f->client, "10.92.0.1"), 0);
	assert_int_equal(ask(f, &more, "slow", "one more"), LOGIN_BUSY);
	assert_false(more.waiting);
	assert_int_equal(f->logins.n_waiting, LOGINS_JOBS_MAX);
	assert_int_equal(f->logins.n_refused, LOGINS_JOBS_MAX / LOGINS_PER_CLIENT_MAX + 1);
	/* Who asks the same takes no room. Who is gone makes room. */
	assert_int_equal(ask(f, &more, "slow", "wrong 0 0"), LOGIN_WAITS);
	login_cancel(&l[0]);
	assert_int_equal(ask(f, &l[0], "slow", "one more"), LOGIN_BUSY);
	login_cancel(&more);
	assert_int_equal(ask(f, &l[0], "slow", "one more"), LOGIN_WAITS);
	for (size_t i = 0; i < n; i++)
		login_cancel(&l[i]);
	assert_int_equal(ask(f, &more, "slow", "one more"), LOGIN_WAITS);
	login_cancel(&more);
	assert_int_equal(f->n_answers, 0);
	assert_int_equal(f->logins.n_waiting, 0);
	assert_int_equal(f->logins.n_running, 0);
}

static void test_cancelled(void **state)
{
	struct fixture *f = *state;
	struct login a, b, none = {.waiting = false};

	login_cancel(&none);
	/* While it waits, while a thread is at it, with and without another one who waits for the same. */
	assert_int_equal(ask(f, &a, "slow", "wrong"), LOGIN_WAITS);
	login_cancel(&a);
	login_cancel(&a);
	assert_int_equal(ask(f, &a, "slow", "slow secret"), LOGIN_WAITS);
	assert_int_equal(ask(f, &b, "slow", "slow secret"), LOGIN_WAITS);
	login_cancel(&a);
	wait_answers(f, 1);
	assert_int_equal(f->last, LOGIN_OK);
	assert_false(b.waiting);
	/* Answered, but not told yet. */
	assert_int_equal(ask(f, &a, "bob", "secret"), LOGIN_WAITS);
	for (;;) {
		bool done;

		pthread_mutex_lock(&f->logins.lock);
		done = !list_empty(&f->desk.done);
		pthread_mutex_unlock(&f->logins.lock);
		if (done)
			break;
	}
	login_cancel(&a);
	memset(&a, 0xee, sizeof(a));
	assert_int_equal(check(f, "slow", "slow secret"), LOGIN_OK);
	assert_int_equal(check(f, "bob", "wrong"), LOGIN_WRONG_PASSWORD);
	assert_int_equal(f->n_answers, 2);
}

/* Nothing is left of a password once it has been checked. */
static void test_wiped(void **state)
{
	struct fixture *f = *state;
	const void *left;

	assert_int_equal(check(f, "bob", "a-password-of-mine"), LOGIN_WRONG_PASSWORD);
	assert_int_equal(check(f, "bob", "secret"), LOGIN_OK);
	pthread_mutex_lock(&f->logins.lock);
	left = memmem(f->logins.jobs, malloc_usable_size(f->logins.jobs), "a-password", 10);
	pthread_mutex_unlock(&f->logins.lock);
	assert_null(left);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_fixture, teardown_fixture)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_right_and_wrong),
		TEST(test_right_is_remembered),
		TEST(test_the_same_question_is_asked_once),
		TEST(test_what_waits_is_bounded),
		TEST(test_cancelled),
		TEST(test_wiped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
