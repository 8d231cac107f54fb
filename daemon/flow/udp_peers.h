/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The addresses that a UDP association has sent to: answers from there, whatever their port, belong to its client (RFC
 * 4787 section 5, address-dependent filtering). Bounded: the address that was sent to last longest ago is forgotten first,
 * among those that a hash puts together. The client alone says what is in it, so the hash has no secret. Pure; a value,
 * empty when zero.
 */
#include "policy/addr.h"

#define UDP_PEER_SETS 32
#define UDP_PEER_WAYS 8

struct udp_peer {
	uint8_t family; /* 0: none */
	uint8_t ip[16];
};

struct udp_peers {
	/* Each set: the one that was sent to last comes first. */
	struct udp_peer sets[UDP_PEER_SETS][UDP_PEER_WAYS];
};

void udp_peers_add(struct udp_peers *p, const struct addr *a);
bool udp_peers_have(const struct udp_peers *p, const struct addr *a);
