/* SPDX-License-Identifier: MIT */
#include "rulemgr/resolve.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "rulemgr/listeners.h"
#include "rulemgr/netns.h"

static void test_users(void **state)
{
	static const struct {
		const char *user;
		int result;
		uid_t uid;
	} cases[] = {
		{"0", 0, 0},
		{"990", 0, 990},
		{"010", 0, 10}, /* not octal */
		{"4294967294", 0, 4294967294u},
		{"4294967295", -EINVAL, 0},
		{"99999999999999999999", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"root", 0, 0},
		{"no-such-user-here", -ENOENT, 0},
		{"-1", -ENOENT, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct diag d = {.text = ""};
		uid_t uid = 12345;

		assert_int_equal(resolve_user(&uid, cases[i].user, &d), cases[i].result);
		assert_int_equal(uid, cases[i].result == 0 ? cases[i].uid : 12345);
		assert_int_equal(d.text[0] == '\0', cases[i].result == 0);
	}
}

static void test_interfaces(void **state)
{
	char name[IFNAMSIZ] = "untouched";
	struct diag d;

	(void)state;
	assert_int_equal(resolve_interface(name, "no-such-if", &d), -ENODEV);
	assert_non_null(strstr(d.text, "no-such-if"));
	assert_string_equal(name, "untouched");
	assert_int_equal(resolve_interface(name, "lo", &d), 0);
	assert_string_equal(name, "lo");
}

static void test_cgroup_without_v2(void **state)
{
	struct want_cgroup g;
	struct diag d;

	(void)state;
	assert_int_equal(resolve_cgroup(&g, "/tmp", "a/b", &d), -EOPNOTSUPP);
	assert_non_null(strstr(d.text, "exempt_uids")); /* the remedy */
}

static void test_netns_names(void **state)
{
	static const struct {
		const char *name, *text;
		int result;
	} cases[] = {
		{"", "is empty", -EINVAL},
		{"no-such-name", "no /run/netns/no-such-name", -ENOENT},
		{"/no/such/path", "no /no/such/path", -ENOENT},
		{"999999999", "no such process", -ENOENT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct diag d;

		assert_int_equal(netns_enter(cases[i].name, &d), cases[i].result);
		if (strstr(d.text, cases[i].text) == NULL)
			fail_msg("%s: %s", cases[i].name, d.text);
	}
}

/* From a file's text to the wish. Returns the exit code. */
static int want(const char *text, struct args *a, struct want *w, struct report *r)
{
	char path[] = "/tmp/test_rules_resolve.XXXXXX";
	FILE *file = fdopen(mkstemp(path), "w");
	struct diag d = {.text = ""};
	bool by_flag;

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	*a = (struct args){.file = path};
	if (args_load(a, &by_flag, &d) != 0)
		fail_msg("%s", d.text);
	remove(path);
	report_init(r, "test", false);
	return resolve_want(a, true, w, r);
}

static void finish(struct args *a, struct report *r)
{
	args_free(a);
	strbuf_free(&r->text);
	strbuf_free(&r->members);
}

static void test_want(void **state)
{
	struct report r;
	struct args a;
	struct want w;

	(void)state;
	assert_int_equal(want("listen = [\"127.0.0.1:99\", \"[::1]:98\"]\n"
			      "user = \"0\"\nmode = \"tproxy\"\n"
			      "proxy_url = \"socks5://[2001:db8::1]:1080\"\n"
			      "[redirect]\ngateway = [\"lo\", \"lo\"]\nfamily = \"ipv4\"\n"
			      "exempt_uids = [\"root\", 0, 7]\n",
			      &a, &w, &r),
			 0);
	assert_int_equal(w.port, 99);
	assert_int_equal(w.uid, 0);
	assert_int_equal(w.mode, REDIRECT_MODE_TPROXY);
	assert_int_equal(w.mark.value, DEFAULT_MARK_VALUE);
	assert_int_equal(w.tproxy_mark.value, DEFAULT_TPROXY_MARK_VALUE);
	assert_true(w.family[LISTENERS_IPV4]);
	assert_false(w.family[LISTENERS_IPV6]);
	assert_int_equal(w.n_gateways, 1);
	assert_string_equal(w.gateways[0], "lo");
	assert_int_equal(w.n_exempt_uids, 2);
	assert_int_equal(w.exempt_uids[1], 7);
	assert_int_equal(w.n_upstreams, 1);
	assert_int_equal(w.upstreams[0].family, AF_INET6);
	assert_int_equal(w.upstreams[0].port, 1080);
	assert_ptr_equal(w.redirect, &a.conf->redirect);
	assert_int_equal(r.n_warnings, 0);
	finish(&a, &r);
}

/* What the daemon dials as an upstream; a probe's destination is asked of one. */
static void test_want_upstreams(void **state)
{
	static const char *const expected[] = {"10.0.0.1:1080", "[fd00::1]:3128", "10.0.0.1:1081"};
	char text[ADDR_TEXT_MAX];
	struct report r;
	struct args a;
	struct want w;

	(void)state;
	assert_int_equal(want("user = \"0\"\n"
			      "[[upstream]]\nurl = \"socks5://10.0.0.1\"\n"
			      "[[upstream]]\nurl = \"direct://\"\n"
			      "[[upstream]]\nurl = \"http://[fd00::1]:3128\"\ngroup = \"far\"\n"
			      "[[upstream]]\nurl = \"socks4a://10.0.0.1:1081\"\n"
			      "[[upstream]]\nurl = \"http://10.0.0.1:1080\"\n"
			      "[group.far]\nprobe_interval = \"9s\"\nprobe_dest = \"11.0.0.1:80\"\n"
			      "[[rule]]\ngroup = \"far\"\nnetworks = [\"11.0.0.2\"]\n",
			      &a, &w, &r),
			 0);
	assert_int_equal(w.n_upstreams, ARRAY_LEN(expected));
	for (size_t i = 0; i < ARRAY_LEN(expected); i++)
		assert_string_equal(addr_format(&w.upstreams[i], text, sizeof(text)), expected[i]);
	assert_int_equal(r.n_warnings, 0);
	finish(&a, &r);
}

static void test_want_port_of_flag(void **state)
{
	struct report r;
	struct args a;
	struct want w;

	(void)state;
	assert_int_equal(want("user = \"root\"\nproxy_url = \"direct://\"\n", &a, &w, &r), 0);
	assert_int_equal(w.port, DEFAULT_TRANSOCKS_PORT);
	assert_int_equal(w.n_upstreams, 0);
	a.port = 7;
	assert_int_equal(resolve_want(&a, true, &w, &r), 0);
	assert_int_equal(w.port, 7);
	finish(&a, &r);
}

static void test_want_errors(void **state)
{
	static const struct {
		const char *file, *text;
		int code;
	} cases[] = {
		{"user = \"no-such-user\"", "no user \"no-such-user\" on this host; give",
		 EX_CONFIG},
		{"user = \"4294967295\"", "not a uid", EX_CONFIG},
		{"user = \"0\"\nredirect.exempt_uids = [\"no-such-user\"]",
		 "exempt_uids: no user \"no-such-user\"", EX_CONFIG},
		{"user = \"0\"\nredirect.gateway = [\"no-such-if\"]",
		 "gateway no-such-if: no such interface", EXIT_FAILURE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct report r;
		struct args a;
		struct want w;

		assert_int_equal(want(cases[i].file, &a, &w, &r), cases[i].code);
		if (strstr(r.error.text, cases[i].text) == NULL)
			fail_msg("%s: %s", cases[i].file, r.error.text);
		finish(&a, &r);
	}
}

static void test_missing_gateway_is_a_warning(void **state)
{
	struct report r;
	struct args a;
	struct want w;

	(void)state;
	want("user = \"0\"\nredirect.gateway = [\"no-such-if\", \"lo\", \"no-such-if\"]", &a, &w,
	     &r);
	assert_int_equal(resolve_want(&a, false, &w, &r), 0);
	assert_int_equal(w.n_gateways, 2);
	assert_string_equal(w.gateways[0], "no-such-if");
	assert_string_equal(w.gateways[1], "lo");
	assert_int_equal(r.n_warnings, 2);
	assert_string_equal(r.warnings[0].text, "gateway no-such-if: no such interface");
	finish(&a, &r);
}

/* RFC 6761: nobody resolves a name below "invalid". */
static void test_unknown_upstream_is_a_warning(void **state)
{
	struct report r;
	struct args a;
	struct want w;

	(void)state;
	assert_int_equal(
		want("user = \"0\"\nproxy_url = \"socks5://proxy.invalid:1080\"\n", &a, &w, &r), 0);
	assert_int_equal(w.n_upstreams, 0);
	assert_int_equal(r.n_warnings, 1);
	assert_non_null(strstr(r.warnings[0].text, "upstream proxy.invalid: "));
	finish(&a, &r);
	assert_int_equal(
		want("user = \"0\"\nproxy_url = \"socks5://localhost:1080\"\n", &a, &w, &r), 0);
	assert_true(w.n_upstreams >= 1);
	assert_true(addr_is_loopback(&w.upstreams[0]));
	assert_int_equal(w.upstreams[0].port, 1080);
	finish(&a, &r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_interfaces),
		cmocka_unit_test(test_cgroup_without_v2),
		cmocka_unit_test(test_netns_names),
		cmocka_unit_test(test_want),
		cmocka_unit_test(test_want_upstreams),
		cmocka_unit_test(test_want_port_of_flag),
		cmocka_unit_test(test_want_errors),
		cmocka_unit_test(test_missing_gateway_is_a_warning),
		cmocka_unit_test(test_unknown_upstream_is_a_warning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
