/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_ask.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* How often it is asked until one rule is left. */
#define ATTEMPTS 6

struct asking {
	struct probe *probe;
	int family;
	enum iptables_fate fate;
	struct addr arrives; /* where it is redirected to */
	int send_err;
	bool *met; /* by line: has counted each time, and could have decided */
	size_t n_met;
	bool looked; /* `met` is filled */
};

/* In the chains that such a packet comes through, in the table that takes. */
static bool can_leave(const struct asking *q, const struct iptables_line *l)
{
	bool forwarded =
		strstr(l->chain, "PREROUTING") != NULL || strstr(l->chain, "FORWARDED") != NULL;
	bool own = strstr(l->chain, "OUTPUT") != NULL;

	size_t len = strlen(l->rest), end = strlen("-j RETURN");

	return l->kind == IPTABLES_RULE && strcmp(l->table, "filter") != 0 &&
	       !(probe_is_forwarded(q->probe) ? own : forwarded) && len >= end &&
	       strcmp(l->rest + len - end, "-j RETURN") == 0;
}

static bool can_take(const struct iptables_line *l)
{
	return l->kind == IPTABLES_RULE && strcmp(l->table, "filter") != 0 &&
	       strstr(l->chain, "TAKE") != NULL &&
	       (strstr(l->rest, "-j REDIRECT ") != NULL || strstr(l->rest, "-j MARK ") != NULL);
}

/* Our lines alone: those of a cage differ. NULL at the end. */
static const struct iptables_line *next_line(const struct iptables_text *t, size_t *i)
{
	while (*i < t->n && iptables_line_is_probe(&t->lines[*i]))
		++*i;
	return *i < t->n ? &t->lines[(*i)++] : NULL;
}

/* Which rules have counted between the two. False: somebody has changed them. */
static bool compare(struct asking *q, const struct iptables_text *before,
		    const struct iptables_text *after)
{
	bool takes = q->fate == IPTABLES_FATE_REDIRECTED || q->fate == IPTABLES_FATE_MARKED;
	size_t i = 0, k = 0;
	const struct iptables_line *a, *b;

	q->n_met = 0;
	for (size_t n = 0;; n++) {
		bool met;

		a = next_line(before, &i);
		b = next_line(after, &k);
		if (a == NULL || b == NULL)
			return a == b;
		if (a->kind != b->kind || strcmp(a->table, b->table) != 0 ||
		    strcmp(a->chain, b->chain) != 0 ||
		    (a->rest != NULL && strcmp(a->rest, b->rest) != 0))
			return false;
		met = b->packets > a->packets && (takes ? can_take(b) : can_leave(q, b)) &&
		      (!q->looked || q->met[n]);
		q->met[n] = met;
		q->n_met += met;
	}
}

/* One probe. 0; -EAGAIN: somebody has changed the rules meanwhile. */
static int ask_once(struct asking *q, struct iptables_have *before, struct iptables_have *after,
		    struct diag *d)
{
	struct iptables_cage cage = {.open = false};
	struct diag left;
	int r = probe_open(q->probe, d), closed;

	if (r < 0)
		return r;
	r = iptables_cage_open(&cage, q->probe, before, false, d);
	iptables_have_free(before);
	if (r == 0)
		r = iptables_read(before, d);
	if (r == 0) {
		q->send_err = probe_send(q->probe);
		r = iptables_read(after, d);
	}
	if (r == 0)
		q->fate = iptables_cage_fate(&cage, after, &q->arrives);
	probe_close(q->probe);
	closed = iptables_cage_close(&cage, &left);
	if (r == 0 && closed < 0) {
		*d = left;
		r = closed;
	}
	if (r < 0)
		return r;
	if (q->met == NULL)
		q->met = calloc(before->text[q->family].n + 1, sizeof(*q->met));
	if (q->met == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	return compare(q, &before->text[q->family], &after->text[q->family])
		       ? 0
		       : diag_set(d, EAGAIN, NULL, 0, "the rules of iptables change all the time");
}

/* `rule "comment" of chain TRANSOCKS_TAKE, table nat`. */
static void put_rule(const struct iptables_line *l, const char *comment, struct strbuf *out)
{
	strbuf_puts(out, "rule ");
	strbuf_put_quoted(out, comment, strlen(comment));
	strbuf_printf(out, " of chain %s, table %s", l->chain, l->table);
}

static void name_rule(const struct asking *q, const struct iptables_text *t,
		      struct iptables_answer *a, struct strbuf *out)
{
	const struct iptables_line *l;
	size_t i = 0;

	if (q->n_met > 1) {
		strbuf_printf(out,
			      "a rule of ours (%zu have counted: there is too much traffic "
			      "to tell)",
			      q->n_met);
		return;
	}
	for (size_t n = 0; (l = next_line(t, &i)) != NULL; n++) {
		if (!q->met[n])
			continue;
		iptables_line_comment(l, a->rule, sizeof(a->rule));
		put_rule(l, a->rule, out);
		return;
	}
	strbuf_puts(out, "a rule that nobody knows");
}

static void answer(const struct asking *q, const struct iptables_text *t, struct iptables_answer *a)
{
	struct strbuf sb;

	*a = (struct iptables_answer){.verdict = VERDICT_LOST, .arrives = q->probe->to};
	strbuf_init(&sb, a->why, sizeof(a->why));
	switch (q->fate) {
	case IPTABLES_FATE_REDIRECTED:
		a->arrives = q->arrives;
		a->verdict = VERDICT_TAKEN;
		strbuf_puts(&sb, "redirected by ");
		name_rule(q, t, a, &sb);
		break;
	case IPTABLES_FATE_MARKED:
		a->verdict = VERDICT_TAKEN;
		strbuf_puts(&sb, "marked for TPROXY by ");
		name_rule(q, t, a, &sb);
		break;
	case IPTABLES_FATE_UNTOUCHED:
		a->verdict = VERDICT_LEFT;
		strbuf_puts(&sb, q->n_met > 0 ? "left alone by " : "no rule of ours sees it");
		if (q->n_met > 0)
			name_rule(q, t, a, &sb);
		break;
	case IPTABLES_FATE_ELSEWHERE:
		a->verdict = VERDICT_LEFT;
		strbuf_puts(&sb, "translated by a rule of others, to something that is not ours");
		break;
	case IPTABLES_FATE_NONE:
		if (q->send_err < 0) {
			a->verdict = VERDICT_NO_ROUTE;
			strbuf_printf(&sb, "the kernel refuses before any rule is asked: %s",
				      strerror(-q->send_err));
			break;
		}
		strbuf_puts(
			&sb,
			probe_is_forwarded(q->probe)
				? "lost before it was routed: a rule of others, reverse path "
				  "filtering, no address on the interface, no forwarding, or "
				  "nobody who takes what comes by TPROXY"
				: "lost on its way out of this host: a rule of others drops it");
		break;
	}
}

static bool is_known(const struct asking *q)
{
	bool by_rule = q->fate != IPTABLES_FATE_NONE && q->fate != IPTABLES_FATE_ELSEWHERE;

	return !by_rule || q->n_met <= 1;
}

int iptables_ask(struct probe *p, struct iptables_answer *a, struct diag *d)
{
	struct asking q = {.probe = p,
			   .family = p->to.family == AF_INET ? LISTENERS_IPV4 : LISTENERS_IPV6};
	bool done = false;
	int r = -EAGAIN;

	for (int i = 0; (r == 0 || r == -EAGAIN) && !done && i < ATTEMPTS; i++) {
		struct iptables_have before, after = {0};

		r = iptables_read(&before, d);
		if (r < 0)
			break;
		if (!iptables_has_family(&before, q.family))
			r = diag_set(d, ENOENT, NULL, 0,
				     "no rules of iptables are installed for %s",
				     listeners_family[q.family]);
		else
			r = ask_once(&q, &before, &after, d);
		q.looked = r == 0;
		if (r == 0)
			answer(&q, &after.text[q.family], a);
		if (r == -EAGAIN) {
			free(q.met);
			q.met = NULL;
		}
		done = r == 0 && is_known(&q);
		iptables_have_free(&before);
		iptables_have_free(&after);
	}
	free(q.met);
	return r;
}

static int add_gateway(struct set *s, const char *rest)
{
	struct element e = {.first = {0}};
	char name[IFNAMSIZ];

	if (sscanf(rest, "-i %15s", name) != 1)
		return 0;
	memcpy(e.first, name, strlen(name));
	memcpy(e.last, name, strlen(name));
	for (size_t i = 0; i < s->n_elements; i++) {
		if (memcmp(s->elements[i].first, e.first, sizeof(name)) == 0)
			return 0;
	}
	return set_add_element(s, &e);
}

int iptables_gateways(const struct iptables_have *have, struct model *m)
{
	const char *chain = have->tried ? "TRANSOCKS_TRIAL_PREROUTING" : "TRANSOCKS_PREROUTING";
	struct set *s = model_add_set(m, WANT_SET_GATEWAY, SET_IFNAME);
	int r = s != NULL ? 0 : -ENOMEM;

	for (int f = 0; r >= 0 && f < LISTENERS_FAMILIES; f++) {
		for (size_t i = 0; r >= 0 && i < have->text[f].n; i++) {
			const struct iptables_line *l = &have->text[f].lines[i];

			if (l->kind == IPTABLES_RULE && strcmp(l->chain, chain) == 0)
				r = add_gateway(s, l->rest);
		}
	}
	return r < 0 ? r : 0;
}
