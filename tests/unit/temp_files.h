/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Files that a test makes for itself, in a directory of its own under /tmp. Include after <cmocka.h>.
 */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEMP_DIR_MAX 64

/* An empty directory, which goes with all that is in it at temp_dir_remove(). 0 or -1. */
static inline int temp_dir_make(char dir[TEMP_DIR_MAX], const char *test)
{
	snprintf(dir, TEMP_DIR_MAX, "/tmp/%s.XXXXXX", test);
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static inline int temp_remove_entry(const char *path, const struct stat *st, int flag,
				    struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline int temp_dir_remove(const char *dir)
{
	return nftw(dir, temp_remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void temp_write(const char *path, const void *bytes, size_t n)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}
