/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "rulemgr/iptables.h"

const char iptables_pause_rule[] = "-m comment --comment \"paused, new flows go direct\" -j RETURN";

/* The guard comes before what it guards. */
const char *const iptables_tables[] = {"filter", "mangle", "nat", NULL};

static const char tail[] = "-g " IPTABLES_TAKE;

/* Where the option `name` (" -j ") stands outside quotes, or NULL. */
static const char *find_option(const char *rest, const char *name)
{
	bool quoted = false;

	if (strncmp(rest, name + 1, strlen(name + 1)) == 0)
		return rest - 1;
	for (; *rest != '\0'; rest++) {
		if (quoted && *rest == '\\' && rest[1] != '\0')
			rest++;
		else if (*rest == '"')
			quoted = !quoted;
		else if (!quoted && strncmp(rest, name, strlen(name)) == 0)
			return rest;
	}
	return NULL;
}

const char *iptables_line_target(const struct iptables_line *l)
{
	const char *at = l->rest != NULL ? find_option(l->rest, " -j ") : NULL;
	char chain[64];

	if (at == NULL && l->rest != NULL)
		at = find_option(l->rest, " -g ");
	return at != NULL && sscanf(at + 4, "%63s", chain) == 1 && iptables_is_ours(chain) ? at + 4
											   : NULL;
}

struct parse {
	struct iptables_text *t;
	bool saved;
	const char *table, *chain; /* of the line before */
	unsigned position;
};

static void parse_rule(struct parse *p, char *line, bool insert)
{
	struct iptables_line l = {.table = p->table, .chain = line};
	char *rest = strchr(line, ' ');

	if (rest != NULL)
		*rest++ = '\0';
	l.rest = rest != NULL ? rest : "";
	p->position = p->chain != NULL && strcmp(p->chain, l.chain) == 0 ? p->position + 1 : 1;
	p->chain = l.chain;
	if (iptables_is_ours(l.chain))
		l.kind = IPTABLES_RULE;
	else if (iptables_line_target(&l) != NULL)
		l.kind = IPTABLES_JUMP;
	else
		return;
	l.position = p->saved ? p->position : insert;
	p->t->lines[p->t->n++] = l;
}

static void parse_line(struct parse *p, char *line)
{
	uint64_t packets = 0, bytes = 0;
	size_t before = p->t->n;

	if (line[0] == '*') {
		p->table = line + 1;
		p->chain = NULL;
	}
	if (line[0] == ':') {
		line[1 + strcspn(line + 1, " ")] = '\0';
		if (iptables_is_ours(line + 1))
			p->t->lines[p->t->n++] = (struct iptables_line){
				.kind = IPTABLES_CHAIN, .table = p->table, .chain = line + 1};
		return;
	}
	if (sscanf(line, "[%" SCNu64 ":%" SCNu64 "]", &packets, &bytes) == 2)
		line += strcspn(line, " ") + 1;
	if (p->table != NULL && (strncmp(line, "-A ", 3) == 0 || strncmp(line, "-I ", 3) == 0))
		parse_rule(p, line + 3, line[1] == 'I');
	if (p->t->n > before) {
		p->t->lines[before].packets = packets;
		p->t->lines[before].bytes = bytes;
	}
}

int iptables_text_parse(struct iptables_text *t, const char *text, bool saved)
{
	struct iptables_text read = {.text = strdup(text)};
	struct parse p = {.t = &read, .saved = saved};
	size_t room = 1;

	for (const char *at = text; *at != '\0'; at++)
		room += *at == '\n';
	read.lines = calloc(room, sizeof(*read.lines));
	if (read.text == NULL || read.lines == NULL) {
		iptables_text_free(&read);
		return -ENOMEM;
	}
	for (char *save, *line = strtok_r(read.text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save))
		parse_line(&p, line);
	*t = read;
	return 0;
}

void iptables_text_free(struct iptables_text *t)
{
	free(t->lines);
	free(t->text);
	*t = (struct iptables_text){0};
}

bool iptables_text_has_chain(const struct iptables_text *t, const char *table, const char *chain)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (l->kind == IPTABLES_CHAIN && strcmp(l->table, table) == 0 &&
		    strcmp(l->chain, chain) == 0)
			return true;
	}
	return false;
}

static bool ends_in(const struct iptables_line *l, const char *goes_on)
{
	const char *goes = find_option(l->rest, " -g ");

	return goes != NULL && strcmp(goes + 1, goes_on) == 0;
}

static bool is_tail(const struct iptables_line *l)
{
	return l->kind == IPTABLES_RULE && strcmp(l->chain, IPTABLES_BYPASS) == 0 &&
	       ends_in(l, tail);
}

static bool is_trial_exception(const struct iptables_line *l)
{
	return l->kind == IPTABLES_RULE && strcmp(l->chain, IPTABLES_TRIAL_BYPASS) == 0 &&
	       !ends_in(l, "-g " IPTABLES_TRIAL_TAKE);
}

static bool is_plain_exception(const struct iptables_line *l)
{
	return l->kind == IPTABLES_RULE && strcmp(l->chain, IPTABLES_BYPASS) == 0 && !is_tail(l);
}

bool iptables_line_is_exception(const struct iptables_line *l)
{
	return is_plain_exception(l) || is_trial_exception(l);
}

bool iptables_line_is_pause(const struct iptables_line *l)
{
	return l->kind == IPTABLES_RULE &&
	       (strcmp(l->chain, IPTABLES_TAKE) == 0 ||
		strcmp(l->chain, IPTABLES_TRIAL_TAKE) == 0) &&
	       strcmp(l->rest, iptables_pause_rule) == 0;
}

bool iptables_line_is_probe(const struct iptables_line *l)
{
	const char *target = iptables_line_target(l);

	return strcmp(l->chain, IPTABLES_PROBE) == 0 ||
	       (target != NULL && strcmp(target, IPTABLES_PROBE) == 0);
}

bool iptables_line_is_kept(const struct iptables_line *l)
{
	return strcmp(l->chain, IPTABLES_KEEP) == 0;
}

const char *iptables_line_comment(const struct iptables_line *l, char *out, size_t cap)
{
	const char *at = find_option(l->rest, " --comment ");
	struct strbuf sb;
	bool quoted;

	strbuf_init(&sb, out, cap);
	if (at == NULL)
		return out;
	at += strlen(" --comment ");
	quoted = *at == '"';
	for (at += quoted; *at != '\0' && *at != (quoted ? '"' : ' '); at++) {
		if (*at == '\\' && at[1] != '\0')
			at++;
		strbuf_putc(&sb, *at);
	}
	return out;
}

const char *iptables_text_mark(const struct iptables_text *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const char *at = t->lines[i].kind == IPTABLES_RULE
					 ? strstr(t->lines[i].rest, "-j CONNMARK ")
					 : NULL;

		if (at != NULL)
			return at;
	}
	return NULL;
}

uint16_t iptables_line_port(const struct iptables_line *l)
{
	const char *at = find_option(l->rest, " --to-ports ");
	unsigned port = 0;

	if (at == NULL || sscanf(at, " --to-ports %5u", &port) != 1 || port > UINT16_MAX)
		return 0;
	return (uint16_t)port;
}

/* ------------------------------------------------------------------------------------------------ */

/* Earlier ports, the latest first. */
struct kept {
	uint16_t ports[MODEL_PORTS_MAX - 1];
	size_t n;
};

struct replace {
	const struct iptables_text *have, *want;
	const char *table;
	const char *exceptions; /* the table whose live exceptions stay; NULL: of none */
	bool exact;
	struct kept kept;
	struct strbuf *body;
};

static bool redirects_to(const struct iptables_text *t, uint16_t port)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (l->kind == IPTABLES_RULE && !iptables_line_is_kept(l) &&
		    iptables_line_port(l) == port)
			return true;
	}
	return false;
}

/* Those of `t` that the new rules do not redirect to, earlier ones of `t` or the others. */
static void kept_add(struct kept *k, const struct iptables_text *t, bool earlier,
		     const struct iptables_text *want)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];
		uint16_t port = l->kind == IPTABLES_RULE ? iptables_line_port(l) : 0;
		bool known = port == 0 || iptables_line_is_kept(l) != earlier ||
			     k->n == ARRAY_LEN(k->ports) || redirects_to(want, port);

		for (size_t n = 0; n < k->n; n++)
			known = known || k->ports[n] == port;
		if (!known)
			k->ports[k->n++] = port;
	}
}

/* Somebody who has removed all of it has not removed what the new text remembers. */
static void replace_keep(struct replace *r)
{
	if (r->exact)
		return;
	kept_add(&r->kept, r->have, false, r->want);
	kept_add(&r->kept, r->have, true, r->want);
	kept_add(&r->kept, r->want, true, r->want);
}

/* Whether the chain will be there. */
static bool is_wanted(const struct replace *r, const char *chain)
{
	if (!r->exact && strcmp(chain, IPTABLES_KEEP) == 0)
		return r->kept.n > 0 && strcmp(r->table, "nat") == 0;
	return iptables_text_has_chain(r->want, r->table, chain);
}

static bool is_of(const struct iptables_line *l, const char *table, enum iptables_kind kind)
{
	return l->kind == kind && strcmp(l->table, table) == 0;
}

static void replace_put(const struct replace *r, const char *verb, const struct iptables_line *l)
{
	strbuf_printf(r->body, "%s %s %s\n", verb, l->chain, l->rest);
}

/* The chain of live exceptions is the one that is not emptied: somebody may add to it meanwhile. */
static bool stays(const struct replace *r, const struct iptables_line *l)
{
	return r->exceptions != NULL && strcmp(l->chain, IPTABLES_BYPASS) == 0 &&
	       strcmp(r->exceptions, r->table) == 0;
}

static void declare(const struct replace *r, const char *chain)
{
	if (!iptables_text_has_chain(r->have, r->table, chain) && is_wanted(r, chain))
		strbuf_printf(r->body, ":%s - [0:0]\n", chain);
}

static void replace_declare(const struct replace *r)
{
	for (size_t i = 0; i < r->want->n; i++) {
		const struct iptables_line *l = &r->want->lines[i];

		if (is_of(l, r->table, IPTABLES_CHAIN) && (r->exact || !iptables_line_is_kept(l)))
			declare(r, l->chain);
	}
	if (!r->exact)
		declare(r, IPTABLES_KEEP);
}

/* First nothing leads into our chains, then they are empty, then they go. Declaring a chain empties it. */
static void replace_remove(const struct replace *r)
{
	for (size_t i = 0; i < r->have->n; i++) {
		if (is_of(&r->have->lines[i], r->table, IPTABLES_JUMP))
			replace_put(r, "-D", &r->have->lines[i]);
	}
	for (size_t i = 0; i < r->have->n; i++) {
		const struct iptables_line *l = &r->have->lines[i];

		if (is_of(l, r->table, IPTABLES_CHAIN) && !stays(r, l))
			strbuf_printf(r->body, "-F %s\n", l->chain);
		if (is_of(l, r->table, IPTABLES_RULE) && stays(r, l) && is_tail(l))
			replace_put(r, "-D", l);
	}
	for (size_t i = 0; i < r->have->n; i++) {
		const struct iptables_line *l = &r->have->lines[i];

		if (is_of(l, r->table, IPTABLES_CHAIN) && !is_wanted(r, l->chain))
			strbuf_printf(r->body, "-X %s\n", l->chain);
	}
}

/* In a table that has its own exceptions already, they are not added again. */
static void replace_add_exceptions(const struct replace *r)
{
	for (size_t i = 0; r->exceptions != NULL && i < r->have->n; i++) {
		const struct iptables_line *l = &r->have->lines[i];

		if (strcmp(l->table, r->exceptions) == 0 && strcmp(r->exceptions, r->table) != 0 &&
		    is_plain_exception(l))
			replace_put(r, "-A", l);
	}
}

static void replace_add_kept(const struct replace *r)
{
	for (size_t i = 0; is_wanted(r, IPTABLES_KEEP) && i < r->kept.n; i++)
		strbuf_printf(r->body,
			      "-A %s -p tcp -m comment --comment \"earlier port\" -j REDIRECT "
			      "--to-ports %u\n",
			      IPTABLES_KEEP, r->kept.ports[i]);
}

static void replace_add(const struct replace *r)
{
	for (size_t i = 0; i < r->want->n; i++) {
		const struct iptables_line *l = &r->want->lines[i];

		if (!is_of(l, r->table, IPTABLES_RULE) || (!r->exact && iptables_line_is_kept(l)))
			continue;
		if (is_tail(l))
			replace_add_exceptions(r);
		replace_put(r, "-A", l);
	}
	replace_add_kept(r);
	for (size_t i = 0; i < r->want->n; i++) {
		const struct iptables_line *l = &r->want->lines[i];

		if (!is_of(l, r->table, IPTABLES_JUMP))
			continue;
		if (l->position == 0)
			replace_put(r, "-A", l);
		else
			strbuf_printf(r->body, "-I %s %u %s\n", l->chain, l->position, l->rest);
	}
}

static bool has_table(const struct iptables_text *t, const char *table)
{
	for (size_t i = 0; i < t->n; i++) {
		if (strcmp(t->lines[i].table, table) == 0)
			return true;
	}
	return false;
}

/* The table that live exceptions are read from: where flows are taken, or were. */
static const char *find_exceptions(const struct iptables_text *have)
{
	static const char *const tables[] = {"nat", "mangle", "filter"};

	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		if (iptables_text_has_chain(have, tables[i], IPTABLES_BYPASS))
			return tables[i];
	}
	return NULL;
}

void iptables_text_replace(const struct iptables_text *have, const struct iptables_text *want,
			   bool exact, struct strbuf *body)
{
	struct replace r = {.have = have, .want = want, .exact = exact, .body = body};
	const char *source = exact ? NULL : find_exceptions(have);

	replace_keep(&r);
	for (size_t t = 0; iptables_tables[t] != NULL; t++) {
		r.table = iptables_tables[t];
		r.exceptions =
			iptables_text_has_chain(want, r.table, IPTABLES_BYPASS) ? source : NULL;
		if (!has_table(have, r.table) && !has_table(want, r.table))
			continue;
		strbuf_printf(body, "*%s\n", r.table);
		replace_declare(&r);
		replace_remove(&r);
		replace_add(&r);
		strbuf_puts(body, "COMMIT\n");
	}
}

void iptables_text_edit(const struct iptables_text *have, const char *chain, const char *line,
			struct strbuf *body)
{
	for (size_t t = 0; iptables_tables[t] != NULL; t++) {
		if (iptables_text_has_chain(have, iptables_tables[t], chain))
			strbuf_printf(body, "*%s\n%sCOMMIT\n", iptables_tables[t], line);
	}
}

/* ------------------------------------------------------------------------------------------------ */

static bool same_rule(const struct iptables_line *a, const struct iptables_line *b)
{
	return a->kind == b->kind && strcmp(a->table, b->table) == 0 &&
	       strcmp(a->chain, b->chain) == 0 &&
	       (a->kind == IPTABLES_CHAIN || strcmp(a->rest, b->rest) == 0);
}

bool iptables_text_equal(const struct iptables_text *a, const struct iptables_text *b)
{
	bool equal = a->n == b->n;

	for (size_t i = 0; equal && i < a->n; i++)
		equal = same_rule(&a->lines[i], &b->lines[i]) &&
			a->lines[i].position == b->lines[i].position;
	return equal;
}

static size_t count_same(const struct iptables_text *t, const struct iptables_line *l)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += same_rule(&t->lines[i], l);
	return n;
}

bool iptables_text_jumps_agree(const struct iptables_text *have, const struct iptables_text *want)
{
	for (size_t i = 0; i < have->n; i++) {
		if (have->lines[i].kind == IPTABLES_JUMP && count_same(want, &have->lines[i]) != 1)
			return false;
	}
	for (size_t i = 0; i < want->n; i++) {
		if (want->lines[i].kind == IPTABLES_JUMP && count_same(have, &want->lines[i]) != 1)
			return false;
	}
	return true;
}

/* Whether the line can differ from what is wanted at all. */
static bool is_compared(const struct iptables_line *l)
{
	return !iptables_line_is_exception(l) && !iptables_line_is_pause(l) &&
	       !iptables_line_is_kept(l);
}

/* The next line of that table, chain and kind from `i` on, or t->n. */
static size_t next_like(const struct iptables_text *t, size_t i, const struct iptables_line *like)
{
	for (; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (l->kind == like->kind && strcmp(l->table, like->table) == 0 &&
		    strcmp(l->chain, like->chain) == 0 && is_compared(l))
			break;
	}
	return i;
}

static size_t find_same(const struct iptables_text *t, size_t i, const struct iptables_line *l)
{
	while (i < t->n && !same_rule(&t->lines[i], l))
		i++;
	return i;
}

/* Both sides of one chain in order: what stands in `have` before the next line that both have is too
 * much, what has no partner behind the last one is missing. */
static size_t diff_chain(const struct iptables_text *have, const struct iptables_text *want,
			 const struct iptables_line *like, iptables_change_fn *fn, void *ctx)
{
	size_t n = 0, h = next_like(have, 0, like);

	for (size_t i = next_like(want, 0, like); i < want->n; i = next_like(want, i + 1, like)) {
		size_t at = find_same(have, h, &want->lines[i]);

		if (at == have->n) {
			fn(ctx, true, &want->lines[i]);
			n++;
			continue;
		}
		for (; h < at; h = next_like(have, h + 1, like), n++)
			fn(ctx, false, &have->lines[h]);
		h = next_like(have, at + 1, like);
	}
	for (; h < have->n; h = next_like(have, h + 1, like), n++)
		fn(ctx, false, &have->lines[h]);
	return n;
}

/* Whether no line before it stands for the same chain and kind. */
static bool is_first_like(const struct iptables_text *t, size_t i)
{
	return next_like(t, 0, &t->lines[i]) == i;
}

size_t iptables_text_diff(const struct iptables_text *have, const struct iptables_text *want,
			  iptables_change_fn *fn, void *ctx)
{
	size_t n = 0;

	for (size_t i = 0; i < want->n; i++) {
		if (is_first_like(want, i))
			n += diff_chain(have, want, &want->lines[i], fn, ctx);
	}
	for (size_t i = 0; i < have->n; i++) {
		if (is_first_like(have, i) && next_like(want, 0, &have->lines[i]) == want->n)
			n += diff_chain(have, want, &have->lines[i], fn, ctx);
	}
	return n;
}
