/* SPDX-License-Identifier: MIT */
#include "policy/prefix_set.h"

#include <errno.h>
#include <string.h>

#include "policy/entries.h"

/* An address as a number; IPv4 in the lower half. */
struct key {
	uint64_t high, low;
};

/* First and last address. */
struct range {
	struct key first, last;
};

/* One family's: sorted and disjoint once finished. */
struct ranges {
	struct range *ranges;
	size_t n, cap;
};

struct prefix_set {
	struct ranges v4, v6;
	bool finished;
};

static uint64_t be_word(const uint8_t *bytes, size_t n)
{
	uint64_t word = 0;

	for (size_t i = 0; i < n; i++)
		word = word << 8 | bytes[i];
	return word;
}

static struct key key_of(uint8_t family, const uint8_t *ip)
{
	if (family == AF_INET)
		return (struct key){.low = be_word(ip, 4)};
	return (struct key){be_word(ip, 8), be_word(ip + 8, 8)};
}

static bool key_less(struct key a, struct key b)
{
	return a.high < b.high || (a.high == b.high && a.low < b.low);
}

struct prefix_set *prefix_set_new(void)
{
	return calloc(1, sizeof(struct prefix_set));
}

void prefix_set_free(struct prefix_set *s)
{
	if (s == NULL)
		return;
	free(s->v4.ranges);
	free(s->v6.ranges);
	free(s);
}

static int ranges_add(struct ranges *r, struct range range)
{
	if (r->n == r->cap) {
		size_t cap = r->cap * 2 + 16;
		struct range *ranges = realloc(r->ranges, cap * sizeof(*ranges));

		if (ranges == NULL)
			return -ENOMEM;
		r->ranges = ranges;
		r->cap = cap;
	}
	r->ranges[r->n++] = range;
	return 0;
}

/* Mapped addresses (RFC 4291 section 2.5.5.2) come as plain IPv4, so that is what a network of them is. */
static void unmap(struct prefix *p)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (p->family != AF_INET6 || p->len < 96 || memcmp(p->ip, mapped, sizeof(mapped)) != 0)
		return;
	memmove(p->ip, p->ip + 12, 4);
	memset(p->ip + 4, 0, 12);
	p->family = AF_INET;
	p->len = (uint8_t)(p->len - 96);
}

int prefix_set_add(struct prefix_set *s, const struct prefix *p)
{
	struct prefix plain = *p;
	uint8_t first[16], last[16];

	unmap(&plain);
	prefix_bounds(&plain, first, last);
	s->finished = false;
	return ranges_add(plain.family == AF_INET ? &s->v4 : &s->v6,
			  (struct range){key_of(plain.family, first), key_of(plain.family, last)});
}

static int refuse(const struct entries *e, const char *file, struct diag *d)
{
	char shown[ENTRY_SHOWN_MAX];

	return diag_set(d, EINVAL, file, e->line,
			"%s is not a network such as 10.0.0.0/8 (no bits set behind the prefix) or "
			"an address",
			entry_shown(e->entry, e->len, shown));
}

int prefix_set_add_text(struct prefix_set *s, const char *text, size_t n, const char *file,
			struct diag *d)
{
	char entry[PREFIX_TEXT_MAX];
	struct entries e;
	struct prefix p;

	entries_init(&e, text, n);
	while (entries_next(&e)) {
		if (e.len >= sizeof(entry) || memchr(e.entry, '\0', e.len) != NULL)
			return refuse(&e, file, d);
		memcpy(entry, e.entry, e.len);
		entry[e.len] = '\0';
		if (prefix_parse(&p, entry) < 0)
			return refuse(&e, file, d);
		if (prefix_set_add(s, &p) < 0)
			return diag_set(d, ENOMEM, file, e.line, "out of memory");
	}
	return 0;
}

static int range_compare(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return key_less(x->first, y->first) ? -1 : key_less(y->first, x->first) ? 1 : 0;
}

/* Of two networks that meet one lies in the other, so no range ever grows. */
static void ranges_finish(struct ranges *r)
{
	size_t n = 0;

	if (r->n > 0)
		qsort(r->ranges, r->n, sizeof(*r->ranges), range_compare);
	for (size_t i = 0; i < r->n; i++) {
		struct range *before = n > 0 ? &r->ranges[n - 1] : NULL;

		if (before == NULL || key_less(before->last, r->ranges[i].first))
			r->ranges[n++] = r->ranges[i];
		else if (key_less(before->last, r->ranges[i].last))
			before->last = r->ranges[i].last;
	}
	r->n = n;
}

int prefix_set_finish(struct prefix_set *s)
{
	ranges_finish(&s->v4);
	ranges_finish(&s->v6);
	s->finished = true;
	return 0;
}

static bool ranges_contain(const struct ranges *r, struct key key)
{
	size_t low = 0,
	       high = r->n; /* the last range that begins at or before the key is in [low - 1, high) */

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key_less(key, r->ranges[middle].first))
			high = middle;
		else
			low = middle + 1;
	}
	return low > 0 && !key_less(r->ranges[low - 1].last, key);
}

bool prefix_set_contains(const struct prefix_set *s, const struct addr *a)
{
	BUG_ON(!s->finished);
	if (a->family == AF_UNSPEC)
		return false;
	return ranges_contain(a->family == AF_INET ? &s->v4 : &s->v6, key_of(a->family, a->ip));
}

size_t prefix_set_bytes(const struct prefix_set *s)
{
	return sizeof(*s) + (s->v4.cap + s->v6.cap) * sizeof(struct range);
}
