/* SPDX-License-Identifier: MIT */
#include "rulemgr/carry.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "rulemgr/want.h"

bool set_is_live(const char *name)
{
	return strcmp(name, WANT_SET_BYPASS4) == 0 || strcmp(name, WANT_SET_BYPASS6) == 0;
}

/* What somebody else added carries no comment of ours. */
static bool is_foreign(const struct element *e)
{
	return e->comment[0] == '\0';
}

bool element_is_carried(const struct set *s, const struct element *e)
{
	return set_is_live(s->name) || (strcmp(s->name, WANT_SET_CGROUPS) == 0 && is_foreign(e));
}

static bool set_has(const struct set *s, const struct element *e)
{
	for (size_t i = 0; i < s->n_elements; i++) {
		if (memcmp(s->elements[i].first, e->first, sizeof(e->first)) == 0)
			return true;
	}
	return false;
}

static void remove_foreign(struct set *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_elements; i++) {
		if (!is_foreign(&s->elements[i]))
			s->elements[kept++] = s->elements[i];
	}
	s->n_elements = kept;
}

/* "*" in nft(8) stands beside other elements; as a range it has no room for them. */
static void keep_largest(struct set *s)
{
	uint8_t last[VALUE_MAX];

	memset(last, 0xff, sizeof(last));
	for (size_t i = 0; i < s->n_elements; i++) {
		static const uint8_t first[VALUE_MAX];
		const struct element *e = &s->elements[i];

		if (memcmp(e->first, first, s->key_len) != 0 ||
		    memcmp(e->last, last, s->key_len) != 0)
			continue;
		s->elements[0] = *e;
		s->n_elements = 1;
		return;
	}
}

static int carry_set(struct set *to, const struct set *from, bool live)
{
	if (live)
		to->n_elements = 0;
	else
		remove_foreign(to);
	if (from == NULL || from->type != to->type || from->interval != to->interval ||
	    (from->flags & NFT_SET_MAP) != 0)
		return 0;
	for (size_t i = 0; i < from->n_elements; i++) {
		const struct element *e = &from->elements[i];

		if (!element_is_carried(from, e) || (!live && set_has(to, e)))
			continue;
		if (set_add_element(to, e) < 0)
			return -ENOMEM;
	}
	set_sort(to);
	if (live)
		keep_largest(to);
	return 0;
}

int carry_elements(struct model *want, const struct model *have)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < want->n_sets; i++) {
		struct set *s = &want->sets[i];
		bool live = set_is_live(s->name);

		if (live || strcmp(s->name, WANT_SET_CGROUPS) == 0)
			r = carry_set(s, model_find_set(have, s->name), live);
	}
	return r;
}
