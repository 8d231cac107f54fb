/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A keyed hash for tables whose keys come from outside: without the key nobody can choose keys that fall
 * into one bucket. SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF").
 */
#include <stddef.h>
#include <stdint.h>

struct hash_key {
	uint64_t k[2];
};

/* A random key, getrandom(2). 0 or -errno. */
int hash_key_init(struct hash_key *key);

uint64_t hash_bytes(const struct hash_key *key, const void *bytes, size_t n);
