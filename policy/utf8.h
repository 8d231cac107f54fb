/* SPDX-License-Identifier: MIT */
#pragma once
/* UTF-8 (RFC 3629) in text from outside. Pure. */
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that `bytes` (of `n`) begin with, which goes into *code; 0: they begin with none. */
size_t utf8_decode(const char *bytes, size_t n, uint32_t *code);

/* The most bytes of `text`, up to `n`, that do not end within a character; `text` may end earlier. */
size_t utf8_cut(const char *text, size_t n);
