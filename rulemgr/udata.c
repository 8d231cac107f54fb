/* SPDX-License-Identifier: MIT */
#include "rulemgr/udata.h"

#include <errno.h>
#include <string.h>

int udata_put(struct udata *u, uint8_t type, const void *value, size_t n)
{
	if (n > UINT8_MAX || n + 2 > sizeof(u->bytes) - u->len)
		return -ENOSPC;
	u->bytes[u->len] = type;
	u->bytes[u->len + 1] = (uint8_t)n;
	memcpy(u->bytes + u->len + 2, value, n);
	u->len += n + 2;
	return 0;
}

int udata_put_string(struct udata *u, uint8_t type, const char *text)
{
	return udata_put(u, type, text, strlen(text) + 1);
}

int udata_put_u32(struct udata *u, uint8_t type, uint32_t value)
{
	return udata_put(u, type, &value, sizeof(value));
}

/* Its type, length and value; NULL if it is not there, or not whole. */
static const uint8_t *find(const uint8_t *at, size_t n, uint8_t type)
{
	while (n >= 2 && (size_t)at[1] + 2 <= n) {
		size_t len = at[1];

		if (at[0] == type)
			return at;
		at += len + 2;
		n -= len + 2;
	}
	return NULL;
}

const char *udata_find_string(const void *bytes, size_t n, uint8_t type)
{
	const uint8_t *at = find(bytes, n, type);

	return at != NULL && at[1] > 0 && at[1 + at[1]] == '\0' ? (const char *)at + 2 : NULL;
}

uint32_t udata_find_u32(const void *bytes, size_t n, uint8_t type)
{
	const uint8_t *at = find(bytes, n, type);
	uint32_t value = 0;

	if (at != NULL && at[1] == sizeof(value))
		memcpy(&value, at + 2, sizeof(value));
	return value;
}
