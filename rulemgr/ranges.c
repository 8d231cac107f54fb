/* SPDX-License-Identifier: MIT */
#include "rulemgr/ranges.h"

#include <errno.h>
#include <string.h>

#include "policy/utf8.h"

/* Whether `e`, which begins no earlier, overlaps or touches `before`. */
static bool is_connected(const struct element *before, const struct element *e, size_t len)
{
	uint8_t past[VALUE_MAX];

	memcpy(past, before->last, len);
	return !key_increment(past, len) || memcmp(e->first, past, len) <= 0;
}

static void comment_join(struct element *into, const struct element *e)
{
	char joined[2 * MODEL_COMMENT_MAX + 2];

	if (e->comment[0] == '\0' || strcmp(into->comment, e->comment) == 0)
		return;
	snprintf(joined, sizeof(joined), "%s%s%s", into->comment,
		 into->comment[0] != '\0' ? "; " : "", e->comment);
	snprintf(into->comment, sizeof(into->comment), "%.*s",
		 (int)utf8_cut(joined, MODEL_COMMENT_MAX - 1), joined);
}

void ranges_merge(struct set *s)
{
	size_t len = s->key_len, kept = 0;

	set_sort(s);
	for (size_t i = 1; i < s->n_elements; i++) {
		struct element *before = &s->elements[kept];
		const struct element *e = &s->elements[i];

		if (!is_connected(before, e, len)) {
			s->elements[++kept] = *e;
			continue;
		}
		if (memcmp(before->last, e->last, len) < 0)
			memcpy(before->last, e->last, len);
		comment_join(before, e);
	}
	if (s->n_elements > 0)
		s->n_elements = kept + 1;
}

/* What is left of `e` without first..last: up to two pieces into `out`. Returns their number. */
static size_t element_cut(const struct element *e, const uint8_t *first, const uint8_t *last,
			  size_t len, struct element out[2])
{
	size_t n = 0;

	if (memcmp(e->last, first, len) < 0 || memcmp(e->first, last, len) > 0) {
		out[n++] = *e;
		return n;
	}
	if (memcmp(e->first, first, len) < 0) {
		out[n] = *e;
		memcpy(out[n].last, first, len);
		key_decrement(out[n++].last, len);
	}
	if (memcmp(e->last, last, len) > 0) {
		out[n] = *e;
		memcpy(out[n].first, last, len);
		key_increment(out[n++].first, len);
	}
	return n;
}

int ranges_subtract(struct set *s, const uint8_t *first, const uint8_t *last)
{
	struct set left = *s;
	struct element pieces[2];

	left.elements = NULL;
	left.n_elements = 0;
	for (size_t i = 0; i < s->n_elements; i++) {
		size_t n = element_cut(&s->elements[i], first, last, s->key_len, pieces);

		for (size_t k = 0; k < n; k++) {
			if (set_add_element(&left, &pieces[k]) < 0) {
				free(left.elements);
				return -ENOMEM;
			}
		}
	}
	free(s->elements);
	*s = left;
	return 0;
}

bool ranges_contain(const struct set *s, const uint8_t *first, const uint8_t *last)
{
	for (size_t i = 0; i < s->n_elements; i++) {
		if (memcmp(s->elements[i].first, first, s->key_len) <= 0 &&
		    memcmp(s->elements[i].last, last, s->key_len) >= 0)
			return true;
	}
	return false;
}
