/* SPDX-License-Identifier: MIT */
/*
 * Borrowing the netlink socket from a daemon that passes more descriptors than it should: none stays open.
 */
#include "rulemgr/loan.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/rules_loan.h"
#include "tests/unit/fds.h"

#define PASSED_MAX 2

/* What the daemon of a case sends: for each connection up to two pieces, each with so many descriptors. */
struct piece {
	const char *text;
	size_t n_passed;
};

struct daemon {
	int listener;
	const struct piece (*answers)[2];
	size_t n_answers;
	int ends[PASSED_MAX]; /* passed; of netlink */
};

static struct sockaddr_un control = {.sun_family = AF_UNIX};

static void send_piece(int fd, const struct piece *p, const int *ends)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(PASSED_MAX * sizeof(int))];
	} passed = {.bytes = {0}};
	struct iovec iov = {(void *)p->text, strlen(p->text)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (p->n_passed > 0) {
		m.msg_control = passed.bytes;
		m.msg_controllen = CMSG_SPACE(p->n_passed * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_len = CMSG_LEN(p->n_passed * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(c), ends, p->n_passed * sizeof(int));
	}
	sendmsg(fd, &m, MSG_NOSIGNAL);
}

static void *serve(void *arg)
{
	struct daemon *d = arg;
	char request[64];

	for (size_t i = 0; i < d->n_answers; i++) {
		int fd = accept(d->listener, NULL, NULL);

		if (recv(fd, request, sizeof(request), 0) > 0) {
			for (size_t k = 0; k < 2 && d->answers[i][k].text != NULL; k++)
				send_piece(fd, &d->answers[i][k], d->ends);
			recv(fd, request, sizeof(request), 0); /* until it is closed */
		}
		close(fd);
	}
	return NULL;
}

/* What loan_begin() returned; the loan has ended again. */
static int borrow(const struct piece (*answers)[2], size_t n_answers)
{
	struct daemon daemon = {.answers = answers, .n_answers = n_answers};
	struct loan l;
	struct diag d;
	pthread_t thread;
	unsigned before;
	int r;

	daemon.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(bind(daemon.listener, (struct sockaddr *)&control, sizeof(control)),
			   errno);
	assert_return_code(listen(daemon.listener, 8), errno);
	for (size_t i = 0; i < PASSED_MAX; i++)
		daemon.ends[i] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	before = fds_open();
	assert_int_equal(pthread_create(&thread, NULL, serve, &daemon), 0);
	r = loan_begin(&l, control.sun_path, true, &d);
	if (r == 0)
		loan_end(&l);
	pthread_join(thread, NULL);
	assert_int_equal(fds_open(), before);
	for (size_t i = 0; i < PASSED_MAX; i++)
		close(daemon.ends[i]);
	close(daemon.listener);
	unlink(control.sun_path);
	return r;
}

#define NONE_KEPT "{\"error\":\"" RULES_ERROR_NONE "\"}\n"

static void test_one(void **state)
{
	static const struct piece answers[][2] = {{{RULES_DONE, 1}}};

	(void)state;
	assert_int_equal(borrow(answers, 1), 0);
}

static void test_spare_ones(void **state)
{
	static const struct piece at_once[][2] = {{{RULES_DONE, 2}}};
	static const struct piece in_pieces[][2] = {{{"{", 1}, {"}\n", 1}}};
	static const struct piece beside_an_error[][2] = {
		{{"{\"error\":\"" RULES_ERROR_WRONG "\"}\n", 1}}};
	static const struct piece for_keeping[][2] = {
		{{NONE_KEPT, 0}}, {{RULES_DONE, 1}}, {{RULES_DONE, 1}}};

	(void)state;
	assert_int_equal(borrow(at_once, 1), 0);
	assert_int_equal(borrow(in_pieces, 1), 0);
	assert_int_equal(borrow(beside_an_error, 1), -EPROTO);
	assert_int_equal(borrow(for_keeping, 3), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_spare_ones),
	};

	/* Which network a socket is of is told to whoever may administer that network. */
	if (geteuid() != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		puts("skipped: needs root or a user namespace");
		return 0;
	}
	snprintf(control.sun_path, sizeof(control.sun_path), "/tmp/transocks-loan-%d.sock",
		 (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
