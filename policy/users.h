/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who may log in to usocksd: the lines `user:hash` of the file that auth.file names, where a hash is one of crypt(5),
 * as passwd(1), mkpasswd(1) and htpasswd(1) make them. Pure, and immutable once parsed: any thread may ask. The
 * configuration owns it. Whether a password is right is not asked here: that takes long.
 */
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"

#define USERS_NAME_MAX 255 /* RFC 1929 */
#define USERS_HASH_MAX 383 /* CRYPT_OUTPUT_SIZE of libxcrypt, with its NUL */

struct user {
	const char *name, *hash;
};

struct users {
	struct user *items; /* by name, in byte order */
	size_t n;           /* at least 1 */
	char *text;         /* what they point into */
	size_t text_len;
};

/* The file's `n` bytes. Empty lines and those that begin with '#' do not count. *out is new. 0, or -EINVAL or -ENOMEM
 * with `d`; a message never has what is in the line. */
int users_parse(const char *text, size_t n, const char *file, struct users **out, struct diag *d);
/* NULL is fine. */
void users_free(struct users *u);

/* NULL: there is none of that name, which has `n` bytes, of any value. */
const struct user *users_find(const struct users *u, const char *name, size_t n);
/* Any of them, the same one for the same number: whose hash is compared with where there is no such user, so that
 * it costs the same. */
const struct user *users_any(const struct users *u, uint64_t number);
