/* SPDX-License-Identifier: MIT */
#include "rulemgr/watch_routes.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/want.h"

/* Of the rule that hands flows over: the mark that it sets (emit_packet_mark()). */
static bool rule_hands_over(const struct rule *r, struct mark *mark)
{
	const struct expr *value = NULL;
	bool tproxy = false;

	for (size_t i = 0; i < r->n_exprs; i++) {
		const struct expr *e = &r->exprs[i];

		tproxy |= e->kind == EXPR_TPROXY;
		if (e->kind == EXPR_BITWISE || e->kind == EXPR_IMMEDIATE)
			value = e;
		if (e->kind != EXPR_META_SET || e->key != NFT_META_MARK || value == NULL)
			continue;
		*mark = (struct mark){.mask = UINT32_MAX};
		if (value->kind == EXPR_IMMEDIATE) {
			memcpy(&mark->value, value->value.bytes, sizeof(mark->value));
			continue;
		}
		memcpy(&mark->value, value->xor.bytes, sizeof(mark->value));
		memcpy(&mark->mask, value->value.bytes, sizeof(mark->mask));
		mark->mask = ~mark->mask;
	}
	return tproxy;
}

static void note_family(const struct rule *r, bool family[LISTENERS_FAMILIES])
{
	char comment[MODEL_COMMENT_MAX];

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		snprintf(comment, sizeof(comment), WANT_COMMENT_FAMILY, listeners_family[f]);
		if (strcmp(r->comment, comment) == 0)
			family[f] = false;
	}
}

bool watch_routes_wanted(const struct model *m, struct mark *mark, bool family[LISTENERS_FAMILIES])
{
	bool wanted = false;

	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		family[f] = true;
	for (size_t i = 0; i < m->n_chains; i++) {
		for (size_t k = 0; k < m->chains[i].n_rules; k++) {
			const struct rule *r = &m->chains[i].rules[k];
			struct mark found = {.mask = 0};

			note_family(r, family);
			if (rule_hands_over(r, &found) && found.mask != 0) {
				*mark = found;
				wanted = true;
			}
		}
	}
	return wanted;
}

int watch_routes_compare(const struct model *want, struct routes_change *c, struct diag *d)
{
	bool family[LISTENERS_FAMILIES];
	struct routes all;
	struct mark mark;
	bool wanted = watch_routes_wanted(want, &mark, family);
	int r = routes_read(&all, d);

	if (r < 0)
		return r;
	r = routes_plan(&all, wanted ? &mark : NULL, family, c);
	routes_free(&all);
	return r < 0 ? diag_no_memory(d) : 0;
}

int watch_routes_repair(const struct model *want, struct routes_change *c, struct diag *d)
{
	bool family[LISTENERS_FAMILIES];
	struct mark mark;

	if (watch_routes_wanted(want, &mark, family))
		return routes_install(&mark, family, false, c, d);
	return routes_remove(false, c, d);
}
