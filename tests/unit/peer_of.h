/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who is at the other end of a socket. Include after <cmocka.h>.
 */
#include "policy/addr.h"

static inline struct addr peer_of(int fd)
{
	struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(ss);

	assert_int_equal(getpeername(fd, (struct sockaddr *)&ss, &len), 0);
	return addr_from_sockaddr((struct sockaddr *)&ss);
}
