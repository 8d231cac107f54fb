/* SPDX-License-Identifier: MIT */
/*
 * What iptables-legacy and iptables-nft make of our text, and the kernel of theirs: in namespaces of our
 * own, which need no root where user namespaces are allowed; skipped where they are not.
 */
#include "rulemgr/iptables_sync.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rulemgr/backend.h"
#include "rulemgr/iptables_run.h"

static const char *const variants[] = {"legacy", "nft"};

static bool in_namespace;

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		assert_true(write(fd, text, strlen(text)) > 0 || errno == EPERM);
		close(fd);
	}
}

/* A host with the lock of iptables, and ours, to itself. */
static int setup(void **state)
{
	int flags = CLONE_NEWNET | CLONE_NEWNS;
	char uids[64], gids[64];

	(void)state;
	snprintf(uids, sizeof(uids), "0 %u 1", geteuid());
	snprintf(gids, sizeof(gids), "0 %u 1", getegid());
	in_namespace = unshare(flags) == 0;
	if (!in_namespace && unshare(flags | CLONE_NEWUSER) == 0) {
		write_file("/proc/self/setgroups", "deny");
		write_file("/proc/self/uid_map", uids);
		write_file("/proc/self/gid_map", gids);
		in_namespace = true;
	}
	in_namespace = in_namespace && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		       mount("tmpfs", "/run", "tmpfs", 0, NULL) == 0;
	return 0;
}

/* Puts that variant's programs under the wants[HOST] names into PATH, on a host of their own. */
static void use(const char *variant)
{
	static const char *const names[] = {"iptables-save", "iptables-restore", "ip6tables-save",
					    "ip6tables-restore"};
	char dir[64], from[128], to[128];

	if (!in_namespace)
		skip();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	snprintf(from, sizeof(from), "/usr/sbin/xtables-%s-multi", variant);
	if (access(from, X_OK) < 0)
		skip();
	snprintf(dir, sizeof(dir), "/run/%s", variant);
	mkdir(dir, 0755);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(to, sizeof(to), "%s/%s", dir, names[i]);
		unlink(to);
		assert_int_equal(symlink(from, to), 0);
	}
	setenv("PATH", dir, 1);
}

static struct prefix prefix(const char *text)
{
	struct prefix p;

	assert_int_equal(prefix_parse(&p, text), 0);
	return p;
}

static void ignore_difference(void *ctx, int family, bool missing, const struct iptables_line *l)
{
	(void)ctx, (void)family, (void)missing, (void)l;
}

static void show_difference(void *ctx, int family, bool missing, const struct iptables_line *l)
{
	(void)ctx;
	print_error("%s %s: -t %s -A %s %s\n", listeners_family[family],
		    missing ? "missing" : "extra", l->table, l->chain,
		    l->kind == IPTABLES_CHAIN ? "(chain)" : l->rest);
}

/* 0: what is installed is what is wanted, line by line. */
static int compare(const struct want *w, iptables_differs_fn *fn)
{
	struct iptables_have have;
	struct diag d;
	int n;

	assert_int_equal(iptables_read(&have, &d), 0);
	n = iptables_compare(&have, w, fn, NULL);
	iptables_have_free(&have);
	return n;
}

static int differences(const struct want *w)
{
	return compare(w, show_difference);
}

static bool differs(const struct want *w)
{
	return compare(w, ignore_difference) > 0;
}

static void install(const struct want *w)
{
	struct iptables_result result;
	struct diag d = {.text = ""};

	if (iptables_install(&(struct iptables_request){.want = w}, &result, &d) < 0)
		fail_msg("%s", d.text);
}

static void flush(void)
{
	struct iptables_result result;
	struct diag d = {.text = ""};

	if (iptables_flush(false, false, &result, &d) < 0)
		fail_msg("%s", d.text);
}

/* Without counters and remarks. */
static void saved(int family, struct strbuf *out)
{
	struct strbuf raw;
	struct diag d;

	strbuf_init_heap(&raw);
	strbuf_init_heap(out);
	assert_int_equal(iptables_save(family, IPTABLES_PLAIN, &raw, &d), 0);
	for (char *save, *line = strtok_r(raw.data, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		if (line[0] == '[')
			line += strcspn(line, " ") + 1;
		if (line[0] == ':')
			line[strcspn(line, "[")] = '\0';
		if (line[0] != '#')
			strbuf_printf(out, "%s\n", line);
	}
	strbuf_free(&raw);
}

static struct prefix bypass[] = {
	{.family = AF_INET, .len = 8, .ip = {11}},
	{.family = AF_INET, .len = 32, .ip = {12, 1, 2, 3}},
	{.family = AF_INET6, .len = 128, .ip = {0x2a, 0, 0, 1, [15] = 9}},
	{.family = AF_INET6, .len = 20, .ip = {0x2a, 0, 0x10}},
	{.family = AF_INET, .len = 0},
};
static struct prefix anyway[] = {{.family = AF_INET, .len = 15, .ip = {198, 18}},
				 {.family = AF_INET6, .len = 20, .ip = {0x3f, 0xff}}};
static struct port_range ports[] = {{22, 22},     {80, 80},      {443, 443},   {1000, 2000},
				    {3000, 3001}, {4000, 4000},  {5000, 5010}, {6000, 6001},
				    {7000, 7001}, {8000, 8010},  {9000, 9000}, {9002, 9002},
				    {9004, 9004}, {65535, 65535}};
static struct mark marks[] = {{5, UINT32_MAX}, {0, 0xf0}, {0x20000, 0xff0000}};

#define REDIRECT(n, ...)                                   \
	&(const struct redirect)                           \
	{                                                  \
		.share = (n), .priority = -99, __VA_ARGS__ \
	}
#define MARK        .port = 1081, .mark = {0x1000, 0x1000}
#define BASE        MARK, .family = {true, true}
#define GATEWAY     .gateways = {"lan0", "eth1.100"}, .n_gateways = 2
#define TPROXY(...) .mode = REDIRECT_MODE_TPROXY, .tproxy_mark = {__VA_ARGS__}
#define QUIC        .quic = REDIRECT_QUIC_REJECT
#define UPSTREAMS                                                                          \
	.upstreams = {{.family = AF_INET, .port = 1080, .ip = {11, 1, 1, 1}},              \
		      {.family = AF_INET6, .port = 443, .ip = {0x2a, 0, 0, 1, [15] = 1}}}, \
	.n_upstreams = 2

enum { HOST, WITH_GATEWAY, WITH_QUIC, WITH_TPROXY, TPROXY_GATEWAY };

static const struct want wants[] = {
	[HOST] = {BASE},
	[WITH_GATEWAY] = {BASE, GATEWAY},
	[WITH_QUIC] = {BASE, .redirect = REDIRECT(37, QUIC), GATEWAY},
	[WITH_TPROXY] = {BASE, TPROXY(0x2000, 0x2000)},
	[TPROXY_GATEWAY] = {BASE, TPROXY(7, UINT32_MAX), GATEWAY, UPSTREAMS},
	{.port = 65535, .family = {true, true}},
	{.port = 1, .mark = {5, UINT32_MAX}, .family = {true, true}},
	{BASE, UPSTREAMS},
	{MARK, .family = {true, false}},
	{MARK, .family = {false, true}},
	{BASE, .redirect = &(const struct redirect){.share = 100, .priority = -150}, GATEWAY},
	{BASE, .redirect = REDIRECT(100, .bypass = {bypass, ARRAY_LEN(bypass)})},
	{BASE, .redirect = REDIRECT(100, .redirect_anyway = {anyway, ARRAY_LEN(anyway)})},
	{BASE, .redirect = REDIRECT(100, .ports = {ports, 1})},
	{BASE, .redirect = REDIRECT(100, .ports = {ports, ARRAY_LEN(ports)}), GATEWAY},
	{BASE, .redirect = REDIRECT(100, .exempt_marks = {marks, ARRAY_LEN(marks)}), GATEWAY},
	{BASE, .redirect = REDIRECT(0, )},
	{BASE, .redirect = REDIRECT(5, )},
	{BASE, .redirect = REDIRECT(90, )},
	{BASE, .redirect = REDIRECT(99, ), GATEWAY},
	{BASE, .redirect = REDIRECT(100, QUIC)},
	{BASE, .redirect = REDIRECT(100, QUIC, .ports = {ports, 2})},
	{BASE, TPROXY(0x2000, 0x2000), GATEWAY,
	 .redirect = REDIRECT(11, QUIC, .ports = {ports, ARRAY_LEN(ports)}, .bypass = {bypass, 4})},
};

/* In each variant: what is saved is what was wanted, coming from nothing, from itself and from any other;
 * and with the end of it nothing of ours is left. */
static void test_round_trip(void **state)
{
	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		use(variants[v]);
		for (size_t i = 0; i < ARRAY_LEN(wants); i++) {
			install(&wants[i]);
			if (differences(&wants[i]) != 0)
				fail_msg("%s, case %zu", variants[v], i);
		}
		install(&wants[WITH_GATEWAY]);
		install(&wants[WITH_GATEWAY]);
		assert_int_equal(differences(&wants[WITH_GATEWAY]), 0);
		assert_true(differs(&wants[HOST]));
		flush();
		assert_int_equal(differences(NULL), 0);
		flush();
	}
}

static const char foreign[] =
	"*nat\n"
	":MINE - [0:0]\n"
	"-A OUTPUT -p tcp -m tcp --dport 8080 -j MINE\n"
	"-A OUTPUT -m comment --comment \"a -j TRANSOCKS_OUTPUT b\" -j RETURN\n"
	"-A PREROUTING -i lan9 -j MINE\n"
	"-A MINE -p tcp -j REDIRECT --to-ports 99\n"
	"COMMIT\n"
	"*filter\n"
	":TRANSOCKS_X - [0:0]\n"
	"-A INPUT -p tcp -m tcp --dport 22 -j TRANSOCKS_X\n"
	"-A OUTPUT -p udp -m udp --dport 443 -j ACCEPT\n"
	"COMMIT\n";

/* Somebody may have added a jump of ours twice, or from a chain of his own. */
static void test_foreign_rules_stay(void **state)
{
	static const char more[] =
		"*nat\n"
		"-A OUTPUT -m comment --comment transocks-rules -j TRANSOCKS_OUTPUT\n"
		"-A MINE -p tcp -j TRANSOCKS_TAKE\n"
		"-A TRANSOCKS_TAKE -p tcp -j ACCEPT\n"
		"COMMIT\n";
	struct strbuf body, before[2], after;
	struct diag d;

	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		use(variants[v]);
		for (int f = 0; f < 2; f++) {
			strbuf_init_heap(&body);
			strbuf_puts(&body, foreign);
			assert_int_equal(iptables_restore(f, IPTABLES_PLAIN, &body, false, &d), 0);
			strbuf_free(&body);
			saved(f, &before[f]);
		}
		install(&wants[WITH_QUIC]);
		strbuf_init_heap(&body);
		strbuf_puts(&body, more);
		if (iptables_restore(0, IPTABLES_PLAIN, &body, false, &d) < 0)
			fail_msg("%s", d.text);
		strbuf_free(&body);
		assert_true(differs(&wants[WITH_QUIC]));
		install(&wants[WITH_QUIC]);
		assert_int_equal(differences(&wants[WITH_QUIC]), 0);
		flush();
		for (int f = 0; f < 2; f++) {
			saved(f, &after);
			assert_string_equal(after.data, before[f].data);
			strbuf_free(&after);
			strbuf_free(&before[f]);
		}
	}
}

static void append_exception(void *ctx, int family, const char *match, const char *comment)
{
	strbuf_printf(ctx, "%d %s \"%s\"\n", family, match, comment);
}

static void assert_exceptions(const char *expected)
{
	struct iptables_have have;
	struct strbuf list;
	struct diag d;

	strbuf_init_heap(&list);
	assert_int_equal(iptables_read(&have, &d), 0);
	iptables_bypass_list(&have, append_exception, &list);
	assert_string_equal(list.data, expected);
	strbuf_free(&list);
	iptables_have_free(&have);
}

/* Through a reinstall, another mode and another set of tables; also what somebody appended by hand. */
static void test_exceptions(void **state)
{
	static const char by_hand[] = "*nat\n"
				      "-A TRANSOCKS_BYPASS -d 13.0.0.0/8 -p tcp -j RETURN\n"
				      "COMMIT\n";
	static const size_t order[] = {HOST, WITH_QUIC, WITH_TPROXY, TPROXY_GATEWAY, HOST};
	static const char all[] = "0 -d 11.1.0.0/16 \"it's \"why\"\"\n"
				  "0 -d 13.0.0.0/8 -p tcp \"\"\n"
				  "1 -d 2a00:1::7/128 \"\"\n";
	struct prefix four = prefix("11.1.0.0/16"), six = prefix("2a00:1::7");
	struct strbuf body;
	struct diag d;

	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		use(variants[v]);
		assert_int_equal(iptables_bypass_add(&four, NULL, false, &d), -ENOENT);
		install(&wants[HOST]);
		assert_exceptions("");
		if (iptables_bypass_add(&four, "it's \"why\"", false, &d) != 0)
			fail_msg("%s", d.text);
		assert_int_equal(iptables_bypass_add(&four, NULL, false, &d), -EEXIST);
		assert_int_equal(iptables_bypass_add(&six, NULL, true, &d), 0);
		assert_int_equal(iptables_bypass_add(&six, NULL, false, &d), 0);
		assert_int_equal(iptables_bypass_add(&six, "two\nlines", false, &d), -EINVAL);
		strbuf_init_heap(&body);
		strbuf_puts(&body, by_hand);
		assert_int_equal(iptables_restore(0, IPTABLES_PLAIN, &body, false, &d), 0);
		strbuf_free(&body);
		for (size_t i = 0; i < ARRAY_LEN(order); i++) {
			install(&wants[order[i]]);
			assert_exceptions(all);
			assert_int_equal(differences(&wants[order[i]]), 0);
		}
		assert_int_equal(iptables_bypass_del(&four, true, &d), 0);
		assert_int_equal(iptables_bypass_del(&four, false, &d), 0);
		assert_int_equal(iptables_bypass_del(&four, false, &d), -ESRCH);
		assert_int_equal(iptables_bypass_del(&six, false, &d), 0);
		assert_exceptions("0 -d 13.0.0.0/8 -p tcp \"\"\n");
		flush();
	}
}

static void test_pause(void **state)
{
	struct iptables_result result;
	struct iptables_have have;
	struct diag d;

	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		use(variants[v]);
		assert_int_equal(iptables_pause(&d), -ENOENT);
		install(&wants[WITH_QUIC]);
		assert_int_equal(iptables_flush(false, true, &result, &d), -ECANCELED);
		assert_int_equal(differences(&wants[WITH_QUIC]), 0);
		assert_int_equal(iptables_pause(&d), 0);
		assert_int_equal(iptables_pause(&d), 0);
		assert_int_equal(iptables_read(&have, &d), 0);
		assert_true(have.present && have.paused);
		assert_int_equal(have.n_ports, 1);
		assert_int_equal(have.ports[0], 1081);
		iptables_have_free(&have);
		assert_int_equal(differences(&wants[WITH_QUIC]), 0); /* it is no drift */
		install(&wants[WITH_QUIC]);
		assert_int_equal(iptables_read(&have, &d), 0);
		assert_false(have.paused);
		iptables_have_free(&have);
		flush();
	}
}

/* A rule that the kernel refuses, in the second table of the first family and in the second family. */
static void test_failure_is_undone(void **state)
{
	struct want bad = wants[WITH_QUIC];
	struct iptables_result result;
	struct strbuf before[2], after, body;
	struct diag d;

	(void)state;
	bad.exempt_cgroups[0] = (struct want_cgroup){.path = "no/such group"};
	bad.n_exempt_cgroups = 1;
	for (size_t v = 0; v < ARRAY_LEN(variants) * 2; v++) {
		use(variants[v / 2]);
		bad.family[LISTENERS_IPV4] = v % 2 == 0;
		install(&wants[TPROXY_GATEWAY]);
		strbuf_init_heap(&body);
		strbuf_puts(&body,
			    "*mangle\n-I TRANSOCKS_BYPASS 1 -d 9.9.9.9/32 -j RETURN\nCOMMIT\n");
		assert_int_equal(iptables_restore(0, IPTABLES_PLAIN, &body, false, &d), 0);
		strbuf_free(&body);
		for (int f = 0; f < 2; f++)
			saved(f, &before[f]);
		assert_true(iptables_install(&(struct iptables_request){.want = &bad}, &result,
					     &d) < 0);
		assert_non_null(strstr(d.text, "everything is as it was before"));
		for (int f = 0; f < 2; f++) {
			saved(f, &after);
			assert_string_equal(after.data, before[f].data);
			strbuf_free(&after);
			strbuf_free(&before[f]);
		}
	}
}

static void test_dry_run(void **state)
{
	struct iptables_result result;
	struct diag d;

	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		use(variants[v]);
		assert_int_equal(iptables_install(&(struct iptables_request){.want = &wants[HOST],
									     .dry_run = true},
						  &result, &d),
				 0);
		assert_false(result.present);
		assert_int_equal(differences(NULL), 0);
		install(&wants[HOST]);
		assert_int_equal(
			iptables_install(&(struct iptables_request){.want = &wants[TPROXY_GATEWAY],
								    .dry_run = true},
					 &result, &d),
			0);
		assert_int_equal(iptables_flush(true, false, &result, &d), 0);
		assert_true(result.present);
		assert_int_equal(differences(&wants[HOST]), 0);
	}
}

/* Looking makes no table, in no variant. */
static void test_backends(void **state)
{
	struct backends b;
	char why[512];
	struct iptables_have have;
	struct diag d;

	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
		use(variants[v]);
		assert_int_equal(iptables_read(&have, &d), 0);
		assert_false(have.present);
		iptables_have_free(&have);
		backends_read(&b);
		assert_string_equal(b.legacy_tables[LISTENERS_IPV4], "");
		assert_string_equal(b.variant[LISTENERS_IPV4], v == 0 ? "legacy" : "nf_tables");
		install(&wants[HOST]);
		backends_read(&b);
		if (v == 0) {
			assert_non_null(strstr(b.legacy_tables[LISTENERS_IPV4], "nat"));
			assert_int_equal(
				backend_choose(REDIRECT_BACKEND_AUTO, &b, why, sizeof(why)),
				REDIRECT_BACKEND_NFT);
			assert_non_null(strstr(why, "legacy tables of iptables beside it"));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),        cmocka_unit_test(test_foreign_rules_stay),
		cmocka_unit_test(test_exceptions),        cmocka_unit_test(test_pause),
		cmocka_unit_test(test_failure_is_undone), cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_backends),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
