/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Open descriptors of this process, to see that none is left. Include after <cmocka.h>.
 */
#include <dirent.h>

static inline unsigned fds_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}
