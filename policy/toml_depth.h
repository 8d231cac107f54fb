/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A look at TOML text before toml++ parses it: toml++ bounds the nesting of values, but recurses for each
 * part of a dotted key, and a key of 150,000 parts is its stack's end. Pure.
 */
#include <stddef.h>

/* More parts than the name of any option has. */
#define TOML_KEY_PARTS_MAX 32

/* The line of the first key with more than TOML_KEY_PARTS_MAX parts in the `n` bytes at `text`; 0: none. */
int toml_deep_key(const char *text, size_t n);
