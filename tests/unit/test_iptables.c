/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "rulemgr/backend.h"
#include "rulemgr/iptables_text.h"

static const struct want plain = {
	.port = 1081, .uid = 990, .mark = {0x1000, 0x1000}, .family = {false, true}};

/* Every byte, for the plain case; other cases are held against the kernel in test_iptables_sync. */
static const char golden[] =
	"# iptables-restore --noflush: nothing, the family is not taken\n"
	"# ip6tables-restore --noflush\n"
	"*filter\n"
	":TRANSOCKS_GUARD - [0:0]\n"
	"-I INPUT -m comment --comment transocks-rules -j TRANSOCKS_GUARD\n"
	"-A TRANSOCKS_GUARD -p tcp -m tcp --dport 1081 --tcp-flags FIN,SYN,RST,ACK SYN"
	" -m conntrack ! --ctstate DNAT --ctdir ORIGINAL"
	" -m comment --comment \"direct connection to the redirect port\""
	" -j REJECT --reject-with tcp-reset\n"
	"COMMIT\n"
	"*nat\n"
	":TRANSOCKS_OUTPUT - [0:0]\n"
	":TRANSOCKS_SPECIAL - [0:0]\n"
	":TRANSOCKS_CONFIGURED - [0:0]\n"
	":TRANSOCKS_BYPASS - [0:0]\n"
	":TRANSOCKS_TAKE - [0:0]\n"
	"-A OUTPUT -m comment --comment transocks-rules -j TRANSOCKS_OUTPUT\n"
	"-A TRANSOCKS_OUTPUT ! -p tcp -m comment --comment \"not TCP\" -j RETURN\n"
	"-A TRANSOCKS_OUTPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
	" -m comment --comment \"not the first packet of a connection\" -j RETURN\n"
	"-A TRANSOCKS_OUTPUT -m mark --mark 0x1000/0x1000"
	" -m comment --comment \"marked by transocksd or usocksd\" -j RETURN\n"
	"-A TRANSOCKS_OUTPUT -m owner --uid-owner 990"
	" -m comment --comment \"user of transocksd and usocksd\" -j RETURN\n"
	"-A TRANSOCKS_OUTPUT -m comment --comment \"by destination\" -g TRANSOCKS_SPECIAL\n"
	"-A TRANSOCKS_SPECIAL -m addrtype --dst-type LOCAL"
	" -m comment --comment \"to an address of this host\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d ::/96 -m comment --comment"
	" \"unspecified, loopback, IPv4-compatible, RFC 4291\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d ::ffff:0.0.0.0/96 -m comment --comment"
	" \"IPv4-mapped, RFC 4291\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 64:ff9b:1::/48 -m comment --comment"
	" \"local NAT64, RFC 8215\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 100::/63 -m comment --comment"
	" \"discard, dummy, RFC 6666, RFC 9780\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 2001::/23 -m comment --comment"
	" \"IETF protocol assignments, RFC 2928\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 2001:db8::/32 -m comment --comment"
	" \"documentation, RFC 3849\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 2002::/16 -m comment --comment \"6to4, RFC 3056\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 3fff::/20 -m comment --comment"
	" \"documentation, RFC 9637\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d 5f00::/16 -m comment --comment"
	" \"segment routing identifiers, RFC 9602\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d fc00::/7 -m comment --comment"
	" \"unique local, RFC 4193\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d fe80::/9 -m comment --comment"
	" \"link-local, site-local, RFC 4291, RFC 3879\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -d ff00::/8 -m comment --comment \"multicast, RFC 4291\" -j RETURN\n"
	"-A TRANSOCKS_SPECIAL -m comment --comment \"not special-purpose\""
	" -g TRANSOCKS_CONFIGURED\n"
	"-A TRANSOCKS_CONFIGURED -m comment --comment \"not configured\" -g TRANSOCKS_BYPASS\n"
	"-A TRANSOCKS_BYPASS -m comment --comment \"no live exception\" -g TRANSOCKS_TAKE\n"
	"-A TRANSOCKS_TAKE -p tcp -m comment --comment \"to transocksd\""
	" -j REDIRECT --to-ports 1081\n"
	"COMMIT\n";

static void test_golden(void **state)
{
	struct strbuf sb;

	(void)state;
	strbuf_init_heap(&sb);
	iptables_print(&plain, &sb);
	assert_string_equal(sb.data, golden);
	strbuf_free(&sb);
}

static void test_strings(void **state)
{
	static const struct {
		const char *text, *put;
	} cases[] = {{"word-1_a", "word-1_a"},
		     {"two words", "\"two words\""},
		     {"", "\"\""},
		     {"a.b", "\"a.b\""},
		     {"it's", "\"it\\'s\""},
		     {"a\"b\\c", "\"a\\\"b\\\\c\""}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct iptables_line l;
		struct strbuf sb;
		char back[64];

		strbuf_init_heap(&sb);
		strbuf_puts(&sb, "-d 1.0.0.0/8 -m comment --comment ");
		iptables_put_string(&sb, cases[i].text);
		assert_string_equal(sb.data + 34, cases[i].put);
		strbuf_puts(&sb, " -j RETURN");
		l = (struct iptables_line){.rest = sb.data};
		assert_string_equal(iptables_line_comment(&l, back, sizeof(back)), cases[i].text);
		strbuf_free(&sb);
	}
}

static void assert_refused(const struct want *w, int err, const char *says)
{
	struct diag d;

	assert_int_equal(iptables_check(w, &d), err);
	assert_non_null(strstr(d.text, says));
}

static void test_refused(void **state)
{
	struct redirect open = {.share = 100, .when_daemon_down = REDIRECT_DOWN_OPEN};
	struct want w = plain;
	struct diag d;

	(void)state;
	assert_int_equal(iptables_check(&w, &d), 0);
	w.redirect = &open;
	assert_refused(&w, -EOPNOTSUPP, "\"closed\"");
	w.redirect = NULL;
	w.n_gateways = 1;
	strcpy(w.gateways[0], "eth+");
	assert_refused(&w, -EINVAL, "eth+");
	strcpy(w.gateways[0], "a\"b");
	assert_refused(&w, -EINVAL, "gateway");
	strcpy(w.gateways[0], "a+b");
	assert_int_equal(iptables_check(&w, &d), 0);
}

/* The number of a client, digit by digit; which of them rules of a share leave alone. */
static bool is_left_alone(const char *text, const unsigned digits[3])
{
	static const char *const seeds[] = {"0x74736f63", "0x6b736d73", "0x73686172"};

	for (const char *line = strstr(text, "-m cluster"); line != NULL;
	     line = strstr(line, "\n-A TRANSOCKS_TAKE -m cluster")) {
		const char *end = strchr(line + 1, '\n'), *at = line;
		bool all = true;

		while ((at = strstr(at, "-m cluster")) != NULL && at < end) {
			bool negate = strncmp(at, "-m cluster !", 12) == 0;
			const char *seed = strstr(at, "-seed ") + 6;
			unsigned mask;

			assert_int_equal(sscanf(strstr(at, "nodemask "), "nodemask 0x%x", &mask),
					 1);
			assert_in_range(mask, 1, 32); /* what iptables 1.8.9 takes */
			for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
				if (strncmp(seed, seeds[i], 10) == 0)
					all = all && ((mask >> digits[i] & 1) != negate);
			}
			at++;
		}
		if (all)
			return true;
		line = end;
	}
	return false;
}

static void test_share(void **state)
{
	struct redirect r = {.share = 1};
	struct want w = plain;
	struct strbuf sb;

	(void)state;
	w.redirect = &r;
	for (r.share = 1; r.share <= 100; r.share++) {
		strbuf_init_heap(&sb);
		iptables_build(&w, LISTENERS_IPV6, &sb);
		for (unsigned n = 0; n < 100; n++) {
			unsigned digits[] = {n / 25, n / 5 % 5, n % 5};

			if (is_left_alone(sb.data, digits) != (n >= r.share))
				fail_msg("share %u, client %u", r.share, n);
		}
		strbuf_free(&sb);
	}
}

static struct iptables_text parse(const char *text, bool saved)
{
	struct iptables_text t;

	assert_int_equal(iptables_text_parse(&t, text, saved), 0);
	return t;
}

#define EXCEPTION "-A TRANSOCKS_BYPASS -d 11.0.0.0/8 -j RETURN\n"
#define TAIL      "-A TRANSOCKS_BYPASS -m comment --comment x -g TRANSOCKS_TAKE\n"

/* What is there, what is wanted, and the one text that leads from the first to the second. */
static const struct {
	const char *have, *want, *body;
	bool exact;
} replacements[] = {
	{.have = "", .want = "", .body = ""},
	{.have = "*nat\n:OUTPUT ACCEPT [1:2]\n[3:4] -A OUTPUT -j DOCKER\nCOMMIT\n",
	 .want = "*nat\n:TRANSOCKS_OUTPUT - [0:0]\n-A OUTPUT -j TRANSOCKS_OUTPUT\n"
		 "-A TRANSOCKS_OUTPUT -j RETURN\nCOMMIT\n",
	 .body = "*nat\n:TRANSOCKS_OUTPUT - [0:0]\n-A TRANSOCKS_OUTPUT -j RETURN\n"
		 "-A OUTPUT -j TRANSOCKS_OUTPUT\nCOMMIT\n"},
	{.have = "*nat\n:TRANSOCKS_OUTPUT - [0:0]\n[3:4] -A OUTPUT -j TRANSOCKS_OUTPUT\n"
		 "[0:0] -A OUTPUT -j A\n[0:0] -A OUTPUT -j TRANSOCKS_OUTPUT\n"
		 "[0:0] -A A -p tcp -g TRANSOCKS_OUTPUT\nCOMMIT\n",
	 .want = "",
	 .body = "*nat\n-D OUTPUT -j TRANSOCKS_OUTPUT\n-D OUTPUT -j TRANSOCKS_OUTPUT\n"
		 "-D A -p tcp -g TRANSOCKS_OUTPUT\n-F TRANSOCKS_OUTPUT\n-X TRANSOCKS_OUTPUT\n"
		 "COMMIT\n"},
	{.have = "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" TAIL EXCEPTION "COMMIT\n",
	 .want = "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" TAIL "COMMIT\n",
	 .body = "*nat\n-D TRANSOCKS_BYPASS -m comment --comment x -g TRANSOCKS_TAKE\n" TAIL
		 "COMMIT\n"},
	{.have = "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" EXCEPTION TAIL "COMMIT\n",
	 .want = "*mangle\n:TRANSOCKS_BYPASS - [0:0]\n" TAIL "COMMIT\n",
	 .body = "*mangle\n:TRANSOCKS_BYPASS - [0:0]\n" EXCEPTION TAIL "COMMIT\n"
		 "*nat\n-F TRANSOCKS_BYPASS\n-X TRANSOCKS_BYPASS\nCOMMIT\n"},
	{.exact = true,
	 .have = "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" EXCEPTION TAIL "COMMIT\n",
	 .want = "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" TAIL "COMMIT\n",
	 .body = "*nat\n-F TRANSOCKS_BYPASS\n" TAIL "COMMIT\n"},
};

static void test_replace(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(replacements); i++) {
		struct iptables_text have = parse(replacements[i].have, true);
		struct iptables_text want = parse(replacements[i].want, false);
		struct strbuf sb;

		strbuf_init_heap(&sb);
		iptables_text_replace(&have, &want, replacements[i].exact, &sb);
		assert_string_equal(sb.data, replacements[i].body);
		strbuf_free(&sb);
		iptables_text_free(&have);
		iptables_text_free(&want);
	}
}

/* Going back puts jumps where they stood. */
static void test_replace_keeps_places(void **state)
{
	struct iptables_text have = parse("*nat\nCOMMIT\n", true), want, none;
	struct strbuf sb;

	(void)state;
	want = parse("*nat\n:TRANSOCKS_OUTPUT - [0:0]\n[0:0] -A OUTPUT -j A\n"
		     "[0:0] -A OUTPUT -j TRANSOCKS_OUTPUT\n[0:0] -A OUTPUT -j B\nCOMMIT\n",
		     true);
	strbuf_init_heap(&sb);
	iptables_text_replace(&have, &want, true, &sb);
	assert_non_null(strstr(sb.data, "-I OUTPUT 2 -j TRANSOCKS_OUTPUT\n"));
	strbuf_free(&sb);
	iptables_text_free(&want);
	none = parse("*nat\n-I OUTPUT -j TRANSOCKS_OUTPUT\nCOMMIT\n", false);
	strbuf_init_heap(&sb);
	iptables_text_replace(&have, &none, true, &sb);
	assert_string_equal(sb.data, "*nat\n-I OUTPUT 1 -j TRANSOCKS_OUTPUT\nCOMMIT\n");
	strbuf_free(&sb);
	iptables_text_free(&none);
	iptables_text_free(&have);
}

static void put_change(void *ctx, bool missing, const struct iptables_line *l)
{
	strbuf_printf(ctx, "%c%s ", missing ? '-' : '+',
		      l->kind == IPTABLES_CHAIN ? l->chain : l->rest);
}

static void test_diff(void **state)
{
#define RULES(x) "*nat\n:TRANSOCKS_TAKE - [0:0]\n" x "COMMIT\n"
#define A(x)     "-A TRANSOCKS_TAKE " x "\n"
	static const struct {
		const char *have, *want, *changes;
	} cases[] = {
		{RULES(A("a") A("b")), RULES(A("a") A("b")), ""},
		{RULES(A("b")), RULES(A("a") A("b")), "-a "},
		{RULES(A("a") A("x") A("b")), RULES(A("a") A("b")), "+x "},
		{RULES(A("a") A("b") A("x")), RULES(A("a") A("b")), "+x "},
		{RULES(A("a") A("x")), RULES(A("a") A("b")), "-b +x "},
		{RULES(A("b") A("a")), RULES(A("a") A("b")), "+b -b "},
		{"", RULES(A("a")), "-TRANSOCKS_TAKE -a "},
		{RULES(A("a")), "", "+TRANSOCKS_TAKE +a "},
		{RULES(A("-m comment --comment \"paused, new flows go direct\" -j RETURN") A("a")),
		 RULES(A("a")), ""},
		{"*nat\n:TRANSOCKS_BYPASS - [0:0]\n" EXCEPTION TAIL "COMMIT\n",
		 "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" TAIL "COMMIT\n", ""},
		{"*nat\n:TRANSOCKS_BYPASS - [0:0]\n" EXCEPTION "COMMIT\n",
		 "*nat\n:TRANSOCKS_BYPASS - [0:0]\n" TAIL "COMMIT\n",
		 "--m comment --comment x -g TRANSOCKS_TAKE "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct iptables_text have = parse(cases[i].have, true);
		struct iptables_text want = parse(cases[i].want, false);
		struct strbuf sb;

		strbuf_init_heap(&sb);
		iptables_text_diff(&have, &want, put_change, &sb);
		assert_string_equal(sb.data, cases[i].changes);
		strbuf_free(&sb);
		iptables_text_free(&have);
		iptables_text_free(&want);
	}
}

static void test_counters(void **state)
{
	struct iptables_text t = parse("*nat\n[12:345] -A TRANSOCKS_TAKE -p tcp -m comment "
				       "--comment \"a b\" -j REDIRECT --to-ports 99\nCOMMIT\n",
				       true);
	char comment[32];

	(void)state;
	assert_int_equal(t.n, 1);
	assert_int_equal(t.lines[0].packets, 12);
	assert_int_equal(t.lines[0].bytes, 345);
	assert_int_equal(iptables_line_port(&t.lines[0]), 99);
	assert_string_equal(iptables_line_comment(&t.lines[0], comment, sizeof(comment)), "a b");
	iptables_text_free(&t);
}

static void test_choice(void **state)
{
	static const struct {
		enum redirect_backend wanted;
		int nft;
		bool iptables;
		int chosen;
		const char *why;
	} cases[] = {
		{REDIRECT_BACKEND_AUTO, 0, true, REDIRECT_BACKEND_NFT, "nf_tables answers"},
		{REDIRECT_BACKEND_AUTO, -EPERM, true, REDIRECT_BACKEND_NFT, "nf_tables answers"},
		{REDIRECT_BACKEND_AUTO, -EOPNOTSUPP, true, REDIRECT_BACKEND_IPTABLES,
		 "no nf_tables (Operation not supported), so by /x (legacy), no ip6tables"},
		{REDIRECT_BACKEND_AUTO, -EOPNOTSUPP, false, -EOPNOTSUPP,
		 "no nf_tables, and iptables is not installed"},
		{REDIRECT_BACKEND_NFT, -EOPNOTSUPP, true, -EOPNOTSUPP,
		 "backend = \"nft\", but this kernel has no nf_tables (Operation not supported)"},
		{REDIRECT_BACKEND_NFT, 0, false, REDIRECT_BACKEND_NFT, "as wanted"},
		{REDIRECT_BACKEND_IPTABLES, 0, true, REDIRECT_BACKEND_IPTABLES,
		 "as wanted, by /x (legacy), no ip6tables"},
		{REDIRECT_BACKEND_IPTABLES, 0, false, -EOPNOTSUPP,
		 "backend = \"iptables\", but iptables is not installed"},
	};
	char why[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct backends b = {.nft = cases[i].nft,
				     .iptables = {cases[i].iptables},
				     .variant = {"legacy"},
				     .path = {"/x"}};

		assert_int_equal(backend_choose(cases[i].wanted, &b, why, sizeof(why)),
				 cases[i].chosen);
		assert_string_equal(why, cases[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),  cmocka_unit_test(test_strings),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_share),
		cmocka_unit_test(test_replace), cmocka_unit_test(test_replace_keeps_places),
		cmocka_unit_test(test_diff),    cmocka_unit_test(test_counters),
		cmocka_unit_test(test_choice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
