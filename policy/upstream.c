/* SPDX-License-Identifier: MIT */
#include "policy/upstream.h"

const char *const upstream_address_words[] = {"name", "auto", "ip", NULL};
const char *const group_choose_words[] = {"hash-client", "round-robin", "least-flows", "failover",
					  NULL};
const char *const group_all_down_words[] = {"refuse", "direct", NULL};

bool upstream_address_is_name(enum upstream_address address, bool by_name)
{
	return address == UPSTREAM_ADDRESS_NAME || (address == UPSTREAM_ADDRESS_AUTO && by_name);
}
