/* SPDX-License-Identifier: MIT */
#include "daemon/core/pool.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/core/shared.h"

#define POOL_ALIGN        16
#define SLAB_BYTES        ((size_t)64 * 1024)
#define SLAB_OBJECTS_MIN  8
#define SLAB_HEADER_BYTES 64
#define SLAB_PAGE_BYTES   ((size_t)4096)

struct pool_free {
	struct pool_free *next;
};

/* Stands at the front of its mapping. Objects are cut off only when they are asked for, so that the
 * pages behind the last one cut were never touched. Only the newest slab is not cut up. */
struct pool_slab {
	struct pool_slab *next;
	size_t bytes; /* of the mapping */
	size_t cut;   /* bytes handed out at least once, header included */
};

_Static_assert(sizeof(struct pool_slab) <= SLAB_HEADER_BYTES, "objects begin behind the header");

void pool_init(struct pool *p, size_t size)
{
	BUG_ON(size == 0);
	if (size < sizeof(struct pool_free))
		size = sizeof(struct pool_free);
	*p = (struct pool){.size = (size + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1)};
}

#ifdef POOL_DEBUG

void pool_destroy(struct pool *p)
{
	BUG_ON(p->live != 0);
}

void *pool_get(struct pool *p)
{
	void *obj = malloc(p->size);

	if (obj == NULL)
		return NULL;
	memset(obj, 0xa5, p->size);
	SHARED_ADD(p->live, 1);
	return obj;
}

void pool_put(struct pool *p, void *obj)
{
	if (obj == NULL)
		return;
	BUG_ON(p->live == 0);
	SHARED_SUB(p->live, 1);
	free(obj);
}

#else

void pool_destroy(struct pool *p)
{
	struct pool_slab *slab, *next;

	BUG_ON(p->live != 0);
	for (slab = p->slabs; slab != NULL; slab = next) {
		next = slab->next;
		munmap(slab, slab->bytes);
	}
	p->slabs = NULL;
	p->free = NULL;
	p->idle = 0;
}

static struct pool_slab *slab_new(size_t size)
{
	size_t bytes = SLAB_HEADER_BYTES + SLAB_OBJECTS_MIN * size;
	struct pool_slab *slab;

	if (bytes < SLAB_BYTES)
		bytes = SLAB_BYTES;
	bytes = (bytes + SLAB_PAGE_BYTES - 1) & ~(SLAB_PAGE_BYTES - 1);
	slab = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slab == MAP_FAILED)
		return NULL;
	slab->bytes = bytes;
	slab->cut = SLAB_HEADER_BYTES;
	return slab;
}

void *pool_get(struct pool *p)
{
	struct pool_free *reused = p->free;
	struct pool_slab *slab = p->slabs;
	void *obj;

	if (reused != NULL) {
		p->free = reused->next;
		SHARED_SUB(p->idle, 1);
		SHARED_ADD(p->live, 1);
		return reused;
	}
	if (slab == NULL || slab->bytes - slab->cut < p->size) {
		slab = slab_new(p->size);
		if (slab == NULL)
			return NULL;
		slab->next = p->slabs;
		p->slabs = slab;
	}
	obj = (char *)slab + slab->cut;
	slab->cut += p->size;
	SHARED_ADD(p->live, 1);
	return obj;
}

void pool_put(struct pool *p, void *obj)
{
	struct pool_free *node = obj;

	if (obj == NULL)
		return;
	BUG_ON(p->live == 0);
	SHARED_SUB(p->live, 1);
	/* Last in, first out: the warmest memory is used again, the peak goes cold. */
	node->next = p->free;
	p->free = node;
	SHARED_ADD(p->idle, 1);
}

#endif
