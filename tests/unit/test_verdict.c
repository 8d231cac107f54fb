/* SPDX-License-Identifier: MIT */
#include "rulemgr/verdict.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/trial.h"

#define WANTED "11.1.2.3:80"

/* A step as a case writes it. */
struct line {
	const char *table, *chain;
	int32_t verdict;
	enum step_kind kind;
	enum step_effect effect;
	const char *to; /* the destination when the chain begins; NULL: not said */
	const char *comment;
};

struct scene {
	const char *name;
	struct line lines[6];
	const char *caught; /* the destination at the end of the cage; NULL: it did not get there */
	bool unseen, hidden;
	int send_err;
	enum verdict verdict;
	const char *says; /* part of the explanation */
};

#define OURS MODEL_TABLE

static const struct scene scenes[] = {
	{.name = "redirected",
	 .lines = {{OURS, "output", NF_ACCEPT, .effect = EFFECT_REDIRECT, .to = WANTED}},
	 .caught = "127.0.0.1:1081",
	 .verdict = VERDICT_TAKEN,
	 .says = "redirected by a rule of chain output"},
	{.name = "marked for TPROXY",
	 .lines = {{OURS, "output", NF_ACCEPT, .effect = EFFECT_MARK, .to = WANTED}},
	 .caught = WANTED,
	 .verdict = VERDICT_TAKEN,
	 .says = "marked for TPROXY"},
	{.name = "left alone by a rule, not by the policy after it",
	 .lines = {{OURS, "output", NFT_RETURN, .to = WANTED},
		   {OURS, "output", NF_ACCEPT, .kind = STEP_POLICY}},
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = "left alone by a rule"},
	{.name = "left alone by the policy",
	 .lines = {{OURS, "output", NF_ACCEPT, .kind = STEP_POLICY, .to = WANTED}},
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = "left alone by the policy"},
	{.name = "the guard decides nothing",
	 .lines = {{OURS, "prerouting", NFT_RETURN, .to = WANTED},
		   {OURS, "guard", NF_ACCEPT, .kind = STEP_POLICY}},
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = "of chain prerouting"},
	{.name = "a trial is over, and the previous rules take it",
	 .lines = {{OURS, "output", NFT_RETURN, .to = WANTED, .comment = TRIAL_GATE_NEW},
		   {OURS, "output", NF_ACCEPT, .kind = STEP_POLICY},
		   {OURS, "previous_output", NF_ACCEPT, .effect = EFFECT_REDIRECT, .to = WANTED}},
	 .caught = "127.0.0.1:1081",
	 .verdict = VERDICT_TAKEN,
	 .says = "redirected by a rule of chain previous_output"},
	{.name = "a trial is over, and the previous rules leave it alone",
	 .lines = {{OURS, "output", NFT_RETURN, .to = WANTED, .comment = TRIAL_GATE_NEW},
		   {OURS, "output", NF_ACCEPT, .kind = STEP_POLICY},
		   {OURS, "previous_output", NFT_RETURN, .to = WANTED, .comment = "bypass"}},
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = "left alone by a rule \"bypass\" of chain previous_output"},
	{.name = "on trial, and the policy of the new rules leaves it alone",
	 .lines = {{OURS, "output", NF_ACCEPT, .kind = STEP_POLICY, .to = WANTED},
		   {OURS, "previous_output", NFT_RETURN, .comment = TRIAL_GATE_PREVIOUS},
		   {OURS, "previous_output", NF_ACCEPT, .kind = STEP_POLICY}},
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = "left alone by the policy of chain output"},
	{.name = "a trial is over, and there was nothing before it",
	 .lines = {{OURS, "output", NFT_RETURN, .to = WANTED, .comment = TRIAL_GATE_NEW},
		   {OURS, "output", NF_ACCEPT, .kind = STEP_POLICY}},
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = TRIAL_GATE_NEW},
	{.name = "translated by the last rule before",
	 .lines = {{"f", "raw", NFT_CONTINUE, .to = WANTED},
		   {"f", "nat", NF_ACCEPT, .to = WANTED},
		   {"f", "filter", NF_ACCEPT, .kind = STEP_POLICY, .to = "11.9.9.9:99"}},
	 .caught = "11.9.9.9:99",
	 .verdict = VERDICT_LEFT,
	 .says = "by a rule of chain nat, table inet f"},
	{.name = "translated unseen",
	 .lines = {{"f", "filter", NF_ACCEPT, .kind = STEP_POLICY, .to = "11.9.9.9:99"}},
	 .caught = "11.9.9.9:99",
	 .verdict = VERDICT_LEFT,
	 .says = "not traced"},
	{.name = "no chain of ours",
	 .caught = WANTED,
	 .verdict = VERDICT_LEFT,
	 .says = "no chain of ours"},
	{.name = "dropped before us",
	 .lines = {{"f", "raw", NF_DROP, .to = WANTED}},
	 .verdict = VERDICT_DROPPED,
	 .says = "dropped by a rule of chain raw"},
	{.name = "dropped by a policy, after it was taken",
	 .lines = {{OURS, "output", NF_ACCEPT, .effect = EFFECT_REDIRECT, .to = WANTED},
		   {"f", "filter", NF_DROP, .kind = STEP_POLICY, .to = "127.0.0.1:1081"}},
	 .verdict = VERDICT_DROPPED,
	 .says = "dropped by the policy of chain filter, table inet f, after it was taken"},
	{.name = "rejected",
	 .lines = {{OURS, "output", NFT_RETURN, .to = WANTED},
		   {"f", "filter", NF_DROP, .effect = EFFECT_REJECT}},
	 .verdict = VERDICT_REJECTED,
	 .says = "rejected by a rule"},
	{.name = "no route",
	 .unseen = true,
	 .send_err = -ENETUNREACH,
	 .verdict = VERDICT_NO_ROUTE,
	 .says = "Network is unreachable"},
	{.name = "did not come in",
	 .unseen = true,
	 .verdict = VERDICT_LOST,
	 .says = "did not come in"},
	{.name = "switched off",
	 .hidden = true,
	 .verdict = VERDICT_LOST,
	 .says = "switched off by a rule of chain raw, table inet f (nftrace set 0)"},
	{.name = "lost after it was taken",
	 .lines = {{OURS, "prerouting", NF_ACCEPT, .effect = EFFECT_REDIRECT, .to = WANTED}},
	 .verdict = VERDICT_LOST,
	 .says = "taken by a rule of chain prerouting, table inet transocks, then lost"},
};

static struct addr endpoint(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_endpoint(&a, text), 0);
	return a;
}

static void fill(struct step *s, const struct line *l)
{
	*s = (struct step){.kind = l->kind,
			   .family = NFPROTO_INET,
			   .verdict = l->verdict,
			   .effect = l->effect,
			   .has_addresses = l->to != NULL};
	snprintf(s->table, sizeof(s->table), "%s", l->table);
	snprintf(s->chain, sizeof(s->chain), "%s", l->chain);
	snprintf(s->comment, sizeof(s->comment), "%s", l->comment != NULL ? l->comment : "");
	if (l->to != NULL)
		s->to = endpoint(l->to);
}

static void test_scenes(void **state)
{
	struct step steps[ARRAY_LEN(scenes[0].lines)];
	struct probe p = {.to = endpoint(WANTED)};
	char text[768];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
		const struct scene *scene = &scenes[i];
		struct trace t = {.steps = steps, .has_id = !scene->unseen};
		struct answer a;

		while (t.n_steps < ARRAY_LEN(steps) && scene->lines[t.n_steps].table != NULL) {
			fill(&steps[t.n_steps], &scene->lines[t.n_steps]);
			t.n_steps++;
		}
		t.caught = scene->caught != NULL;
		if (scene->hidden)
			fill(&t.hidden_by, &(struct line){.table = "f", .chain = "raw"});
		if (t.caught)
			t.last_to = endpoint(scene->caught);
		a = verdict_of(&t, &p, scene->send_err);
		verdict_explain(&a, text, sizeof(text));
		if (a.verdict != scene->verdict || strstr(text, scene->says) == NULL)
			fail_msg("%s: %s: %s", scene->name, verdict_name(a.verdict), text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
