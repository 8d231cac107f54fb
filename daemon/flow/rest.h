/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The bytes of a message of SOCKS that is not complete: whoever sends one byte a minute must not hold a buffer for that.
 * They may be of a password, and are wiped wherever they have been. The worker's thread.
 */
#include <stdbool.h>

#include "daemon/core/buf.h"
#include "daemon/core/pool.h"

/* The longest message that lacks a byte: of SOCKS4a with user and name, or of a login. */
#define REST_MAX 526

struct rest {
	uint16_t len;
	uint8_t bytes[REST_MAX];
};

/* Moves what is in `in` to *rest, which is NULL before. False: it is too much, or there is no memory, and it stays. */
bool rest_keep(struct pool *pool, struct rest **rest, struct buf *in);
/* Moves it back, into an empty buffer. Fine where there is none. */
void rest_take(struct pool *pool, struct rest **rest, struct buf *in);
/* The same, to nowhere. */
void rest_drop(struct pool *pool, struct rest **rest);
