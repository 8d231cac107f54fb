/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * User data of nf_tables objects (comments and nft(8)'s notes): bytes of type, length, value. Our
 * own bounded buffer, because nftnl_udata_put() of libnftnl 1.2.4 forgets what is already in its
 * buffer when it checks for room. A value; no ownership.
 */
#include <stddef.h>
#include <stdint.h>

/* What the kernel takes (NFT_USERDATA_MAXLEN). */
#define UDATA_MAX 256

struct udata {
	uint8_t bytes[UDATA_MAX];
	size_t len;
};

/* Appends one attribute of `n` bytes (at most 255). 0 or -ENOSPC with nothing appended. */
int udata_put(struct udata *u, uint8_t type, const void *value, size_t n);
/* With the NUL, as nft(8) reads it. */
int udata_put_string(struct udata *u, uint8_t type, const char *text);
/* In host byte order, as nft(8) reads it. */
int udata_put_u32(struct udata *u, uint8_t type, uint32_t value);

/* The number, in host byte order; 0 if it is not there. */
uint32_t udata_find_u32(const void *bytes, size_t n, uint8_t type);

/* The string attribute `type` within `n` bytes from the kernel: inside `bytes`, NUL-terminated.
 * NULL if it is not there or does not end in a NUL. */
const char *udata_find_string(const void *bytes, size_t n, uint8_t type);
