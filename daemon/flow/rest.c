/* SPDX-License-Identifier: MIT */
#include "daemon/flow/rest.h"

#include <string.h>

bool rest_keep(struct pool *pool, struct rest **rest, struct buf *in)
{
	struct rest *r = in->len <= REST_MAX ? pool_get(pool) : NULL;

	BUG_ON(*rest != NULL);
	if (r == NULL)
		return false;
	r->len = (uint16_t)in->len;
	memcpy(r->bytes, buf_head(in), r->len);
	explicit_bzero(buf_head(in), r->len);
	buf_consume(in, r->len);
	*rest = r;
	return true;
}

void rest_take(struct pool *pool, struct rest **rest, struct buf *in)
{
	if (*rest == NULL)
		return;
	BUG_ON(in->len > 0);
	memcpy(in->data, (*rest)->bytes, (*rest)->len);
	in->off = 0;
	in->len = (*rest)->len;
	rest_drop(pool, rest);
}

void rest_drop(struct pool *pool, struct rest **rest)
{
	if (*rest == NULL)
		return;
	explicit_bzero((*rest)->bytes, (*rest)->len);
	pool_put(pool, *rest);
	*rest = NULL;
}
