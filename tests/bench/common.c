/* SPDX-License-Identifier: MIT */
#include "tests/bench/common.h"

#include <sys/resource.h>

uint8_t bulk_pattern[BULK_PERIOD + BULK_CHUNK];

_Static_assert(SAMPLE_SIZE <= BULK_CHUNK, "a sample is compared with one piece of the pattern");

void bulk_init(void)
{
	for (uint32_t i = 0; i < sizeof(bulk_pattern); i++) {
		uint32_t x = i % BULK_PERIOD * 2654435761u;

		bulk_pattern[i] = (uint8_t)(x >> 24 ^ x >> 11);
	}
}

void limit_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
}

void die(const char *what)
{
	perror(what);
	exit(1);
}
