/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_trial.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

/* 2026-11-23T15:20:00 */
#define START 1795447200

static const char old_text[] =
	"*nat\n"
	":TRANSOCKS_OUTPUT - [0:0]\n"
	":TRANSOCKS_BYPASS - [0:0]\n"
	":TRANSOCKS_TAKE - [0:0]\n"
	"-A OUTPUT -j OTHERS\n"
	"-A OUTPUT -m comment --comment transocks-rules -j TRANSOCKS_OUTPUT\n"
	"-A TRANSOCKS_BYPASS -d 11.9.0.0/16 -j RETURN\n"
	"-A TRANSOCKS_BYPASS -g TRANSOCKS_TAKE\n"
	"-A TRANSOCKS_OUTPUT -g TRANSOCKS_BYPASS\n"
	"-A TRANSOCKS_TAKE -p tcp -j REDIRECT --to-ports 1081\n"
	"COMMIT\n";

/* With a chain that those before do not have. */
static const char new_text[] =
	"*nat\n"
	":TRANSOCKS_OUTPUT - [0:0]\n"
	":TRANSOCKS_PREROUTING - [0:0]\n"
	":TRANSOCKS_BYPASS - [0:0]\n"
	":TRANSOCKS_TAKE - [0:0]\n"
	"-A OUTPUT -m comment --comment transocks-rules -j TRANSOCKS_OUTPUT\n"
	"-A PREROUTING -m comment --comment transocks-rules -j TRANSOCKS_PREROUTING\n"
	"-A TRANSOCKS_OUTPUT -g TRANSOCKS_BYPASS\n"
	"-A TRANSOCKS_PREROUTING -i lan0 -g TRANSOCKS_BYPASS\n"
	"-A TRANSOCKS_BYPASS -g TRANSOCKS_TAKE\n"
	"-A TRANSOCKS_TAKE -p tcp -j REDIRECT --to-ports 1082\n"
	"COMMIT\n";

static struct iptables_text parse(const char *text, bool saved)
{
	struct iptables_text t;

	assert_int_equal(iptables_text_parse(&t, text, saved), 0);
	return t;
}

static void count(void *ctx, bool missing, const struct iptables_line *l)
{
	(void)ctx;
	(void)missing;
	print_message("differs: %s %s %s\n", l->table, l->chain, l->rest != NULL ? l->rest : "");
}

static size_t differences(const struct iptables_text *a, const struct iptables_text *b)
{
	return iptables_text_diff(a, b, count, NULL);
}

static struct iptables_text begin(const struct iptables_text *have,
				  const struct iptables_text *want)
{
	struct iptables_trial times = {.start = START, .end = START + 60};
	struct iptables_text t;

	assert_int_equal(iptables_trial_begin(have, want, &times, &t), 0);
	return t;
}

static const struct iptables_line *find(const struct iptables_text *t, const char *chain,
					const char *rest)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (l->kind != IPTABLES_CHAIN && strcmp(l->chain, chain) == 0 &&
		    strcmp(l->rest, rest) == 0)
			return l;
	}
	return NULL;
}

static void test_replacement(void **state)
{
	struct iptables_text old = parse(old_text, true), new = parse(new_text, false);
	struct iptables_text both = begin(&old, &new), half;
	struct iptables_trial trial;

	(void)state;
	iptables_trial_find(&both, &trial);
	assert_true(trial.on && trial.previous);
	assert_int_equal(trial.start, START);
	assert_int_equal(trial.end, START + 60);
	assert_true(iptables_trial_is_running(&trial, START));
	assert_true(iptables_trial_is_running(&trial, START + 60));
	assert_false(iptables_trial_is_running(&trial, START - 1));
	assert_false(iptables_trial_is_running(&trial, START + 61));

	assert_non_null(find(&both, "TRANSOCKS_OUTPUT",
			     "-m time --datestart 2026-11-23T15:20:00 --datestop "
			     "2026-11-23T15:21:00 -m comment --comment \"on trial\" -g "
			     "TRANSOCKS_TRIAL_OUTPUT"));
	assert_non_null(find(&both, "TRANSOCKS_TRIAL_OUTPUT", "-g TRANSOCKS_TRIAL_BYPASS"));
	/* The live exception stays in its chain, and is copied to the other. */
	assert_null(find(&both, "TRANSOCKS_BYPASS", "-d 11.9.0.0/16 -j RETURN"));
	assert_non_null(find(&both, "TRANSOCKS_TRIAL_BYPASS", "-d 11.9.0.0/16 -j RETURN"));
	/* So does the jump in its place. */
	assert_int_equal(
		find(&both, "OUTPUT", "-m comment --comment transocks-rules -j TRANSOCKS_OUTPUT")
			->position,
		2);

	assert_int_equal(iptables_trial_keep(&both, true, &half), 0);
	assert_int_equal(differences(&half, &new), 0);
	iptables_text_free(&half);
	assert_int_equal(iptables_trial_keep(&both, false, &half), 0);
	assert_int_equal(differences(&half, &old), 0);
	iptables_text_free(&half);
	iptables_text_free(&both);
	iptables_text_free(&old);
	iptables_text_free(&new);
}

/* The second trial goes back to what was there before the first. */
static void test_again(void **state)
{
	struct iptables_text old = parse(old_text, true), new = parse(new_text, false);
	struct iptables_text both = begin(&old, &new), other = begin(&both, &old), half;

	(void)state;
	assert_int_equal(iptables_trial_keep(&other, false, &half), 0);
	assert_int_equal(differences(&half, &old), 0);
	iptables_text_free(&half);
	iptables_text_free(&other);
	iptables_text_free(&both);
	iptables_text_free(&old);
	iptables_text_free(&new);
}

/* Without rules before, the previous ones are the new ones, paused. */
static void test_first(void **state)
{
	struct iptables_text none = {0}, new = parse(new_text, false);
	struct iptables_text both = begin(&none, &new), half;
	struct iptables_trial trial;

	(void)state;
	iptables_trial_find(&both, &trial);
	assert_true(trial.on);
	assert_false(trial.previous);
	assert_non_null(find(&both, "TRANSOCKS_TAKE", iptables_pause_rule));
	assert_null(find(&both, "TRANSOCKS_TRIAL_TAKE", iptables_pause_rule));
	for (int tried = 0; tried < 2; tried++) {
		assert_int_equal(iptables_trial_half(&both, tried, &half), 0);
		assert_int_equal(differences(&half, &new), 0);
		iptables_text_free(&half);
	}
	iptables_text_free(&both);
	iptables_text_free(&new);
}

/* What a killed probe has left is of neither half. */
static void test_cage(void **state)
{
	static const char cage[] = "*mangle\n:TRANSOCKS_PROBE - [0:0]\n"
				   "-A POSTROUTING -p tcp -j TRANSOCKS_PROBE\n"
				   "-A TRANSOCKS_PROBE -j DROP\nCOMMIT\n";
	struct iptables_text have = parse(cage, true), new = parse(new_text, false), half;
	struct iptables_text both = begin(&have, &new);

	(void)state;
	assert_int_equal(have.n, 3);
	assert_int_equal(iptables_trial_half(&have, false, &half), 0);
	assert_int_equal(half.n, 0);
	iptables_text_free(&half);
	assert_non_null(find(&both, "TRANSOCKS_TAKE", iptables_pause_rule));
	assert_null(find(&both, "TRANSOCKS_PROBE", "-j DROP"));
	iptables_text_free(&both);
	iptables_text_free(&have);
	iptables_text_free(&new);
}

static void test_refusal(void **state)
{
	static const char tproxy[] = "*mangle\n:TRANSOCKS_TAKE - [0:0]\n"
				     "-A TRANSOCKS_TAKE -p tcp -j CONNMARK --set-xmark 0x%x/0x30\n";
	struct iptables_text redirect = parse(old_text, true), marks[3], none = {0};
	char text[256];

	(void)state;
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), tproxy, i < 2 ? 0x10 : 0x20);
		marks[i] = parse(text, true);
	}
	assert_null(iptables_trial_refusal(&none, &redirect));
	assert_null(iptables_trial_refusal(&redirect, &redirect));
	assert_null(iptables_trial_refusal(&marks[0], &marks[1]));
	assert_non_null(iptables_trial_refusal(&marks[0], &marks[2]));
	assert_non_null(iptables_trial_refusal(&marks[0], &redirect));
	assert_non_null(iptables_trial_refusal(&redirect, &marks[0]));
	for (int i = 0; i < 3; i++)
		iptables_text_free(&marks[i]);
	iptables_text_free(&redirect);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replacement), cmocka_unit_test(test_again),
		cmocka_unit_test(test_first),       cmocka_unit_test(test_cage),
		cmocka_unit_test(test_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
