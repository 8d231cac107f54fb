/* SPDX-License-Identifier: MIT */
#include "daemon/core/texts.h"

#include <string.h>

void texts_init(struct texts *t)
{
	pool_init(&t->small, TEXTS_SHORT);
	pool_init(&t->large, TEXTS_LONG);
}

void texts_destroy(struct texts *t)
{
	pool_destroy(&t->small);
	pool_destroy(&t->large);
}

/* `bytes` with the NUL. */
static struct pool *texts_pool(struct texts *t, size_t bytes)
{
	BUG_ON(bytes > TEXTS_LONG);
	return bytes <= TEXTS_SHORT ? &t->small : &t->large;
}

char *texts_keep(struct texts *t, const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *kept = pool_get(texts_pool(t, bytes));

	return kept != NULL ? memcpy(kept, text, bytes) : NULL;
}

void texts_drop(struct texts *t, char *text)
{
	if (text != NULL)
		pool_put(texts_pool(t, strlen(text) + 1), text);
}
