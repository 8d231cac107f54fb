/* SPDX-License-Identifier: MIT */
#include "rulemgr/verdict.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "policy/strbuf.h"
#include "rulemgr/trial.h"

/* Of the chains of our table, these two decide about TCP, or when a trial is over those that were
 * before; the others guard the port. */
static bool step_decides(const struct step *s)
{
	const char *chain = s->chain;

	if (strncmp(chain, TRIAL_PREFIX, strlen(TRIAL_PREFIX)) == 0)
		chain += strlen(TRIAL_PREFIX);
	return step_is_ours(s) &&
	       (strcmp(chain, "output") == 0 || strcmp(chain, "prerouting") == 0);
}

/* The one of the two tables of a trial whose time it is not leaves all to the other. */
static bool step_is_gate(const struct step *s)
{
	return strcmp(s->comment, TRIAL_GATE_NEW) == 0 ||
	       strcmp(s->comment, TRIAL_GATE_PREVIOUS) == 0;
}

static bool step_takes(const struct step *s)
{
	return s->kind == STEP_RULE &&
	       (s->effect == EFFECT_REDIRECT || s->effect == EFFECT_TPROXY ||
		/* A rule that marks and returns is about connections that exist. */
		(s->effect == EFFECT_MARK && s->verdict == NF_ACCEPT));
}

/* Finds out who changed the destination, if it was not us. */
static void find_translation(struct answer *a, const struct trace *t, const struct probe *p)
{
	const struct step *before = NULL;

	for (size_t i = 0; i < t->n_steps; i++) {
		const struct step *s = &t->steps[i];

		if (s->has_addresses && !addr_equal(&s->to, &p->to)) {
			a->translated = true;
			break;
		}
		if (s->kind == STEP_RULE)
			before = s;
	}
	a->translated |= t->caught && !addr_equal(&t->last_to, &p->to);
	/* Only a rule that lets it go can have translated it. */
	if (a->translated && before != NULL && !step_is_ours(before))
		a->translated_by = before;
}

struct answer verdict_of(const struct trace *t, const struct probe *p, int send_err)
{
	const struct step *last = t->n_steps > 0 ? &t->steps[t->n_steps - 1] : NULL;
	const struct step *left_by = NULL, *gate = NULL;
	struct answer a = {.verdict = VERDICT_LOST, .err = send_err, .seen = t->has_id};

	for (size_t i = 0; i < t->n_steps; i++) {
		const struct step *s = &t->steps[i];

		if (!step_decides(s) || (gate != NULL && strcmp(gate->chain, s->chain) == 0))
			continue;
		if (step_is_gate(s)) {
			gate = s;
			continue;
		}
		/* TPROXY takes what this host sends once more where it comes in. */
		if (step_takes(s))
			a.taken_by = a.taken_by != NULL ? a.taken_by : s;
		else if (left_by == NULL || left_by->kind != STEP_RULE)
			left_by = s;
	}
	if (left_by == NULL)
		left_by = gate;
	if (t->hidden_by.table[0] != '\0')
		a.hidden_by = &t->hidden_by;
	if (a.taken_by == NULL)
		find_translation(&a, t, p);
	if (last != NULL && step_is_end(last)) {
		a.verdict = last->effect == EFFECT_REJECT ? VERDICT_REJECTED : VERDICT_DROPPED;
		a.by = last;
	} else if (!t->has_id && send_err < 0) {
		a.verdict = VERDICT_NO_ROUTE;
	} else if (t->caught) {
		a.verdict = a.taken_by != NULL ? VERDICT_TAKEN : VERDICT_LEFT;
		a.by = a.taken_by != NULL ? a.taken_by : left_by;
	}
	return a;
}

const char *verdict_name(enum verdict v)
{
	static const char *const names[] = {
		[VERDICT_TAKEN] = "taken",       [VERDICT_LEFT] = "left-alone",
		[VERDICT_REJECTED] = "rejected", [VERDICT_DROPPED] = "dropped",
		[VERDICT_NO_ROUTE] = "no-route", [VERDICT_LOST] = "lost",
	};

	return names[v];
}

const char *step_format(const struct step *s, char *out, size_t cap)
{
	struct strbuf sb;

	strbuf_init(&sb, out, cap);
	if (s->kind == STEP_POLICY)
		strbuf_puts(&sb, "the policy");
	else if (s->kind == STEP_RETURN)
		strbuf_puts(&sb, "the end");
	else if (s->position > 0)
		strbuf_printf(&sb, "rule %u", s->position);
	else
		strbuf_puts(&sb, "a rule");
	if (s->comment[0] != '\0') {
		strbuf_putc(&sb, ' ');
		strbuf_put_quoted(&sb, s->comment, strlen(s->comment));
	}
	strbuf_printf(&sb, " of chain %s, table %s %s", s->chain, step_family_name(s->family),
		      s->table);
	return out;
}

static void explain_left(const struct answer *a, const char *by, struct strbuf *out)
{
	char text[512];

	if (a->by != NULL)
		strbuf_printf(out, "left alone by %s", by);
	else if (a->translated_by != NULL)
		strbuf_printf(out, "translated before our rules see it, by %s",
			      step_format(a->translated_by, text, sizeof(text)));
	else if (a->translated)
		strbuf_puts(out, "translated before our rules see it, by something that is not "
				 "traced (iptables-legacy, or a program of a control group)");
	else
		strbuf_puts(out, "no chain of ours sees it");
}

static void explain_lost(const struct answer *a, struct strbuf *out)
{
	char text[512];

	if (!a->seen) {
		strbuf_puts(out, "it did not come in: the interface is down, or something on it "
				 "(XDP, a bridge) is ahead of all rules");
		return;
	}
	strbuf_puts(out, "lost where no trace shows it: ");
	if (a->hidden_by != NULL)
		strbuf_printf(out, "switched off by %s (nftrace set 0); else ",
			      step_format(a->hidden_by, text, sizeof(text)));
	strbuf_puts(out, "iptables-legacy, reverse path filtering, no address on the interface, or "
			 "no forwarding");
}

const char *verdict_explain(const struct answer *a, char *out, size_t cap)
{
	char by[512] = "";
	struct strbuf sb;

	strbuf_init(&sb, out, cap);
	if (a->by != NULL)
		step_format(a->by, by, sizeof(by));
	switch (a->verdict) {
	case VERDICT_TAKEN:
		strbuf_printf(&sb, "%s by %s",
			      a->by->effect == EFFECT_MARK ? "marked for TPROXY" : "redirected",
			      by);
		break;
	case VERDICT_LEFT:
		explain_left(a, by, &sb);
		break;
	case VERDICT_REJECTED:
	case VERDICT_DROPPED:
		strbuf_printf(&sb, "%s by %s%s", verdict_name(a->verdict), by,
			      a->taken_by != NULL ? ", after it was taken" : "");
		break;
	case VERDICT_NO_ROUTE:
		strbuf_printf(&sb, "the kernel refuses before any rule is asked: %s",
			      strerror(-a->err));
		break;
	case VERDICT_LOST:
		if (a->taken_by != NULL)
			strbuf_printf(&sb, "taken by %s, then ",
				      step_format(a->taken_by, by, sizeof(by)));
		explain_lost(a, &sb);
		break;
	}
	return out;
}
