/* SPDX-License-Identifier: MIT */
#include "policy/suggest.h"

#include <inttypes.h>
#include <string.h>

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* Rules on domains come before those on addresses, which take what is left; but first what went direct by its address,
 * whatever the name: behind a rule on domains it would go by its name. */
static unsigned row_rank(const struct suggest_row *row)
{
	if (row->name[0] != '\0')
		return 1;
	return row->action == RULE_DIRECT ? 0 : 2;
}

/* Whether two rows can be in one rule: 0, or which one's rule comes first. */
static int row_compare_rule(const struct suggest_row *a, const struct suggest_row *b)
{
	int order = compare(a->rule, b->rule);

	if (order == 0)
		order = compare(row_rank(a), row_rank(b));
	if (order == 0)
		order = compare(a->port, b->port);
	if (order == 0)
		order = compare(a->action, b->action);
	if (order == 0 && a->action == RULE_PROXY)
		order = compare(a->group, b->group);
	return order;
}

static int row_compare(const void *x, const void *y)
{
	const struct suggest_row *a = x, *b = y;
	int order = row_compare_rule(a, b);

	if (order == 0)
		order = strcmp(a->name, b->name);
	if (order == 0)
		order = compare(a->dest.family, b->dest.family);
	return order != 0 ? order : memcmp(a->dest.ip, b->dest.ip, sizeof(a->dest.ip));
}

static void put_string(struct strbuf *out, const char *text)
{
	strbuf_put_quoted(out, text, strlen(text));
}

static void put_count(struct strbuf *out, uint64_t n, const char *what)
{
	strbuf_printf(out, "%" PRIu64 " %s%s", n, what, n == 1 ? "" : "s");
}

static void put_head(const struct flow_rule *r, struct strbuf *out)
{
	static const char *const seen[] = {
		[RULE_PROXY] = "would have sent through its group",
		[RULE_DIRECT] = "would have let go direct",
		[RULE_REFUSE] = "would have refused",
	};

	strbuf_puts(out, "# In front of rule ");
	put_string(out, r->name);
	strbuf_puts(out, ", line ");
	strbuf_printf(out, "%d of ", r->place.line);
	put_string(out, r->place.file);
	strbuf_printf(out, ":\n# what it %s goes on as it did.\n", seen[r->action]);
}

static void put_entry(const struct suggest_row *row, struct strbuf *out)
{
	char text[ADDR_TEXT_MAX];

	strbuf_puts(out, "  ");
	put_string(out, row->name[0] != '\0' ? row->name
					     : addr_format_ip(&row->dest, text, sizeof(text)));
	strbuf_puts(out, ", # ");
	put_count(out, row->flows, "flow");
	if (row->clients > 0) {
		strbuf_puts(out, " of ");
		put_count(out, row->clients, "client");
	}
	strbuf_putc(out, '\n');
}

/* One table for rows[0..n), which differ in nothing but the destination. */
static void put_rule(const struct conf *c, const struct suggest_row *rows, size_t n,
		     struct strbuf *out)
{
	bool named = rows->name[0] != '\0';

	strbuf_puts(out, "\n[[rule]]\n");
	if (!named && rows->action == RULE_DIRECT)
		strbuf_puts(out, "# By address, as they went. This is about every name at these "
				 "addresses.\n");
	else if (!named && c->rules.rules[rows->rule].domain_set != NULL)
		strbuf_puts(out,
			    "# No name was known. This is about every name at these addresses.\n");
	strbuf_puts(out, named ? "domains = [\n" : "networks = [\n");
	for (size_t i = 0; i < n; i++)
		put_entry(&rows[i], out);
	strbuf_printf(out, "]\nports = [%u]\naction = \"%s\"\n", rows->port,
		      rule_action_words[rows->action]);
	if (rows->action == RULE_PROXY) {
		strbuf_puts(out, "group = ");
		put_string(out, c->groups[rows->group].name);
		strbuf_putc(out, '\n');
	}
}

/* A rule in front that refuses what is refused anyway would only add what has no name. */
static size_t drop_refused(struct suggest_row *rows, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (rows[i].action != RULE_REFUSE)
			rows[kept++] = rows[i];
	}
	return kept;
}

void suggest_text(const struct conf *c, struct suggest_row *rows, size_t n, uint64_t lost,
		  struct strbuf *out)
{
	n = drop_refused(rows, n);
	if (n == 0)
		strbuf_puts(out,
			    "# No flow was seen that a rule would treat otherwise if it did more "
			    "than observe.\n");
	else
		qsort(rows, n, sizeof(*rows), row_compare);
	for (size_t i = 0, end; i < n; i = end) {
		end = i + 1;
		while (end < n && row_compare_rule(&rows[i], &rows[end]) == 0)
			end++;
		if (i == 0 || rows[i - 1].rule != rows[i].rule) {
			strbuf_puts(out, i > 0 ? "\n" : "");
			put_head(&c->rules.rules[rows[i].rule], out);
		}
		put_rule(c, rows + i, end - i, out);
	}
	if (lost > 0) {
		strbuf_puts(out, "\n# There was no room for the destinations of ");
		put_count(out, lost, "more flow");
		strbuf_puts(out, ": put these rules in, reload, and look again.\n");
	}
}
