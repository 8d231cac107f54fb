/* SPDX-License-Identifier: MIT */
#include "rulemgr/model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

const struct set_type_info set_types[SET_OTHER] = {
	[SET_IPV4] = {"ipv4_addr", 4, true, 7, 2},
	[SET_IPV6] = {"ipv6_addr", 16, true, 8, 2},
	[SET_IFNAME] = {"ifname", IFNAMSIZ, false, 41, 1},
	[SET_IPV4_PORT] = {"ipv4_addr . inet_service", 8, false, 7 << 6 | 13, 0},
	[SET_IPV6_PORT] = {"ipv6_addr . inet_service", 20, false, 8 << 6 | 13, 0},
	[SET_UID] = {"uid", 4, false, 24, 1},
	[SET_CGROUP] = {"cgroupsv2", 8, false, 46, 1},
	[SET_PORT] = {"inet_service", 2, true, 13, 2},
	[SET_PROTOCOL] = {"inet_proto", 1, false, 12, 2},
};

/* Capacities are powers of two, so the number of items tells when one is full. */
void *model_grow(void *items, size_t n, size_t size)
{
	char *larger = items;

	if ((n & (n - 1)) == 0) {
		larger = reallocarray(items, n > 0 ? 2 * n : 1, size);
		if (larger == NULL)
			return NULL;
	}
	memset(larger + n * size, 0, size);
	return larger;
}

struct set *model_add_set(struct model *m, const char *name, enum set_type type)
{
	struct set *sets = model_grow(m->sets, m->n_sets, sizeof(*sets));
	struct set *s;

	if (sets == NULL)
		return NULL;
	m->sets = sets;
	s = &sets[m->n_sets++];
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->type = type;
	if (type != SET_OTHER) {
		s->interval = set_types[type].interval;
		s->key_len = set_types[type].key_len;
	}
	return s;
}

struct chain *model_add_chain(struct model *m, const char *name)
{
	struct chain *chains = model_grow(m->chains, m->n_chains, sizeof(*chains));
	struct chain *c;

	if (chains == NULL)
		return NULL;
	m->chains = chains;
	c = &chains[m->n_chains++];
	snprintf(c->name, sizeof(c->name), "%s", name);
	return c;
}

struct rule *chain_add_rule(struct chain *c)
{
	struct rule *rules = model_grow(c->rules, c->n_rules, sizeof(*rules));

	if (rules == NULL)
		return NULL;
	c->rules = rules;
	return &rules[c->n_rules++];
}

struct expr *rule_add_expr(struct rule *r, enum expr_kind kind)
{
	struct expr *exprs = model_grow(r->exprs, r->n_exprs, sizeof(*exprs));

	if (exprs == NULL)
		return NULL;
	r->exprs = exprs;
	exprs[r->n_exprs].kind = kind;
	return &exprs[r->n_exprs++];
}

int set_add_element(struct set *s, const struct element *e)
{
	struct element *elements = model_grow(s->elements, s->n_elements, sizeof(*elements));

	if (elements == NULL)
		return -ENOMEM;
	s->elements = elements;
	elements[s->n_elements++] = *e;
	return 0;
}

struct set *model_find_set(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->n_sets; i++) {
		if (strcmp(m->sets[i].name, name) == 0)
			return &m->sets[i];
	}
	return NULL;
}

struct chain *model_find_chain(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->n_chains; i++) {
		if (strcmp(m->chains[i].name, name) == 0)
			return &m->chains[i];
	}
	return NULL;
}

bool key_increment(uint8_t *key, size_t len)
{
	while (len-- > 0) {
		if (++key[len] != 0)
			return true;
	}
	return false;
}

bool key_decrement(uint8_t *key, size_t len)
{
	while (len-- > 0) {
		if (key[len]-- != 0)
			return true;
	}
	return false;
}

static int compare_forwards(const void *a, const void *b)
{
	const struct element *x = a, *y = b;

	return memcmp(x->first, y->first, sizeof(x->first));
}

static int compare_backwards(const void *a, const void *b)
{
	const struct element *x = a, *y = b;

	for (size_t i = sizeof(x->first); i-- > 0;) {
		if (x->first[i] != y->first[i])
			return x->first[i] < y->first[i] ? -1 : 1;
	}
	return 0;
}

static bool set_sorts_forwards(const struct set *s)
{
	return s->type == SET_OTHER || s->interval || set_types[s->type].byte_order == 2;
}

int element_compare(const struct set *s, const struct element *a, const struct element *b)
{
	return set_sorts_forwards(s) ? compare_forwards(a, b) : compare_backwards(a, b);
}

void set_sort(struct set *s)
{
	if (s->n_elements > 1)
		qsort(s->elements, s->n_elements, sizeof(*s->elements),
		      set_sorts_forwards(s) ? compare_forwards : compare_backwards);
}

/* Bits that all addresses of the range share, if it is a prefix; -1 if it is none. */
static int range_prefix_len(const uint8_t *first, const uint8_t *last, size_t nbytes)
{
	size_t byte = 0;
	int bits = 0;

	while (byte < nbytes && first[byte] == last[byte])
		byte++;
	if (byte == nbytes)
		return (int)nbytes * 8;
	while (((first[byte] ^ last[byte]) & (0x80 >> bits)) == 0)
		bits++;
	for (size_t i = byte; i < nbytes; i++) {
		uint8_t free_bits = i == byte ? 0xff >> bits : 0xff;

		if ((first[i] & free_bits) != 0 || (last[i] & free_bits) != free_bits)
			return -1;
	}
	return (int)byte * 8 + bits;
}

static void address_format(const struct element *e, int family, char *out, size_t cap)
{
	size_t nbytes = family == AF_INET ? 4 : 16;
	int bits = range_prefix_len(e->first, e->last, nbytes);
	char first[INET6_ADDRSTRLEN], last[INET6_ADDRSTRLEN];

	inet_ntop(family, e->first, first, sizeof(first));
	inet_ntop(family, e->last, last, sizeof(last));
	if (bits < 0)
		snprintf(out, cap, "%s-%s", first, last);
	else if (bits == (int)nbytes * 8)
		snprintf(out, cap, "%s", first);
	else
		snprintf(out, cap, "%s/%d", first, bits);
}

static uint16_t port_at(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void endpoint_format(const struct element *e, int family, char *out, size_t cap)
{
	char ip[INET6_ADDRSTRLEN];

	inet_ntop(family, e->first, ip, sizeof(ip));
	snprintf(out, cap, "%s . %u", ip, port_at(e->first + (family == AF_INET ? 4 : 16)));
}

static void bytes_format(const uint8_t *bytes, size_t n, char *out, size_t cap)
{
	size_t len = 0;

	snprintf(out, cap, "0x");
	for (size_t i = 0; i < n && len + 5 < cap; i++) {
		len = 2 + 2 * i;
		snprintf(out + len, cap - len, "%02x", bytes[i]);
	}
}

static void port_range_format(const struct element *e, char *out, size_t cap)
{
	if (memcmp(e->first, e->last, 2) == 0)
		snprintf(out, cap, "%u", port_at(e->first));
	else
		snprintf(out, cap, "%u-%u", port_at(e->first), port_at(e->last));
}

const char *element_format(const struct set *s, const struct element *e, char *out, size_t cap)
{
	uint64_t id;
	uint32_t uid;

	switch (s->type) {
	case SET_IPV4:
	case SET_IPV6:
		address_format(e, s->type == SET_IPV4 ? AF_INET : AF_INET6, out, cap);
		break;
	case SET_IPV4_PORT:
	case SET_IPV6_PORT:
		endpoint_format(e, s->type == SET_IPV4_PORT ? AF_INET : AF_INET6, out, cap);
		break;
	case SET_IFNAME:
		snprintf(out, cap, "\"%.*s\"", IFNAMSIZ, (const char *)e->first);
		break;
	case SET_UID:
		memcpy(&uid, e->first, sizeof(uid));
		snprintf(out, cap, "%u", uid);
		break;
	case SET_CGROUP:
		memcpy(&id, e->first, sizeof(id));
		snprintf(out, cap, "%llu", (unsigned long long)id);
		break;
	case SET_PROTOCOL:
		snprintf(out, cap, "%u", e->first[0]);
		break;
	case SET_PORT:
		port_range_format(e, out, cap);
		break;
	case SET_OTHER:
		bytes_format(e->first, s->key_len, out, cap);
		break;
	}
	return out;
}

const char *chain_type_name(enum chain_type type)
{
	static const char *const names[] = {
		[CHAIN_NAT] = "nat",
		[CHAIN_FILTER] = "filter",
		[CHAIN_ROUTE] = "route",
		[CHAIN_PLAIN] = "",
	};

	return names[type];
}

const char *chain_hook_name(uint32_t hook)
{
	static const char *const names[] = {
		[NF_INET_PRE_ROUTING] = "prerouting",   [NF_INET_LOCAL_IN] = "input",
		[NF_INET_FORWARD] = "forward",          [NF_INET_LOCAL_OUT] = "output",
		[NF_INET_POST_ROUTING] = "postrouting", [NF_INET_INGRESS] = "ingress",
	};

	return hook < ARRAY_LEN(names) ? names[hook] : "?";
}

const char *chain_format_hook(const struct chain *c, char *out, size_t cap)
{
	if (c->type == CHAIN_PLAIN)
		snprintf(out, cap, "no hook");
	else
		snprintf(out, cap, "%s hook %s priority %d", chain_type_name(c->type),
			 chain_hook_name(c->hook), c->priority);
	return out;
}

const char *rule_verdict_name(const struct rule *r)
{
	enum expr_kind last = r->n_exprs > 0 ? r->exprs[r->n_exprs - 1].kind : EXPR_OTHER;

	if (rule_redirect_port(r) != 0)
		return "redirected";
	if (last == EXPR_REJECT)
		return r->exprs[r->n_exprs - 1].key == NFT_REJECT_TCP_RST ? "reset" : "rejected";
	if (last == EXPR_DROP)
		return "dropped";
	for (size_t i = 0; i < r->n_exprs; i++) {
		if (r->exprs[i].kind == EXPR_META_SET)
			return "marked";
	}
	return "left alone";
}

uint16_t rule_redirect_port(const struct rule *r)
{
	const struct expr *loaded = NULL;

	for (size_t i = 0; i < r->n_exprs; i++) {
		const struct expr *e = &r->exprs[i];

		if (e->kind == EXPR_IMMEDIATE)
			loaded = e;
		if ((e->kind == EXPR_REDIRECT || e->kind == EXPR_TPROXY) && loaded != NULL &&
		    loaded->dest == e->source && loaded->value.len >= 2)
			return port_at(loaded->value.bytes);
	}
	return 0;
}

static void chain_free(struct chain *c)
{
	for (size_t i = 0; i < c->n_rules; i++)
		free(c->rules[i].exprs);
	free(c->rules);
}

void model_free(struct model *m)
{
	for (size_t i = 0; i < m->n_sets; i++)
		free(m->sets[i].elements);
	for (size_t i = 0; i < m->n_chains; i++)
		chain_free(&m->chains[i]);
	free(m->sets);
	free(m->chains);
	*m = (struct model){0};
}
