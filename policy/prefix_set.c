/* SPDX-License-Identifier: MIT */
/*
 * A trie for each family that looks at four bits of an address a step: 8 steps at most for IPv4, 32 for IPv6, however
 * many networks there are. A binary search in sorted ranges, which is as simple, takes three times as long for 100,000
 * networks of IPv4 and as long for as many of IPv6, but longer with every network.
 */
#include "policy/prefix_set.h"

#include <errno.h>
#include <string.h>

#include "policy/entries.h"

#define STEP_BITS 4

struct node {
	uint16_t whole; /* bit v: everything that goes on with v is in the set */
	uint16_t part;  /* bit v: some of it is, and a node knows what */
	uint32_t first; /* those nodes, one behind another in the order of v, begin here */
};

struct trie {
	struct node *nodes; /* the first is the root */
	size_t n, cap;
};

struct prefix_set {
	struct prefix *prefixes; /* until it is finished */
	size_t n, cap;
	size_t count; /* of what was finished */
	bool finished;
	struct trie v4, v6;
};

struct prefix_set *prefix_set_new(void)
{
	return calloc(1, sizeof(struct prefix_set));
}

void prefix_set_free(struct prefix_set *s)
{
	if (s == NULL)
		return;
	free(s->prefixes);
	free(s->v4.nodes);
	free(s->v6.nodes);
	free(s);
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
	BUG_ON(s->finished);
	if (s->n == s->cap) {
		size_t cap = s->cap * 2 + 16;
		struct prefix *prefixes = realloc(s->prefixes, cap * sizeof(*prefixes));

		if (prefixes == NULL)
			return -ENOMEM;
		s->prefixes = prefixes;
		s->cap = cap;
	}
	s->prefixes[s->n] = *p;
	unmap(&s->prefixes[s->n++]);
	return 0;
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

/* One that has another in it comes first. */
static int prefix_compare(const void *a, const void *b)
{
	const struct prefix *x = a, *y = b;
	int order = x->family - y->family;

	if (order == 0)
		order = memcmp(x->ip, y->ip, sizeof(x->ip));
	return order != 0 ? order : x->len - y->len;
}

/* Sorted, and none in another one. */
static void prefix_set_tidy(struct prefix_set *s)
{
	size_t n = 0;

	if (s->n > 0)
		qsort(s->prefixes, s->n, sizeof(*s->prefixes), prefix_compare);
	for (size_t i = 0; i < s->n; i++) {
		struct addr first = {.family = s->prefixes[i].family};

		memcpy(first.ip, s->prefixes[i].ip, sizeof(first.ip));
		if (n == 0 || !prefix_contains(&s->prefixes[n - 1], &first))
			s->prefixes[n++] = s->prefixes[i];
	}
	s->n = n;
}

/* The four bits of step `depth`. */
static unsigned step_of(const uint8_t *ip, unsigned depth)
{
	return depth % 2 == 0 ? ip[depth / 2] >> 4 : ip[depth / 2] & 15;
}

static unsigned bits_in(unsigned set)
{
	return (unsigned)__builtin_popcount(set);
}

/* `n` new nodes in a row: the first. */
static int trie_grow(struct trie *t, size_t n, uint32_t *first)
{
	if (t->n + n > t->cap) {
		size_t cap = t->cap * 2 + 16;
		struct node *nodes =
			cap <= UINT32_MAX ? realloc(t->nodes, cap * sizeof(*nodes)) : NULL;

		if (nodes == NULL)
			return -ENOMEM;
		t->nodes = nodes;
		t->cap = cap;
	}
	memset(t->nodes + t->n, 0, n * sizeof(*t->nodes));
	*first = (uint32_t)t->n;
	t->n += n;
	return 0;
}

/* Node `at` of step `depth` becomes what the prefixes, which are the same up to there, say. */
static int trie_build(struct trie *t, uint32_t at, unsigned depth, const struct prefix *prefixes,
		      size_t n)
{
	const unsigned end = STEP_BITS * (depth + 1);
	struct node node = {0};
	uint32_t next;

	for (size_t i = 0; i < n; i++) {
		unsigned step = step_of(prefixes[i].ip, depth);

		if (prefixes[i].len <= end)
			node.whole |=
				(uint16_t)(((1u << (1u << (end - prefixes[i].len))) - 1) << step);
		else
			node.part |= (uint16_t)(1u << step);
	}
	if (trie_grow(t, bits_in(node.part), &node.first) < 0)
		return -ENOMEM;
	t->nodes[at] = node;
	next = node.first;
	for (size_t i = 0, end_of; i < n; i = end_of) {
		unsigned step = step_of(prefixes[i].ip, depth);

		end_of = i + 1;
		if (prefixes[i].len <= end)
			continue;
		while (end_of < n && step_of(prefixes[end_of].ip, depth) == step)
			end_of++;
		if (trie_build(t, next++, depth + 1, prefixes + i, end_of - i) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int trie_finish(struct trie *t, const struct prefix *prefixes, size_t n)
{
	struct node *nodes;
	uint32_t root;

	if (trie_grow(t, 1, &root) < 0 || trie_build(t, root, 0, prefixes, n) < 0)
		return -ENOMEM;
	nodes = realloc(t->nodes, t->n * sizeof(*nodes));
	if (nodes != NULL) {
		t->nodes = nodes;
		t->cap = t->n;
	}
	return 0;
}

int prefix_set_finish(struct prefix_set *s)
{
	size_t n4 = 0;

	prefix_set_tidy(s);
	while (n4 < s->n && s->prefixes[n4].family == AF_INET)
		n4++;
	if (trie_finish(&s->v4, s->prefixes, n4) < 0 ||
	    trie_finish(&s->v6, n4 > 0 ? s->prefixes + n4 : s->prefixes, s->n - n4) < 0)
		return -ENOMEM;
	free(s->prefixes);
	s->prefixes = NULL;
	s->count = s->n;
	s->n = s->cap = 0;
	s->finished = true;
	return 0;
}

bool prefix_set_contains(const struct prefix_set *s, const struct addr *a)
{
	const struct trie *t = a->family == AF_INET ? &s->v4 : &s->v6;
	const struct node *node = t->nodes;

	BUG_ON(!s->finished);
	if (a->family == AF_UNSPEC)
		return false;
	/* The last step has no node behind it. */
	for (unsigned depth = 0;; depth++) {
		unsigned bit = 1u << step_of(a->ip, depth);

		if (node->whole & bit)
			return true;
		if (!(node->part & bit))
			return false;
		node = &t->nodes[node->first + bits_in(node->part & (bit - 1))];
	}
}

size_t prefix_set_count(const struct prefix_set *s)
{
	return s->count;
}

size_t prefix_set_bytes(const struct prefix_set *s)
{
	return sizeof(*s) + s->cap * sizeof(*s->prefixes) +
	       (s->v4.cap + s->v6.cap) * sizeof(struct node);
}
