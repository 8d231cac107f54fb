/* SPDX-License-Identifier: MIT */
#include "policy/users.h"

#include <crypt.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct diag *d)
{
	return diag_set(d, ENOMEM, NULL, 0, "out of memory");
}

static int user_error(struct diag *d, const char *file, int line, const char *why)
{
	return diag_set(d, EINVAL, file, line, "%s", why);
}

/* Those of crypt(5) that begin with '$'. What does not may be one of DES, which looks at eight bytes of a password, and
 * cannot be told from a password that somebody has left unhashed. */
static const char *hash_error(const char *hash)
{
	if (strlen(hash) > USERS_HASH_MAX)
		return "the hash is too long";
	switch (hash[0] == '$' ? crypt_checksalt(hash) : CRYPT_SALT_INVALID) {
	case CRYPT_SALT_OK:
	case CRYPT_SALT_METHOD_LEGACY: /* of users from long ago; passwd(1) makes no new ones */
	case CRYPT_SALT_TOO_CHEAP:
		return NULL;
	case CRYPT_SALT_METHOD_DISABLED:
		return "a method of hashing that this system has disabled";
	default:
		return "what stands behind the user is no hash of crypt(5): make one with "
		       "`mkpasswd -m yescrypt`";
	}
}

/* The line, which is one C string, is cut in two. */
static const char *user_parse(struct user *user, char *text)
{
	char *colon = strchr(text, ':');

	for (const char *p = text; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return "contains a control byte (a line end of another system?)";
	}
	if (colon == NULL)
		return "wanted is a line \"user:hash\"";
	if (colon == text)
		return "the user name is empty";
	if (colon - text > USERS_NAME_MAX)
		return "a user name may have 255 bytes";
	if (strchr(colon + 1, ':') != NULL)
		return "something follows the hash: wanted is a line \"user:hash\"";
	*colon = '\0';
	*user = (struct user){.name = text, .hash = colon + 1};
	return hash_error(user->hash);
}

static int user_order(const void *a, const void *b)
{
	return strcmp(((const struct user *)a)->name, ((const struct user *)b)->name);
}

static int users_check_distinct(const struct users *u, const char *file, struct diag *d)
{
	for (size_t i = 1; i < u->n; i++) {
		if (strcmp(u->items[i - 1].name, u->items[i].name) == 0)
			return diag_set(d, EINVAL, file, 0, "the user \"%s\" is there twice",
					u->items[i].name);
	}
	return 0;
}

static int users_parse_lines(struct users *u, const char *file, struct diag *d)
{
	char *text = u->text, *end;
	const char *why;

	for (int line = 1; text < u->text + u->text_len; line++, text = end + 1) {
		end = memchr(text, '\n', (size_t)(u->text + u->text_len - text) + 1);
		if (end == NULL)
			end = u->text + u->text_len;
		*end = '\0';
		if (strlen(text) != (size_t)(end - text))
			return user_error(d, file, line, "contains a NUL byte");
		if (text[0] == '\0' || text[0] == '#')
			continue;
		why = user_parse(&u->items[u->n++], text);
		if (why != NULL)
			return user_error(d, file, line, why);
	}
	if (u->n == 0)
		return user_error(d, file, 0, "has no user, so that nobody could log in");
	qsort(u->items, u->n, sizeof(u->items[0]), user_order);
	return users_check_distinct(u, file, d);
}

int users_parse(const char *text, size_t n, const char *file, struct users **out, struct diag *d)
{
	struct users *u = calloc(1, sizeof(*u));
	size_t n_lines = 1;
	int r;

	if (u == NULL)
		return out_of_memory(d);
	for (size_t i = 0; i < n; i++)
		n_lines += text[i] == '\n';
	u->items = calloc(n_lines, sizeof(u->items[0]));
	u->text = calloc(1, n + 1);
	if (u->items == NULL || u->text == NULL) {
		users_free(u);
		return out_of_memory(d);
	}
	if (n > 0)
		memcpy(u->text, text, n);
	u->text_len = n;
	r = users_parse_lines(u, file, d);
	if (r < 0)
		users_free(u);
	else
		*out = u;
	return r;
}
