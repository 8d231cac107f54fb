/* SPDX-License-Identifier: MIT */
/*
 * Live exceptions where iptables did the work.
 */
#include "rulemgr/iptables_sync.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/iptables_run.h"
#include "rulemgr/lock.h"

/* What a live exception begins with: "-d PREFIX", or nothing for the whole family. */
static const char *exception_match(const struct prefix *p, char *out, size_t cap)
{
	char prefix[PREFIX_TEXT_MAX];

	out[0] = '\0';
	if (p->len > 0)
		snprintf(out, cap, "-d %s ", prefix_format(p, prefix, sizeof(prefix)));
	return out;
}

static bool is_exception_for(const struct iptables_line *l, const char *match)
{
	if (!iptables_line_is_exception(l))
		return false;
	if (match[0] == '\0')
		return strncmp(l->rest, "-m comment ", 11) == 0 || strncmp(l->rest, "-j ", 3) == 0;
	return strncmp(l->rest, match, strlen(match)) == 0;
}

static bool has_exception(const struct iptables_text *t, const char *match)
{
	for (size_t i = 0; i < t->n; i++) {
		if (is_exception_for(&t->lines[i], match))
			return true;
	}
	return false;
}

static int family_of(const struct prefix *p)
{
	return p->family == AF_INET ? LISTENERS_IPV4 : LISTENERS_IPV6;
}

static void put_addition(const struct iptables_text *have, const char *chain, const char *match,
			 const char *comment, struct strbuf *body)
{
	struct strbuf line;

	strbuf_init_heap(&line);
	strbuf_printf(&line, "-I %s 1 %s", chain, match);
	if (comment != NULL && comment[0] != '\0') {
		strbuf_puts(&line, "-m comment --comment ");
		iptables_put_string(&line, comment);
		strbuf_putc(&line, ' ');
	}
	strbuf_puts(&line, "-j RETURN\n");
	iptables_text_edit(have, chain, line.data, body);
	strbuf_free(&line);
}

static void put_removal(const struct iptables_text *have, const char *match, struct strbuf *body)
{
	for (size_t t = 0; iptables_tables[t] != NULL; t++) {
		if (!iptables_text_has_chain(have, iptables_tables[t], IPTABLES_BYPASS))
			continue;
		strbuf_printf(body, "*%s\n", iptables_tables[t]);
		for (size_t i = 0; i < have->n; i++) {
			const struct iptables_line *l = &have->lines[i];

			if (strcmp(l->table, iptables_tables[t]) == 0 && is_exception_for(l, match))
				strbuf_printf(body, "-D %s %s\n", l->chain, l->rest);
		}
		strbuf_puts(body, "COMMIT\n");
	}
}

struct bypass {
	const struct prefix *prefix;
	bool add, dry_run;
	const char *comment; /* NULL: none */
};

static bool is_installed_for(const struct iptables_text *t)
{
	for (size_t i = 0; iptables_tables[i] != NULL; i++) {
		if (iptables_text_has_chain(t, iptables_tables[i], IPTABLES_BYPASS))
			return true;
	}
	return false;
}

static int bypass_edit(const struct bypass *b, const struct iptables_have *have, struct diag *d)
{
	int r, family = family_of(b->prefix);
	const struct iptables_text *t = &have->text[family];
	char match[PREFIX_TEXT_MAX + 8], text[PREFIX_TEXT_MAX];
	struct strbuf body;

	if (!is_installed_for(t))
		return diag_set(d, ENOENT, NULL, 0, "no rules of iptables are installed for %s",
				listeners_family[family]);
	exception_match(b->prefix, match, sizeof(match));
	prefix_format(b->prefix, text, sizeof(text));
	if (has_exception(t, match) == b->add)
		return diag_set(d, b->add ? EEXIST : ESRCH, NULL, 0,
				b->add ? "%s is already an exception"
				       : "%s is not among the exceptions; `bypass list` shows them",
				text);
	strbuf_init_heap(&body);
	if (b->add) {
		put_addition(t, IPTABLES_BYPASS, match, b->comment, &body);
		put_addition(t, IPTABLES_TRIAL_BYPASS, match, b->comment, &body);
	} else {
		put_removal(t, match, &body);
	}
	if (body.truncated)
		r = diag_set(d, ENOMEM, NULL, 0, "no memory for the rules of iptables");
	else
		r = iptables_restore(family, have->by, &body, b->dry_run, d);
	strbuf_free(&body);
	return r;
}

static int bypass_change(const struct bypass *b, struct diag *d)
{
	struct iptables_have have;
	int r, lock = lock_take(d);

	if (lock == -EBUSY)
		return lock;
	r = iptables_read(&have, d);
	if (r == 0) {
		lock_note(lock);
		r = bypass_edit(b, &have, d);
		iptables_have_free(&have);
	}
	lock_drop(lock);
	return r;
}

int iptables_bypass_add(const struct prefix *p, const char *comment, bool dry_run, struct diag *d)
{
	struct bypass b = {.prefix = p, .add = true, .dry_run = dry_run, .comment = comment};

	for (const char *c = comment; c != NULL && *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || c - comment >= MODEL_COMMENT_MAX - 1)
			return diag_set(d, EINVAL, NULL, 0,
					"the comment must be one line of at most %d bytes",
					MODEL_COMMENT_MAX - 1);
	}
	return bypass_change(&b, d);
}

int iptables_bypass_del(const struct prefix *p, bool dry_run, struct diag *d)
{
	return bypass_change(&(struct bypass){.prefix = p, .dry_run = dry_run}, d);
}

/* Copies what stands before the comment and the target. */
static const char *line_match(const struct iptables_line *l, char *out, size_t cap)
{
	const char *end = strstr(l->rest, "-m comment ");

	if (end == NULL)
		end = strstr(l->rest, "-j ");
	if (end == NULL)
		end = l->rest + strlen(l->rest);
	while (end > l->rest && end[-1] == ' ')
		end--;
	snprintf(out, cap, "%.*s", (int)(end - l->rest), l->rest);
	return out;
}

/* The filter table has copies only. */
void iptables_bypass_list(const struct iptables_have *have, iptables_bypass_fn *fn, void *ctx)
{
	const char *chain = have->tried ? IPTABLES_TRIAL_BYPASS : IPTABLES_BYPASS;
	char match[256], comment[256];

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		for (size_t i = 0; i < have->text[f].n; i++) {
			const struct iptables_line *l = &have->text[f].lines[i];

			if (iptables_line_is_exception(l) && strcmp(l->chain, chain) == 0 &&
			    strcmp(l->table, "filter") != 0)
				fn(ctx, f, line_match(l, match, sizeof(match)),
				   iptables_line_comment(l, comment, sizeof(comment)));
		}
	}
}
