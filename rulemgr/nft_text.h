/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The model in the words of nft(8): what `nft list table inet transocks` prints once it is installed, and what
 * `nft -f` makes the same table of. Pure. Only what want.c builds has words here.
 */
#include "policy/strbuf.h"
#include "rulemgr/model.h"

void nft_text_table(const struct model *m, struct strbuf *out);

/* One rule without its comment, such as "meta l4proto != tcp counter packets 0 bytes 0 return". */
void nft_text_rule(const struct rule *r, struct strbuf *out);

/* "priority filter - 1", as nft(8) names it. */
void nft_text_priority(const struct chain *c, struct strbuf *out);
