/* SPDX-License-Identifier: MIT */
#include "daemon/net/resolve_cache.h"

#include <errno.h>
#include <string.h>

#define BUCKETS 1024 /* a power of two */

int resolve_cache_init(struct resolve_cache *c)
{
	int rc = hash_key_init(&c->key);

	if (rc < 0)
		return rc;
	c->buckets = calloc(BUCKETS, sizeof(*c->buckets));
	if (c->buckets == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&c->buckets[i]);
	list_init(&c->idle);
	c->n_idle = 0;
	pool_init(&c->entries, sizeof(struct resolve_entry));
	return 0;
}

static void cache_drop(struct resolve_cache *c, struct resolve_entry *e)
{
	BUG_ON(e->refs > 0 || e->asking || !list_empty(&e->waiting));
	list_del(&e->node);
	pool_put(&c->entries, e);
}

static void cache_drop_oldest(struct resolve_cache *c)
{
	struct list *node = list_pop(&c->idle);

	c->n_idle--;
	cache_drop(c, container_of(node, struct resolve_entry, idle));
}

void resolve_cache_destroy(struct resolve_cache *c)
{
	if (c->buckets == NULL)
		return;
	while (c->n_idle > 0)
		cache_drop_oldest(c);
	pool_destroy(&c->entries);
	free(c->buckets);
	c->buckets = NULL;
}

static struct resolve_entry *cache_find(const struct list *bucket, const char *name, int family)
{
	struct list *node;

	list_for_each (node, bucket) {
		struct resolve_entry *e = container_of(node, struct resolve_entry, node);

		if (e->family == family && strcmp(e->name, name) == 0)
			return e;
	}
	return NULL;
}

static struct resolve_entry *cache_new(struct resolve_cache *c, const char *name, int family)
{
	struct resolve_entry *e = pool_get(&c->entries);

	if (e == NULL)
		return NULL;
	memset(e, 0, offsetof(struct resolve_entry, name));
	list_init(&e->waiting);
	list_init(&e->node);
	list_init(&e->idle);
	e->refs = 1;
	e->family = (uint8_t)family;
	strcpy(e->name, name);
	return e;
}

/* Host names mean the same in any case (RFC 4343); only ASCII has one. */
static void name_fold(char out[RESOLVE_NAME_MAX + 1], const char *name, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
	out[n] = '\0';
}

static struct list *cache_bucket(const struct resolve_cache *c, const char *folded, size_t n)
{
	return &c->buckets[hash_bytes(&c->key, folded, n) & (BUCKETS - 1)];
}

const struct resolve_entry *resolve_cache_find(const struct resolve_cache *c, const char *name,
					       int family)
{
	char folded[RESOLVE_NAME_MAX + 1];
	size_t n = strlen(name);

	if (n > RESOLVE_NAME_MAX)
		return NULL;
	name_fold(folded, name, n);
	return cache_find(cache_bucket(c, folded, n), folded, family);
}

struct resolve_entry *resolve_cache_get(struct resolve_cache *c, const char *name, int family,
					bool keep)
{
	char folded[RESOLVE_NAME_MAX + 1];
	size_t n = strlen(name);
	struct resolve_entry *e;
	struct list *bucket;

	if (!keep || n > RESOLVE_NAME_MAX)
		return cache_new(c, "", family);
	name_fold(folded, name, n);
	bucket = cache_bucket(c, folded, n);
	e = cache_find(bucket, folded, family);
	if (e != NULL && e->refs++ == 0) {
		list_del(&e->idle);
		c->n_idle--;
	}
	if (e != NULL)
		return e;
	e = cache_new(c, folded, family);
	if (e != NULL)
		list_add_tail(bucket, &e->node);
	return e;
}

void resolve_cache_put(struct resolve_cache *c, struct resolve_entry *e)
{
	BUG_ON(e->refs == 0);
	if (--e->refs > 0)
		return;
	if (list_empty(&e->node))
		return cache_drop(c, e);
	list_add_tail(&c->idle, &e->idle);
	if (++c->n_idle > RESOLVE_CACHE_MAX)
		cache_drop_oldest(c);
}

enum resolve_use resolve_entry_use(const struct resolve_entry *e, uint64_t now_ms)
{
	if (now_ms < e->until_ms)
		return RESOLVE_USE;
	if (!e->failing || now_ms >= e->stale_until_ms)
		return RESOLVE_ASK;
	return now_ms < e->again_ms ? RESOLVE_USE_STALE : RESOLVE_USE_AND_ASK;
}

static uint64_t seconds(uint64_t s)
{
	return s * 1000;
}

static void entry_take(struct resolve_entry *e, const struct resolve_answer *a, uint64_t until_ms)
{
	e->answer = *a;
	e->until_ms = until_ms;
	e->stale_until_ms = a->status == 0 ? until_ms + seconds(RESOLVE_STALE_S) : 0;
	e->failing = false;
}

bool resolve_entry_answered(struct resolve_entry *e, const struct resolve_answer *a, unsigned ttl_s,
			    uint64_t now_ms)
{
	bool was_failing = e->failing;

	if (ttl_s < RESOLVE_TTL_MIN_S)
		ttl_s = RESOLVE_TTL_MIN_S;
	if (ttl_s > RESOLVE_TTL_MAX_S)
		ttl_s = RESOLVE_TTL_MAX_S;
	if (a->status == 0) {
		entry_take(e, a, now_ms + seconds(ttl_s));
	} else if (a->status == -ENOENT) {
		entry_take(e, a, now_ms + seconds(RESOLVE_NONE_S));
	} else if (now_ms < e->stale_until_ms) {
		e->failing = true;
		e->again_ms = now_ms + seconds(RESOLVE_ASK_AGAIN_S);
		return !was_failing;
	} else {
		/* What this host is short of may be there the next moment. */
		entry_take(e, a,
			   a->status == -ENOMEM ? now_ms : now_ms + seconds(RESOLVE_FAILED_S));
	}
	return false;
}
