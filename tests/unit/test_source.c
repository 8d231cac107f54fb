/* SPDX-License-Identifier: MIT */
/*
 * From which of several addresses a connection is made. In a network namespace of its own, where each address has
 * four ports.
 */
#include "daemon/net/dial.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/unit/fds.h"

#define PORTS     4 /* 40000 to 40003 */
#define PEER_PORT 50000

static bool namespaced;

static struct loop loop;
static int listeners[2]; /* 127.0.0.1, ::1 */
static struct addr peers[2];
static unsigned fds_before;

struct probe {
	struct dial dial;
	unsigned ends;
	int status;
	struct source *won;
};

static void on_done(struct dial *d, int status)
{
	struct probe *p = d->owner;

	p->ends++;
	p->status = status;
	p->won = d->won;
	loop_stop(&loop);
}

static int setup(void **state)
{
	static const char *const at[] = {"127.0.0.1", "::1"};

	(void)state;
	if (!namespaced)
		return 0;
	fds_before = fds_open();
	if (loop_init(&loop, NULL) < 0)
		return -1;
	for (size_t i = 0; i < 2; i++) {
		struct addr a;

		addr_parse(&a, at[i]);
		a.port = PEER_PORT;
		listeners[i] = sock_listen(&a, &(struct sock_listen_options){0}, NULL);
		if (listeners[i] < 0)
			return -1;
		peers[i] = a;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (!namespaced)
		return 0;
	for (size_t i = 0; i < 2; i++)
		close(listeners[i]);
	loop_destroy(&loop);
	return fds_open() == fds_before ? 0 : -1;
}

static void need_namespace(void **state)
{
	(void)state;
	if (!namespaced)
		skip();
}

static struct addr_list sources(struct addr *mem, const char *const *texts)
{
	struct addr_list list = {.addrs = mem};

	for (; texts[list.n] != NULL; list.n++)
		assert_int_equal(addr_parse(&mem[list.n], texts[list.n]), 0);
	return list;
}

static void connect_from(struct probe *p, const struct addr_list *list, unsigned turn,
			 const struct addr *to)
{
	const struct sock_options o = {.source = list, .source_turn = turn};

	memset(p, 0, sizeof(*p));
	dial_addr(&p->dial, &loop, &o, to, on_done, p);
	loop_run(&loop);
	assert_int_equal(p->ends, 1);
}

/* A connection, from that place in the list; with a reset at the end its ports are free again. */
static void hang_up(struct probe *p)
{
	int fd = p->won->fd;

	loop_unwatch(&loop, p->won);
	sock_close_reset(fd);
	p->won = NULL;
}

static void expect_from(struct probe *p, int place, const char *ip)
{
	char text[ADDR_TEXT_MAX];
	struct addr local;

	assert_int_equal(p->status, 0);
	local = sock_local(p->won->fd);
	assert_string_equal(addr_format_ip(&local, text, sizeof(text)), ip);
	assert_int_equal(p->dial.source, place);
}

static void each_has_its_turn(void **state)
{
	static const char *const texts[] = {"127.0.0.5", "::1", "127.0.0.6", "127.0.0.7", NULL};
	static const int places[] = {0, 2, 3, 0, 2};
	struct addr mem[4];
	struct addr_list list = sources(mem, texts);
	struct probe p;

	need_namespace(state);
	for (unsigned turn = 0; turn < ARRAY_LEN(places); turn++) {
		connect_from(&p, &list, turn, &peers[0]);
		expect_from(&p, places[turn], texts[places[turn]]);
		hang_up(&p);
		connect_from(&p, &list, turn, &peers[1]);
		expect_from(&p, 1, "::1");
		hang_up(&p);
	}
	connect_from(&p, &list, UINT32_MAX, &peers[0]);
	assert_int_equal(p.status, 0);
	hang_up(&p);
}

static void none_is_the_kernels_choice(void **state)
{
	struct addr_list empty = {.n = 0};
	struct probe p;

	need_namespace(state);
	connect_from(&p, NULL, 7, &peers[0]);
	expect_from(&p, -1, "127.0.0.1");
	hang_up(&p);
	connect_from(&p, &empty, 7, &peers[1]);
	expect_from(&p, -1, "::1");
	hang_up(&p);
}

/* Also one that left this host, as a virtual address does. */
static void one_that_is_not_ours_is_passed_over(void **state)
{
	static const char *const texts[] = {"192.0.2.1", "127.0.0.6", "2001:db8::1", NULL};
	struct addr mem[3];
	struct addr_list list = sources(mem, texts);
	struct probe p;

	need_namespace(state);
	for (unsigned turn = 0; turn < 2; turn++) {
		connect_from(&p, &list, turn, &peers[0]);
		expect_from(&p, 1, "127.0.0.6");
		hang_up(&p);
	}
	connect_from(&p, &list, 0, &peers[1]);
	assert_int_equal(p.status, -EADDRNOTAVAIL);
	assert_int_equal(p.dial.source, 2);
}

static void a_family_without_source_is_not_used(void **state)
{
	static const char *const texts[] = {"127.0.0.5", NULL};
	struct addr mem[1];
	struct addr_list list = sources(mem, texts);
	struct probe p;

	need_namespace(state);
	connect_from(&p, &list, 0, &peers[1]);
	assert_int_equal(p.status, -EAFNOSUPPORT);
	assert_int_equal(p.dial.source, -1);
}

/* Twice four ports for eight connections; each destination has them all. */
static void ports_of_all_are_used(void **state)
{
	static const char *const texts[] = {"127.0.0.5", "127.0.0.6", NULL};
	struct addr mem[2], other;
	struct addr_list list = sources(mem, texts);
	struct probe probes[2 * PORTS], p;
	int fd;

	need_namespace(state);
	for (unsigned i = 0; i < ARRAY_LEN(probes); i++) {
		int place = i < PORTS ? 0 : 1;

		connect_from(&probes[i], &list, 0, &peers[0]);
		expect_from(&probes[i], place, texts[place]);
	}
	connect_from(&p, &list, 0, &peers[0]);
	assert_int_equal(p.status, -EADDRNOTAVAIL);
	assert_int_equal(p.dial.source, 1);
	connect_from(&p, &list, 1, &peers[0]);
	assert_int_equal(p.status, -EADDRNOTAVAIL);
	assert_int_equal(p.dial.source, 0);

	addr_parse(&other, "127.0.0.9");
	other.port = PEER_PORT;
	fd = sock_listen(&other, &(struct sock_listen_options){0}, NULL);
	assert_true(fd >= 0);
	connect_from(&p, &list, 0, &other);
	expect_from(&p, 0, "127.0.0.5");
	hang_up(&p);
	close(fd);

	hang_up(&probes[1]);
	connect_from(&probes[1], &list, 1, &peers[0]);
	expect_from(&probes[1], 0, "127.0.0.5");
	for (unsigned i = 0; i < ARRAY_LEN(probes); i++)
		hang_up(&probes[i]);
}

static void refusals_say_from_where(void **state)
{
	static const char *const texts[] = {"127.0.0.5", "127.0.0.6", NULL};
	struct addr mem[2], nobody = peers[0];
	struct addr_list list = sources(mem, texts);
	struct probe p;

	need_namespace(state);
	nobody.port = 9;
	connect_from(&p, &list, 1, &nobody);
	assert_int_equal(p.status, -ECONNREFUSED);
	assert_int_equal(p.dial.source, 1);
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Of root, or of a user who may be root in a namespace. */
static bool namespace_open(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	bool root = geteuid() == 0, up;
	int fd;

	if (unshare(root ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
	if (fd >= 0)
		close(fd);
	return up && put("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003");
}

int main(void)
{
#define SOURCE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		SOURCE_TEST(each_has_its_turn),
		SOURCE_TEST(none_is_the_kernels_choice),
		SOURCE_TEST(one_that_is_not_ours_is_passed_over),
		SOURCE_TEST(a_family_without_source_is_not_used),
		SOURCE_TEST(ports_of_all_are_used),
		SOURCE_TEST(refusals_say_from_where),
	};

	namespaced = namespace_open();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
