/* SPDX-License-Identifier: MIT */
#include "daemon/net/owner.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/net/sock.h"

static const struct sock_options plain;

/* A listener and a connection to it. */
struct pair {
	int listener, fd;
	struct addr local, remote;
};

static void pair_open(struct pair *p)
{
	struct addr a;
	int rc;

	assert_int_equal(addr_parse(&a, "127.0.0.1"), 0);
	p->listener = sock_listen(&a, &(struct sock_listen_options){0}, NULL);
	assert_true(p->listener >= 0);
	p->remote = sock_local(p->listener);
	p->fd = sock_stream(AF_INET, &plain);
	assert_true(p->fd >= 0);
	rc = sock_connect(p->fd, &p->remote);
	assert_true(rc == 0 || rc == -EINPROGRESS);
	p->local = sock_local(p->fd);
}

static void pair_close(struct pair *p)
{
	close(p->fd);
	close(p->listener);
}

/* Which connections are ours, one question after the other by one socket. */
static void test_own_and_others(void **state)
{
	struct addr nowhere;
	struct owner o;
	struct pair p;
	int fd;

	(void)state;
	pair_open(&p);
	owner_init(&o);
	assert_int_equal(addr_parse_endpoint(&nowhere, "127.0.0.1:1"), 0);
	assert_true(owner_is_self(&o, &p.local, &p.remote));
	fd = o.fd;
	for (int i = 0; i < 3; i++) {
		assert_false(owner_is_self(&o, &nowhere, &p.remote));
		assert_true(owner_is_self(&o, &p.local, &p.remote));
	}
	assert_int_equal(o.fd, fd);
	owner_close(&o);
	owner_close(&o);
	pair_close(&p);
}

/* The same user, another process. */
static void test_of_a_child(void **state)
{
	struct owner o;
	struct pair p;
	pid_t child;
	int status;

	(void)state;
	pair_open(&p);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(p.fd);
		owner_init(&o);
		_exit(owner_is_self(&o, &p.local, &p.remote) ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	pair_close(&p);
}

/* An answer that nobody has read is not taken for the next one. */
static void test_answer_left_behind(void **state)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} q = {.header = {.nlmsg_len = sizeof(q),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST},
	       .body = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP}};
	struct owner o;
	struct pair p;

	(void)state;
	pair_open(&p);
	owner_init(&o);
	assert_true(owner_is_self(&o, &p.local, &p.remote));
	q.header.nlmsg_seq = o.seq;
	assert_int_equal(send(o.fd, &q, sizeof(q), 0), sizeof(q)); /* there is none: an error */
	assert_true(owner_is_self(&o, &p.local, &p.remote));
	owner_close(&o);
	pair_close(&p);
}

/* Without a descriptor it is nobody's; later it is asked again. */
static void test_out_of_descriptors(void **state)
{
	struct rlimit usual, none;
	struct owner o;
	struct pair p;

	(void)state;
	pair_open(&p);
	owner_init(&o);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = usual.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_false(owner_is_self(&o, &p.local, &p.remote));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
	assert_true(owner_is_self(&o, &p.local, &p.remote));
	owner_close(&o);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_and_others),
		cmocka_unit_test(test_of_a_child),
		cmocka_unit_test(test_answer_left_behind),
		cmocka_unit_test(test_out_of_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
