/* SPDX-License-Identifier: MIT */
#include "rulemgr/decode.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "rulemgr/udata.h"

struct decode_key {
	uint8_t bytes[VALUE_MAX];
	uint8_t last[VALUE_MAX]; /* the same, or the end of a range that the kernel says itself */
	bool end;                /* one past the last key of a range */
	bool all;                /* whatever no other element contains */
	size_t set;              /* index into model.sets */
	char comment[MODEL_COMMENT_MAX];
};

void decode_attributes(const struct nlattr *nest, const struct nlattr **tb, size_t max)
{
	const struct nlattr *a;

	memset(tb, 0, (max + 1) * sizeof(*tb));
	if (nest == NULL)
		return;
	mnl_attr_for_each_nested(a, nest)
	{
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	}
}

/* The same for a whole message. */
static void message_attributes(const struct nlmsghdr *h, const struct nlattr **tb, size_t max)
{
	const struct nlattr *a;

	memset(tb, 0, (max + 1) * sizeof(*tb));
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	}
}

bool decode_u32(const struct nlattr *a, uint32_t *value)
{
	if (a == NULL || mnl_attr_get_payload_len(a) < sizeof(*value))
		return false;
	memcpy(value, mnl_attr_get_payload(a), sizeof(*value));
	*value = ntohl(*value);
	return true;
}

bool decode_u64(const struct nlattr *a, uint64_t *value)
{
	if (a == NULL || mnl_attr_get_payload_len(a) < sizeof(*value))
		return false;
	memcpy(value, mnl_attr_get_payload(a), sizeof(*value));
	*value = be64toh(*value);
	return true;
}

void decode_string(const struct nlattr *a, char *out, size_t cap)
{
	if (a == NULL)
		snprintf(out, cap, "%s", "");
	else
		snprintf(out, cap, "%.*s", (int)mnl_attr_get_payload_len(a),
			 (const char *)mnl_attr_get_payload(a));
}

bool decode_value(const struct nlattr *nest, struct value *v)
{
	const struct nlattr *tb[NFTA_DATA_MAX + 1];
	const struct nlattr *a;

	decode_attributes(nest, tb, NFTA_DATA_MAX);
	a = tb[NFTA_DATA_VALUE];
	if (a == NULL || mnl_attr_get_payload_len(a) > sizeof(v->bytes))
		return false;
	v->len = mnl_attr_get_payload_len(a);
	memcpy(v->bytes, mnl_attr_get_payload(a), v->len);
	return true;
}

static void decode_comment(const struct nlattr *userdata, uint8_t type, char *out, size_t cap)
{
	const char *comment = NULL;

	if (userdata != NULL)
		comment = udata_find_string(mnl_attr_get_payload(userdata),
					    mnl_attr_get_payload_len(userdata), type);
	snprintf(out, cap, "%s", comment != NULL ? comment : "");
}

static bool is_our_table(const struct nlattr *name)
{
	char text[MODEL_NAME_MAX];

	decode_string(name, text, sizeof(text));
	return strcmp(text, MODEL_TABLE) == 0;
}

static int decode_table(struct decode *d, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NFTA_TABLE_MAX + 1];

	message_attributes(h, tb, NFTA_TABLE_MAX);
	if (!is_our_table(tb[NFTA_TABLE_NAME]))
		return 0;
	d->has_table = true;
	decode_u32(tb[NFTA_TABLE_FLAGS], &d->model.flags);
	decode_u32(tb[NFTA_TABLE_OWNER], &d->model.owner);
	decode_u32(tb[NFTA_TABLE_USE], &d->in_use);
	decode_comment(tb[NFTA_TABLE_USERDATA], NFTNL_UDATA_TABLE_COMMENT, d->model.comment,
		       sizeof(d->model.comment));
	return 0;
}

static enum set_type find_type(uint32_t key_type, uint32_t key_len)
{
	for (int i = 0; i < SET_OTHER; i++) {
		if (set_types[i].key_type == key_type && set_types[i].key_len == key_len)
			return i;
	}
	return SET_OTHER;
}

static bool set_is_unlike(const struct set *s, const struct nlattr *const *tb)
{
	const struct nlattr *desc[NFTA_SET_DESC_MAX + 1], *notes = tb[NFTA_SET_USERDATA];

	decode_attributes(tb[NFTA_SET_DESC], desc, NFTA_SET_DESC_MAX);
	if (desc[NFTA_SET_DESC_SIZE] != NULL)
		return true;
	return s->interval &&
	       (notes == NULL ||
		udata_find_u32(mnl_attr_get_payload(notes), mnl_attr_get_payload_len(notes),
			       NFTNL_UDATA_SET_MERGE_ELEMENTS) == 0);
}

static int decode_set(struct decode *d, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NFTA_SET_MAX + 1];
	uint32_t key_type = 0, key_len = 0, flags = 0;
	char name[MODEL_NAME_MAX];
	struct set *s;

	message_attributes(h, tb, NFTA_SET_MAX);
	if (!is_our_table(tb[NFTA_SET_TABLE]))
		return 0;
	decode_u32(tb[NFTA_SET_KEY_TYPE], &key_type);
	decode_u32(tb[NFTA_SET_KEY_LEN], &key_len);
	decode_u32(tb[NFTA_SET_FLAGS], &flags);
	decode_string(tb[NFTA_SET_NAME], name, sizeof(name));
	s = model_add_set(&d->model, name, find_type(key_type, key_len));
	if (s == NULL)
		return -ENOMEM;
	s->key_len = key_len <= VALUE_MAX ? key_len : VALUE_MAX;
	s->interval = (flags & NFT_SET_INTERVAL) != 0;
	s->flags = flags & ~(uint32_t)NFT_SET_INTERVAL;
	s->unlike = set_is_unlike(s, tb);
	decode_u64(tb[NFTA_SET_TIMEOUT], &s->timeout_ms);
	decode_comment(tb[NFTA_SET_USERDATA], NFTNL_UDATA_SET_COMMENT, s->comment,
		       sizeof(s->comment));
	return 0;
}

static void decode_left(const struct nlattr *expiration, struct set *s)
{
	uint64_t left_ms = 0;

	decode_u64(expiration, &left_ms);
	if (left_ms > 0 && (s->left_ms == 0 || left_ms < s->left_ms))
		s->left_ms = left_ms;
}

static int decode_key(struct decode *d, size_t set, const struct nlattr *nest)
{
	const struct nlattr *tb[NFTA_SET_ELEM_MAX + 1];
	struct value first = {.len = 0}, last;
	struct decode_key *keys, *k;
	uint32_t flags = 0;

	decode_attributes(nest, tb, NFTA_SET_ELEM_MAX);
	decode_u32(tb[NFTA_SET_ELEM_FLAGS], &flags);
	if (!(flags & NFT_SET_ELEM_CATCHALL) && !decode_value(tb[NFTA_SET_ELEM_KEY], &first))
		return 0;
	keys = model_grow(d->keys, d->n_keys, sizeof(*keys));
	if (keys == NULL)
		return -ENOMEM;
	d->keys = keys;
	k = &keys[d->n_keys++];
	k->set = set;
	k->end = (flags & NFT_SET_ELEM_INTERVAL_END) != 0;
	k->all = (flags & NFT_SET_ELEM_CATCHALL) != 0;
	memcpy(k->bytes, first.bytes, first.len);
	memcpy(k->last, first.bytes, first.len);
	if (decode_value(tb[NFTA_SET_ELEM_KEY_END], &last))
		memcpy(k->last, last.bytes, last.len);
	decode_left(tb[NFTA_SET_ELEM_EXPIRATION], &d->model.sets[set]);
	decode_comment(tb[NFTA_SET_ELEM_USERDATA], NFTNL_UDATA_SET_ELEM_COMMENT, k->comment,
		       sizeof(k->comment));
	return 0;
}

static int decode_elements(struct decode *d, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NFTA_SET_ELEM_LIST_MAX + 1];
	const struct nlattr *a;
	char name[MODEL_NAME_MAX];
	const struct set *s;
	int r = 0;

	message_attributes(h, tb, NFTA_SET_ELEM_LIST_MAX);
	decode_string(tb[NFTA_SET_ELEM_LIST_SET], name, sizeof(name));
	s = model_find_set(&d->model, name);
	if (!is_our_table(tb[NFTA_SET_ELEM_LIST_TABLE]) || s == NULL ||
	    tb[NFTA_SET_ELEM_LIST_ELEMENTS] == NULL)
		return 0;
	mnl_attr_for_each_nested(a, tb[NFTA_SET_ELEM_LIST_ELEMENTS])
	{
		r = decode_key(d, (size_t)(s - d->model.sets), a);
		if (r < 0)
			break;
	}
	return r;
}

static enum chain_type find_chain_type(const char *name)
{
	static const enum chain_type types[] = {CHAIN_NAT, CHAIN_FILTER, CHAIN_ROUTE};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (strcmp(chain_type_name(types[i]), name) == 0)
			return types[i];
	}
	return CHAIN_PLAIN;
}

static int decode_chain(struct decode *d, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NFTA_CHAIN_MAX + 1], *hook[NFTA_HOOK_MAX + 1];
	char name[MODEL_NAME_MAX], type[16];
	uint32_t priority = 0, policy = NF_ACCEPT;
	struct chain *c;

	message_attributes(h, tb, NFTA_CHAIN_MAX);
	if (!is_our_table(tb[NFTA_CHAIN_TABLE]))
		return 0;
	decode_string(tb[NFTA_CHAIN_NAME], name, sizeof(name));
	c = model_add_chain(&d->model, name);
	if (c == NULL)
		return -ENOMEM;
	decode_string(tb[NFTA_CHAIN_TYPE], type, sizeof(type));
	c->type = find_chain_type(type);
	decode_attributes(tb[NFTA_CHAIN_HOOK], hook, NFTA_HOOK_MAX);
	decode_u32(hook[NFTA_HOOK_HOOKNUM], &c->hook);
	decode_u32(hook[NFTA_HOOK_PRIORITY], &priority);
	c->priority = (int32_t)priority;
	decode_u32(tb[NFTA_CHAIN_POLICY], &policy);
	c->drop = policy == NF_DROP;
	decode_comment(tb[NFTA_CHAIN_USERDATA], NFTNL_UDATA_CHAIN_COMMENT, c->comment,
		       sizeof(c->comment));
	return 0;
}

static int decode_rule(struct decode *d, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NFTA_RULE_MAX + 1];
	const struct nlattr *a;
	char name[MODEL_NAME_MAX];
	struct chain *c;
	struct rule *rule;
	int r = 0;

	message_attributes(h, tb, NFTA_RULE_MAX);
	decode_string(tb[NFTA_RULE_CHAIN], name, sizeof(name));
	c = model_find_chain(&d->model, name);
	/* Old kernels list the rules of all tables, whatever was asked for. */
	if (!is_our_table(tb[NFTA_RULE_TABLE]) || c == NULL)
		return 0;
	rule = chain_add_rule(c);
	if (rule == NULL)
		return -ENOMEM;
	decode_u64(tb[NFTA_RULE_HANDLE], &rule->handle);
	decode_comment(tb[NFTA_RULE_USERDATA], NFTNL_UDATA_RULE_COMMENT, rule->comment,
		       sizeof(rule->comment));
	if (tb[NFTA_RULE_EXPRESSIONS] == NULL)
		return 0;
	mnl_attr_for_each_nested(a, tb[NFTA_RULE_EXPRESSIONS])
	{
		r = decode_expr(rule, a);
		if (r < 0)
			break;
	}
	return r;
}

int decode_message(struct decode *d, const struct nlmsghdr *h)
{
	const struct nfgenmsg *family = mnl_nlmsg_get_payload(h);

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*family) ||
	    h->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || family->nfgen_family != NFPROTO_INET)
		return 0;
	switch (h->nlmsg_type & 0xff) {
	case NFT_MSG_NEWTABLE:
		return decode_table(d, h);
	case NFT_MSG_NEWSET:
		return decode_set(d, h);
	case NFT_MSG_NEWSETELEM:
		return decode_elements(d, h);
	case NFT_MSG_NEWCHAIN:
		return decode_chain(d, h);
	case NFT_MSG_NEWRULE:
		return decode_rule(d, h);
	default:
		return 0;
	}
}

/* By set, then by key; the end of one range comes before the beginning of the next. */
static int key_compare(const void *a, const void *b)
{
	const struct decode_key *x = a, *y = b;
	int r;

	if (x->set != y->set)
		return x->set < y->set ? -1 : 1;
	r = memcmp(x->bytes, y->bytes, sizeof(x->bytes));
	return r != 0 ? r : (int)y->end - (int)x->end;
}

/* A range goes up to the next key, whatever that is, or to the last address. */
static void find_last(const struct decode *d, const struct set *s, size_t i, uint8_t *last)
{
	const struct decode_key *k = &d->keys[i];

	if (!s->interval || memcmp(k->last, k->bytes, sizeof(k->bytes)) != 0) {
		memcpy(last, k->last, sizeof(k->last));
	} else if (i + 1 < d->n_keys && d->keys[i + 1].set == k->set) {
		memcpy(last, d->keys[i + 1].bytes, s->key_len);
		key_decrement(last, s->key_len);
	} else {
		memset(last, 0xff, s->key_len);
	}
}

static int add_keys(struct decode *d)
{
	for (size_t i = 0; i < d->n_keys; i++) {
		const struct decode_key *k = &d->keys[i];
		struct set *s = &d->model.sets[k->set];
		struct element e = {.comment = ""};

		if (k->end)
			continue;
		memcpy(e.first, k->bytes, sizeof(e.first));
		if (k->all)
			memset(e.last, 0xff, s->key_len);
		else
			find_last(d, s, i, e.last);
		snprintf(e.comment, sizeof(e.comment), "%s", k->comment);
		if (set_add_element(s, &e) < 0)
			return -ENOMEM;
	}
	return 0;
}

int decode_finish(struct decode *d, struct model *m)
{
	int r;

	if (d->n_keys > 1)
		qsort(d->keys, d->n_keys, sizeof(*d->keys), key_compare);
	r = add_keys(d);
	if (r == 0) {
		for (size_t i = 0; i < d->model.n_sets; i++)
			set_sort(&d->model.sets[i]);
		if (d->in_use > d->model.n_sets + d->model.n_chains)
			d->model.n_others = d->in_use - d->model.n_sets - d->model.n_chains;
		*m = d->model;
		d->model = (struct model){0};
	}
	decode_free(d);
	return r;
}

void decode_free(struct decode *d)
{
	model_free(&d->model);
	free(d->keys);
	*d = (struct decode){0};
}
