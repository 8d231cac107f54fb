/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_trial.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/iptables.h"

static const char gate_comment[] = "on trial";
static const char plain_prefix[] = IPTABLES_CHAINS;
static const char trial_prefix[] = IPTABLES_TRIAL;

static bool is_tried(const char *chain)
{
	return strncmp(chain, trial_prefix, strlen(trial_prefix)) == 0;
}

/* Its name behind the prefix: that of the same chain in either half. */
static const char *bare(const char *chain)
{
	return chain + strlen(is_tried(chain) ? trial_prefix : plain_prefix);
}

/* Whether chains of the kernel lead there. */
static bool is_entry(const char *chain)
{
	static const char *const names[] = {"OUTPUT", "PREROUTING", "FORWARD", "GUARD"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(bare(chain), names[i]) == 0)
			return true;
	}
	return false;
}

static bool is_of(const struct iptables_line *l, const char *table, enum iptables_kind kind)
{
	return l->kind == kind && strcmp(l->table, table) == 0;
}

static bool is_gate(const struct iptables_line *l)
{
	char comment[sizeof(gate_comment) + 1];

	return l->kind == IPTABLES_RULE && !is_tried(l->chain) && is_entry(l->chain) &&
	       strncmp(l->rest, "-m time ", 8) == 0 &&
	       strcmp(iptables_line_comment(l, comment, sizeof(comment)), gate_comment) == 0;
}

/* As iptables-save prints it, always in UTC. -1: not so. */
static int64_t read_time(const char *rest, const char *option)
{
	const char *at = strstr(rest, option);
	struct tm tm = {0};

	if (at == NULL || strptime(at + strlen(option), "%Y-%m-%dT%H:%M:%S", &tm) == NULL)
		return -1;
	return timegm(&tm);
}

static bool has_trial(const struct iptables_text *t)
{
	bool tried = false;

	for (size_t i = 0; i < t->n && !tried; i++)
		tried = t->lines[i].kind == IPTABLES_CHAIN && is_tried(t->lines[i].chain);
	return tried;
}

void iptables_trial_find(const struct iptables_text *t, struct iptables_trial *out)
{
	bool paused = false, plain = false;

	*out = (struct iptables_trial){.on = has_trial(t), .start = 0, .end = -1};
	for (size_t i = 0; out->on && i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (is_gate(l)) {
			out->start = read_time(l->rest, "--datestart ");
			out->end = read_time(l->rest, "--datestop ");
		}
		if (l->kind != IPTABLES_RULE || strcmp(l->chain, IPTABLES_TAKE) != 0)
			continue;
		plain = true;
		paused = paused || iptables_line_is_pause(l);
	}
	out->previous = plain && !paused;
}

bool iptables_trial_is_running(const struct iptables_trial *trial, int64_t now)
{
	return trial->on && trial->start <= now && now <= trial->end;
}

/* ------------------------------------------------------------------------------------------------ */

const char *iptables_trial_refusal(const struct iptables_text *have,
				   const struct iptables_text *want)
{
	const char *a = iptables_text_mark(have), *b = iptables_text_mark(want);

	if (have->n == 0 || want->n == 0 || (a == NULL && b == NULL) ||
	    (a != NULL && b != NULL && strcmp(a, b) == 0))
		return NULL;
	return "--confirm cannot change mode or tproxy_mark of rules that are there: flush before, "
	       "or "
	       "install without";
}

/* ------------------------------------------------------------------------------------------------ */

struct writing {
	struct strbuf out;
	const char *table;
};

static void put_chain(struct writing *w, const char *prefix, const char *chain)
{
	strbuf_printf(&w->out, ":%s%s - [0:0]\n", prefix, bare(chain));
}

/* The rule in a chain of that prefix, and what it leads to as well. */
static void put_rule(struct writing *w, const char *prefix, const struct iptables_line *l)
{
	const char *target = iptables_line_target(l);
	int n = (int)(target != NULL ? target - l->rest : (ptrdiff_t)strlen(l->rest));

	strbuf_printf(&w->out, "-A %s%s %.*s", prefix, bare(l->chain), n, l->rest);
	if (target != NULL)
		strbuf_printf(&w->out, "%s%s", prefix, bare(target));
	strbuf_putc(&w->out, '\n');
}

static void put_jump(struct writing *w, const struct iptables_line *l)
{
	strbuf_printf(&w->out, "-%c %s %s\n", l->position == 1 ? 'I' : 'A', l->chain, l->rest);
}

static bool has_rules(const struct iptables_text *t, const char *table, const char *chain)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (is_of(l, table, IPTABLES_RULE) && !is_gate(l) && strcmp(l->chain, chain) == 0)
			return true;
	}
	return false;
}

/* Whether a chain of `t` is of that half. One with nothing but a gate is there for the trial alone, and a cage is of
 * neither. */
static bool is_half(const struct iptables_text *t, const struct iptables_line *l, bool tried)
{
	if (iptables_line_is_probe(l))
		return false;
	if (!has_trial(t))
		return true;
	return is_tried(l->chain) == tried &&
	       (tried || !is_entry(l->chain) || has_rules(t, l->table, l->chain));
}

/* Whether the chain that the jump leads to is there in that half. */
static bool jump_is_half(const struct iptables_text *t, const struct iptables_line *jump,
			 bool tried)
{
	const char *target = iptables_line_target(jump);

	for (size_t i = 0; target != NULL && i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (is_of(l, jump->table, IPTABLES_CHAIN) && is_half(t, l, tried) &&
		    strcmp(bare(l->chain), bare(target)) == 0)
			return true;
	}
	return false;
}

static void begin_table(struct writing *w, const char *table)
{
	w->table = table;
	strbuf_printf(&w->out, "*%s\n", table);
}

/* A jump stays where it is; iptables_text_parse() knows only the two ends of a chain. */
static void keep_positions(struct iptables_text *target, const struct iptables_text *have)
{
	for (size_t i = 0; i < target->n; i++) {
		struct iptables_line *to = &target->lines[i];

		for (size_t k = 0; to->kind == IPTABLES_JUMP && k < have->n; k++) {
			const struct iptables_line *l = &have->lines[k];

			if (is_of(l, to->table, IPTABLES_JUMP) &&
			    strcmp(l->chain, to->chain) == 0 && strcmp(l->rest, to->rest) == 0)
				to->position = l->position;
		}
	}
}

static int end_writing(struct writing *w, const struct iptables_text *have,
		       struct iptables_text *out)
{
	int r = w->out.truncated ? -ENOMEM : iptables_text_parse(out, w->out.data, false);

	strbuf_free(&w->out);
	if (r == 0)
		keep_positions(out, have);
	return r;
}

static int write_half(const struct iptables_text *t, bool tried, bool exceptions,
		      struct iptables_text *half)
{
	struct writing w;

	strbuf_init_heap(&w.out);
	for (size_t k = 0; iptables_tables[k] != NULL; k++) {
		begin_table(&w, iptables_tables[k]);
		for (size_t i = 0; i < t->n; i++) {
			const struct iptables_line *l = &t->lines[i];

			if (is_of(l, w.table, IPTABLES_CHAIN) && is_half(t, l, tried))
				put_chain(&w, plain_prefix, l->chain);
		}
		for (size_t i = 0; i < t->n; i++) {
			const struct iptables_line *l = &t->lines[i];

			if (is_of(l, w.table, IPTABLES_JUMP) && jump_is_half(t, l, tried))
				put_jump(&w, l);
			if (is_of(l, w.table, IPTABLES_RULE) && is_half(t, l, tried) &&
			    !is_gate(l) && (exceptions || !iptables_line_is_exception(l)))
				put_rule(&w, plain_prefix, l);
		}
		strbuf_puts(&w.out, "COMMIT\n");
	}
	return end_writing(&w, t, half);
}

int iptables_trial_half(const struct iptables_text *t, bool tried, struct iptables_text *half)
{
	return write_half(t, tried, true, half);
}

int iptables_trial_keep(const struct iptables_text *t, bool tried, struct iptables_text *target)
{
	return write_half(t, tried, false, target);
}

/* ------------------------------------------------------------------------------------------------ */

/* The new rules, paused: what is gone back to where nothing is. */
static int pause_new(const struct iptables_text *want, struct iptables_text *previous)
{
	struct writing w;

	strbuf_init_heap(&w.out);
	for (size_t k = 0; iptables_tables[k] != NULL; k++) {
		begin_table(&w, iptables_tables[k]);
		for (size_t i = 0; i < want->n; i++) {
			const struct iptables_line *l = &want->lines[i];

			if (!is_of(l, w.table, IPTABLES_CHAIN))
				continue;
			put_chain(&w, plain_prefix, l->chain);
			if (strcmp(l->chain, IPTABLES_TAKE) == 0)
				strbuf_printf(&w.out, "-A %s %s\n", l->chain, iptables_pause_rule);
		}
		for (size_t i = 0; i < want->n; i++) {
			if (is_of(&want->lines[i], w.table, IPTABLES_RULE))
				put_rule(&w, plain_prefix, &want->lines[i]);
			if (is_of(&want->lines[i], w.table, IPTABLES_JUMP))
				put_jump(&w, &want->lines[i]);
		}
		strbuf_puts(&w.out, "COMMIT\n");
	}
	return end_writing(&w, want, previous);
}

struct beginning {
	struct writing w;
	const struct iptables_text *have, *want;
	struct iptables_text previous;
	const struct iptables_trial *times;
};

static void put_time(struct strbuf *out, const char *option, int64_t seconds)
{
	time_t at = (time_t)seconds;
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&at, &tm));
	strbuf_printf(out, "%s %s ", option, text);
}

/* On to the new rules; where those have no such chain, past the previous ones. */
static void put_gate(struct beginning *b, const char *chain)
{
	struct strbuf *out = &b->w.out;

	strbuf_printf(out, "-A %s -m time ", chain);
	put_time(out, "--datestart", b->times->start);
	put_time(out, "--datestop", b->times->end);
	strbuf_printf(out, "-m comment --comment \"%s\" ", gate_comment);
	if (iptables_text_has_chain(b->want, b->w.table, chain))
		strbuf_printf(out, "-g %s%s\n", trial_prefix, bare(chain));
	else
		strbuf_puts(out, "-j RETURN\n");
}

static void put_previous_chain(struct beginning *b, const struct iptables_line *chain)
{
	const struct iptables_text *t = &b->previous;

	put_chain(&b->w, plain_prefix, chain->chain);
	if (is_entry(chain->chain))
		put_gate(b, chain->chain);
	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (is_of(l, b->w.table, IPTABLES_RULE) && strcmp(l->chain, chain->chain) == 0 &&
		    !iptables_line_is_exception(l))
			put_rule(&b->w, plain_prefix, l);
	}
}

/* Table filter has copies only, which are made of those of the other. */
static void put_exceptions(struct beginning *b)
{
	for (size_t i = 0; i < b->previous.n; i++) {
		const struct iptables_line *l = &b->previous.lines[i];

		if (iptables_line_is_exception(l) && strcmp(l->table, "filter") != 0)
			put_rule(&b->w, trial_prefix, l);
	}
}

static void put_new_chain(struct beginning *b, const struct iptables_line *chain)
{
	const struct iptables_text *t = b->want;

	put_chain(&b->w, trial_prefix, chain->chain);
	if (is_entry(chain->chain) &&
	    !iptables_text_has_chain(&b->previous, b->w.table, chain->chain)) {
		put_chain(&b->w, plain_prefix, chain->chain);
		put_gate(b, chain->chain);
	}
	if (strcmp(chain->chain, IPTABLES_BYPASS) == 0)
		put_exceptions(b);
	for (size_t i = 0; i < t->n; i++) {
		if (is_of(&t->lines[i], b->w.table, IPTABLES_RULE) &&
		    strcmp(t->lines[i].chain, chain->chain) == 0)
			put_rule(&b->w, trial_prefix, &t->lines[i]);
	}
}

static bool has_jump(const struct iptables_text *t, const struct iptables_line *jump)
{
	for (size_t i = 0; i < t->n; i++) {
		if (is_of(&t->lines[i], jump->table, IPTABLES_JUMP) &&
		    strcmp(t->lines[i].chain, jump->chain) == 0 &&
		    strcmp(t->lines[i].rest, jump->rest) == 0)
			return true;
	}
	return false;
}

static void put_table(struct beginning *b, const char *table)
{
	const struct iptables_text *old = &b->previous, *new = b->want;

	begin_table(&b->w, table);
	for (size_t i = 0; i < old->n; i++) {
		if (is_of(&old->lines[i], table, IPTABLES_CHAIN))
			put_previous_chain(b, &old->lines[i]);
	}
	for (size_t i = 0; i < new->n; i++) {
		if (is_of(&new->lines[i], table, IPTABLES_CHAIN))
			put_new_chain(b, &new->lines[i]);
	}
	for (size_t i = 0; i < old->n; i++) {
		if (is_of(&old->lines[i], table, IPTABLES_JUMP))
			put_jump(&b->w, &old->lines[i]);
	}
	for (size_t i = 0; i < new->n; i++) {
		if (is_of(&new->lines[i], table, IPTABLES_JUMP) && !has_jump(old, &new->lines[i]))
			put_jump(&b->w, &new->lines[i]);
	}
	strbuf_puts(&b->w.out, "COMMIT\n");
}

int iptables_trial_begin(const struct iptables_text *have, const struct iptables_text *want,
			 const struct iptables_trial *times, struct iptables_text *target)
{
	struct beginning b = {.have = have, .want = want, .times = times};
	int r = iptables_trial_half(have, false, &b.previous);

	if (r == 0 && b.previous.n == 0) {
		iptables_text_free(&b.previous);
		r = pause_new(want, &b.previous);
	}
	if (r < 0)
		return r;
	strbuf_init_heap(&b.w.out);
	for (size_t k = 0; iptables_tables[k] != NULL; k++)
		put_table(&b, iptables_tables[k]);
	r = end_writing(&b.w, have, target);
	iptables_text_free(&b.previous);
	return r;
}
