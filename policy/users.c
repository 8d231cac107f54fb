/* SPDX-License-Identifier: MIT */
#include "policy/users.h"

#include <stdlib.h>
#include <string.h>

void users_free(struct users *u)
{
	if (u == NULL)
		return;
	if (u->text != NULL)
		explicit_bzero(u->text, u->text_len);
	free(u->text);
	free(u->items);
	free(u);
}

const struct user *users_find(const struct users *u, const char *name, size_t n)
{
	size_t from = 0, to = u->n;

	if (memchr(name, '\0', n) != NULL)
		return NULL;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		const struct user *user = &u->items[middle];
		int order = strncmp(name, user->name, n);

		if (order == 0 && user->name[n] == '\0')
			return user;
		if (order > 0)
			from = middle + 1;
		else
			to = middle;
	}
	return NULL;
}

const struct user *users_any(const struct users *u, uint64_t number)
{
	return &u->items[number % u->n];
}
