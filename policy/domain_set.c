/* SPDX-License-Identifier: MIT */
/*
 * The names lie one behind another in an arena; a hash table with open addressing has for each its hash and where it
 * lies. The hash of a name is built label by label from its end, each label hashed with what is right of it as the
 * seed, so one pass over a name gives the hash of every name above it.
 *
 * Names that are looked up come from outside and can only hit what the operator's entries have put into the table: a
 * run of entries in it is short for anybody who does not choose the entries. But lists of domains are fetched from
 * strangers, and theirs could be made to collide: hence the seed, other in every process.
 */
#include "policy/domain_set.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <xxhash.h>

#include "policy/entries.h"
#include "policy/name.h"

#define LABELS_MAX ((NAME_MAX_LEN + 1) / 2)
#define SLOTS_MIN  16

/* What of an entry's name it is about; entries of both kinds for one name are one of DOMAIN_BELOW. */
enum domain_kind { DOMAIN_ALONE, DOMAIN_BELOW };

struct slot {
	uint32_t hash;
	uint32_t at; /* in the arena: kind, length, name; 0: empty */
};

struct domain_set {
	uint64_t seed;
	struct slot *slots;
	size_t n_slots; /* a power of two, at most 3/4 of them used */
	size_t n;
	uint8_t *arena;
	size_t arena_len, arena_cap;
	uint8_t depths[LABELS_MAX + 1]; /* whether there are names of so many labels */
};

/* The names that a name ends with, the shortest first: "com", "example.com", "www.example.com". */
struct suffix {
	const char *name, *at; /* it begins there */
	size_t len;
	uint64_t hash;
	size_t labels;
};

static bool suffix_next(struct suffix *x)
{
	const char *end = x->at, *first;

	if (end == x->name)
		return false;
	if (x->labels > 0)
		end--; /* the dot between them */
	for (first = end; first > x->name && first[-1] != '.'; first--)
		;
	x->hash = XXH3_64bits_withSeed(first, (size_t)(end - first), x->hash);
	x->len += (size_t)(x->at - first);
	x->at = first;
	x->labels++;
	return true;
}

static struct suffix suffix_of(const struct domain_set *s, const char *name, size_t n)
{
	return (struct suffix){.name = name, .at = name + n, .hash = s->seed};
}

/* Unpredictable for those who write lists, and no system call: the kernel gives each process 16 random bytes. */
static uint64_t process_seed(void)
{
	const void *random = (const void *)getauxval(AT_RANDOM); /* NOLINT */

	return random != NULL ? XXH3_64bits(random, 16) : 0;
}

struct domain_set *domain_set_new(void)
{
	struct domain_set *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->seed = process_seed();
	s->n_slots = SLOTS_MIN;
	s->slots = calloc(s->n_slots, sizeof(*s->slots));
	if (s->slots != NULL)
		return s;
	free(s);
	return NULL;
}

void domain_set_free(struct domain_set *s)
{
	if (s == NULL)
		return;
	free(s->slots);
	free(s->arena);
	free(s);
}

/* Where the name is that ends at `end`, or the empty slot where it would be. */
static struct slot *domain_set_find(const struct domain_set *s, uint32_t hash, const char *end,
				    size_t len)
{
	size_t mask = s->n_slots - 1;

	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		struct slot *slot = &s->slots[i];
		const uint8_t *entry = s->arena + slot->at;

		if (slot->at == 0 || (slot->hash == hash && entry[1] == len &&
				      memcmp(entry + 2, end - len, len) == 0))
			return slot;
	}
}

static int domain_set_grow_slots(struct domain_set *s)
{
	size_t n = s->n_slots * 2, mask = n - 1;
	struct slot *slots;

	if (s->n < s->n_slots / 4 * 3)
		return 0;
	slots = calloc(n, sizeof(*slots));
	if (slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_slots; i++) {
		size_t j = s->slots[i].hash & mask;

		if (s->slots[i].at == 0)
			continue;
		while (slots[j].at != 0)
			j = (j + 1) & mask;
		slots[j] = s->slots[i];
	}
	free(s->slots);
	s->slots = slots;
	s->n_slots = n;
	return 0;
}

/* Byte 0 is nobody's: an offset of 0 means none. */
static int domain_set_grow_arena(struct domain_set *s)
{
	const size_t most = 2 + NAME_MAX_LEN;
	size_t cap = s->arena_cap + s->arena_cap / 2 + 4096;
	uint8_t *arena;

	if (s->arena_cap - s->arena_len >= most)
		return 0;
	if (s->arena_len > UINT32_MAX - most)
		return -ENOMEM;
	arena = realloc(s->arena, cap);
	if (arena == NULL)
		return -ENOMEM;
	s->arena = arena;
	s->arena_cap = cap;
	if (s->arena_len == 0)
		s->arena_len = 1;
	return 0;
}

/* Gives back what was more than enough. */
static void domain_set_trim(struct domain_set *s)
{
	uint8_t *arena = s->arena_len > 0 ? realloc(s->arena, s->arena_len) : NULL;

	if (arena == NULL)
		return;
	s->arena = arena;
	s->arena_cap = s->arena_len;
}

/* `name` is normalised. */
static int domain_set_put(struct domain_set *s, const char *name, enum domain_kind kind)
{
	size_t n = strlen(name);
	struct suffix x = suffix_of(s, name, n);
	struct slot *slot = NULL;
	uint8_t *entry;

	if (domain_set_grow_slots(s) < 0 || domain_set_grow_arena(s) < 0)
		return -ENOMEM;
	while (suffix_next(&x)) {
		if (x.len < n && !s->depths[x.labels])
			continue;
		slot = domain_set_find(s, (uint32_t)x.hash, name + n, x.len);
		if (slot->at != 0 && s->arena[slot->at] == DOMAIN_BELOW)
			return 0; /* is covered */
	}
	if (slot->at != 0) {
		s->arena[slot->at] |= (uint8_t)kind;
		return 0;
	}
	entry = s->arena + s->arena_len;
	entry[0] = (uint8_t)kind;
	entry[1] = (uint8_t)x.len;
	memcpy(entry + 2, name, x.len);
	*slot = (struct slot){.hash = (uint32_t)x.hash, .at = (uint32_t)s->arena_len};
	s->arena_len += 2 + x.len;
	s->depths[x.labels] = 1;
	s->n++;
	return 0;
}

/* What somebody who wrote that may have meant. */
static int domain_refuse(const char *entry, size_t n, struct diag *d)
{
	char shown[ENTRY_SHOWN_MAX], meant[ENTRY_SHOWN_MAX];

	entry_shown(entry, n, shown);
	if (n > 2 && entry[0] == '*' && entry[1] == '.')
		return diag_set(d, EINVAL, NULL, 0,
				"%s: write %s, which is the name and everything below it", shown,
				entry_shown(entry + 1, n - 1, meant));
	if (memchr(entry, ' ', n) != NULL || memchr(entry, '\t', n) != NULL)
		return diag_set(d, EINVAL, NULL, 0, "%s is more than one name", shown);
	if (memchr(entry, '/', n) != NULL)
		return diag_set(d, EINVAL, NULL, 0,
				"%s is not a domain name; networks and addresses belong to "
				"\"networks\"",
				shown);
	if (name_is_other_script(entry, n))
		return diag_set(d, EINVAL, NULL, 0,
				"%s: names in other scripts are written as they are on the wire, "
				"in the form \"xn--...\"",
				shown);
	return diag_set(d, EINVAL, NULL, 0, "%s is not a domain name", shown);
}

int domain_set_add(struct domain_set *s, const char *entry, size_t n, struct diag *d)
{
	enum domain_kind kind = n > 0 && entry[0] == '.' ? DOMAIN_BELOW : DOMAIN_ALONE;
	size_t skip = kind == DOMAIN_BELOW ? 1 : 0;
	char name[NAME_MAX_LEN + 1], shown[ENTRY_SHOWN_MAX];
	struct addr addr;
	int rc = name_normalise(entry + skip, n - skip, name, &addr);

	if (rc == 1)
		return diag_set(d, EINVAL, NULL, 0,
				"%s is an address; those belong to \"networks\"",
				entry_shown(entry, n, shown));
	if (rc < 0)
		return domain_refuse(entry, n, d);
	if (domain_set_put(s, name, kind) < 0)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	return 0;
}

int domain_set_add_text(struct domain_set *s, const char *text, size_t n, const char *file,
			struct diag *d)
{
	struct entries e;
	struct diag why;
	int rc = 0;

	entries_init(&e, text, n);
	while (rc == 0 && entries_next(&e)) {
		rc = domain_set_add(s, e.entry, e.len, &why);
		if (rc < 0)
			diag_set(d, -rc, file, e.line, "%s", why.text);
	}
	domain_set_trim(s);
	return rc;
}

bool domain_set_contains(const struct domain_set *s, const char *name)
{
	size_t n = strlen(name);
	struct suffix x = suffix_of(s, name, n);

	if (s->n == 0 || n > NAME_MAX_LEN)
		return false;
	while (suffix_next(&x)) {
		const struct slot *slot;

		if (!s->depths[x.labels])
			continue;
		slot = domain_set_find(s, (uint32_t)x.hash, name + n, x.len);
		if (slot->at != 0 && (s->arena[slot->at] == DOMAIN_BELOW || x.len == n))
			return true;
	}
	return false;
}

size_t domain_set_count(const struct domain_set *s)
{
	return s->n;
}

size_t domain_set_bytes(const struct domain_set *s)
{
	return sizeof(*s) + s->n_slots * sizeof(*s->slots) + s->arena_cap;
}
