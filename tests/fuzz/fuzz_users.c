/* SPDX-License-Identifier: MIT */
/* The file of users of usocksd. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/users.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct users *u = NULL;
	struct diag d;

	if (users_parse((const char *)data, size, "users", &u, &d) < 0) {
		BUG_ON(u != NULL || d.text[0] == '\0');
		return 0;
	}
	BUG_ON(u->n == 0);
	for (size_t i = 0; i < u->n; i++) {
		const struct user *user = &u->items[i];
		size_t n = strlen(user->name);

		BUG_ON(n == 0 || n > USERS_NAME_MAX || user->hash[0] != '$');
		BUG_ON(users_find(u, user->name, n) != user);
		/* With what is behind it in the file it is another name, also where that begins with a NUL. */
		BUG_ON(users_find(u, user->name, n + 1) != NULL);
		BUG_ON(users_any(u, i) != user);
	}
	BUG_ON(users_find(u, (const char *)data, 0) != NULL);
	users_free(u);
	return 0;
}
