/* SPDX-License-Identifier: MIT */
#include "policy/redirect.h"

const char *const redirect_mode_words[] = {"redirect", "tproxy", NULL};
const char *const redirect_backend_words[] = {"auto", "nft", "iptables", NULL};
const char *const redirect_family_words[] = {"both", "ipv4", "ipv6", NULL};
const char *const redirect_quic_words[] = {"pass", "reject", NULL};
const char *const redirect_down_words[] = {"closed", "open", NULL};

bool port_list_contains(const struct port_list *list, uint16_t port)
{
	size_t low = 0, high = list->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (port < list->ranges[middle].first)
			high = middle;
		else if (port > list->ranges[middle].last)
			low = middle + 1;
		else
			return true;
	}
	return false;
}
