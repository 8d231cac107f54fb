/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who else looks at packets: the base chains of all tables of this network namespace, in the order in
 * which packets meet them. Those of iptables-legacy are among them, as far as they hold rules or drop.
 * Reads only: nothing is loaded, made or changed.
 */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdint.h>

#include "rulemgr/kernel.h"

struct base_chain {
	uint8_t family; /* NFPROTO_IPV4, _IPV6, _INET: others see no flow of ours */
	uint8_t hook;   /* NF_INET_PRE_ROUTING..NF_INET_POST_ROUTING */
	int32_t priority;
	bool nat;         /* of type nat: the first of them that translates a flow wins */
	bool drops;       /* its policy, for what no rule decides */
	bool legacy;      /* of iptables-legacy, beside nf_tables */
	bool ours;        /* of table inet transocks */
	uint32_t n_rules; /* 0: it does nothing but its policy; of a legacy chain just 0 or 1 */
	char table[NFT_TABLE_MAXNAMELEN], name[NFT_CHAIN_MAXNAMELEN];
};

struct base_chains { /* sorted by hook, then priority */
	struct base_chain *chains;
	size_t n;
};

/* `k` NULL: those of iptables-legacy alone. *all is written only on success, and then owned by the caller (base_chains_free). 0, or a negative
 * errno with `d` filled. */
int base_chains_read(struct kernel *k, struct base_chains *all, struct diag *d);
void base_chains_free(struct base_chains *all);

/* Whether it sees packets of NFPROTO_IPV4 or NFPROTO_IPV6. */
bool base_chain_sees(const struct base_chain *c, uint8_t family);

/* "ip nat PREROUTING (priority -100)", with "iptables-legacy" where it is that; returns `out`. */
#define BASE_CHAIN_TEXT_MAX 128
const char *base_chain_format(const struct base_chain *c, char *out, size_t cap);

/* "prerouting", ...; of the hooks above. */
const char *base_chain_hook_name(uint8_t hook);

/* For base_chains_read(): adds those of iptables-legacy, family NFPROTO_IPV4 or NFPROTO_IPV6, at the end
 * of the list. Asks only for tables that are loaded already: asking for another would load it. */
int legacy_chains_add(struct base_chains *all, uint8_t family);
/* Room for one more chain at the end, zeroed; NULL: out of memory. */
struct base_chain *base_chains_add(struct base_chains *all);
