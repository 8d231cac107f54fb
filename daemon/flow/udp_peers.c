/* SPDX-License-Identifier: MIT */
#include "daemon/flow/udp_peers.h"

#include <string.h>

#include "daemon/core/hash.h"

static size_t peer_set(const struct udp_peer *peer)
{
	static const struct hash_key key;

	return hash_bytes(&key, peer, sizeof(*peer)) % UDP_PEER_SETS;
}

static struct udp_peer peer_of(const struct addr *a)
{
	struct udp_peer peer = {.family = a->family};

	memcpy(peer.ip, a->ip, sizeof(peer.ip));
	return peer;
}

static bool peer_equal(const struct udp_peer *a, const struct udp_peer *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

void udp_peers_add(struct udp_peers *p, const struct addr *a)
{
	struct udp_peer peer = peer_of(a), *set = p->sets[peer_set(&peer)];
	size_t at = 0;

	while (at < UDP_PEER_WAYS - 1 && !peer_equal(&set[at], &peer))
		at++;
	memmove(&set[1], &set[0], at * sizeof(set[0]));
	set[0] = peer;
}

bool udp_peers_have(const struct udp_peers *p, const struct addr *a)
{
	const struct udp_peer peer = peer_of(a), *set = p->sets[peer_set(&peer)];

	for (size_t i = 0; i < UDP_PEER_WAYS; i++)
		if (peer_equal(&set[i], &peer))
			return true;
	return false;
}
