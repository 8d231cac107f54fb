/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is ours in the text of iptables-save(8), and the text for iptables-restore(8) that turns one state
 * of it into another. Pure.
 *
 * Ours are the chains that iptables_is_ours() names, their rules, and every rule of another chain that
 * leads into one of them: a jump.
 */
#include "policy/prefix.h"
#include "policy/strbuf.h"
#include "rulemgr/model.h"

enum iptables_kind { IPTABLES_CHAIN, IPTABLES_RULE, IPTABLES_JUMP };

struct iptables_line {
	enum iptables_kind kind;
	const char *table; /* "nat" */
	const char *chain; /* the one it stands in, or is */
	const char *rest;  /* a rule behind the name of its chain: matches and target */
	/* A jump: its number in its chain, from 1; 0: behind all others. */
	unsigned position;
	uint64_t packets, bytes; /* 0 where the text had no counters */
};

/* The lines of one family, in the order of the text. Owns the text; iptables_text_free() ends it, and an
 * all-zero one is fine. */
struct iptables_text {
	struct iptables_line *lines;
	size_t n;
	char *text;
};

/* Reads a copy of `text`; `saved`: by iptables-save, else as iptables_build() makes it. 0 or -ENOMEM. */
int iptables_text_parse(struct iptables_text *t, const char *text, bool saved);
void iptables_text_free(struct iptables_text *t);

/* Appends what replaces `have` by `want`, table by table; nothing where there is nothing in either. With
 * `exact` unset the live exceptions of `have` stay, also in tables that had none, and so do the ports that it
 * redirects to, in IPTABLES_KEEP: the rules there let the kernel go on with the live flows, and flush count them. */
void iptables_text_replace(const struct iptables_text *have, const struct iptables_text *want,
			   bool exact, struct strbuf *body);

/* Appends one line for every table that has the chain. */
void iptables_text_edit(const struct iptables_text *have, const char *chain, const char *line,
			struct strbuf *body);

/* Whether every jump of `want`, and no other, stands there exactly once. */
bool iptables_text_jumps_agree(const struct iptables_text *have, const struct iptables_text *want);

/* Whether both are the same lines in the same order and places; counters do not count. */
bool iptables_text_equal(const struct iptables_text *a, const struct iptables_text *b);

/* Calls `fn` for every line of ours that is missing or too much, except live exceptions, earlier ports and what
 * iptables_pause() puts in. Returns how many there are. */
typedef void iptables_change_fn(void *ctx, bool missing, const struct iptables_line *l);
size_t iptables_text_diff(const struct iptables_text *have, const struct iptables_text *want,
			  iptables_change_fn *fn, void *ctx);

/* What the routes are for: the mark that TPROXY takes flows with, up to the end of its rule; NULL: none. */
const char *iptables_text_mark(const struct iptables_text *t);

/* The comment of a rule without its quotes, or "". Returns `out`. */
const char *iptables_line_comment(const struct iptables_line *l, char *out, size_t cap);
/* The name of the chain of ours that a rule or jump leads to, up to the end of its text; NULL: it leads to none. */
const char *iptables_line_target(const struct iptables_line *l);
/* Where the rule redirects to; 0: it does not. */
uint16_t iptables_line_port(const struct iptables_line *l);
/* Whether it is a live exception, also of rules on trial. */
bool iptables_line_is_exception(const struct iptables_line *l);
/* Whether iptables_pause() put it in, also in rules on trial. */
bool iptables_line_is_pause(const struct iptables_line *l);
/* Whether it is of IPTABLES_KEEP. */
bool iptables_line_is_kept(const struct iptables_line *l);
/* Whether it is part of the cage of a probe. */
bool iptables_line_is_probe(const struct iptables_line *l);
/* Whether the table has that chain. */
bool iptables_text_has_chain(const struct iptables_text *t, const char *table, const char *chain);

/* The rule of a pause, behind the name of its chain. */
extern const char iptables_pause_rule[];
/* The tables we may have something in, in the order of installing; NULL at the end. */
extern const char *const iptables_tables[];
