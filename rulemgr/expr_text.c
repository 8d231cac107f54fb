/* SPDX-License-Identifier: MIT */
#include "rulemgr/diff.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

/* A number and nft(8)'s word for it. */
struct word {
	uint32_t number;
	const char *text;
};

static const struct word meta_words[] = {
	{NFT_META_MARK, "mark"},       {NFT_META_SKUID, "skuid"},     {NFT_META_SKGID, "skgid"},
	{NFT_META_IIFNAME, "iifname"}, {NFT_META_OIFNAME, "oifname"}, {NFT_META_NFPROTO, "nfproto"},
	{NFT_META_L4PROTO, "l4proto"},
};

static const struct word ct_words[] = {
	{NFT_CT_STATE, "state"},
	{NFT_CT_DIRECTION, "direction"},
	{NFT_CT_STATUS, "status"},
	{NFT_CT_MARK, "mark"},
};

static const struct word header_words[] = {
	{NFT_PAYLOAD_LL_HEADER, "link"},
	{NFT_PAYLOAD_NETWORK_HEADER, "network"},
	{NFT_PAYLOAD_TRANSPORT_HEADER, "transport"},
};

static const struct word socket_words[] = {
	{NFT_SOCKET_TRANSPARENT, "transparent"},
	{NFT_SOCKET_MARK, "mark"},
	{NFT_SOCKET_WILDCARD, "wildcard"},
	{NFT_SOCKET_CGROUPV2, "cgroupv2"},
};

static const struct word cmp_words[] = {
	{NFT_CMP_EQ, ""},          {NFT_CMP_NEQ, "other than "},  {NFT_CMP_LT, "less than "},
	{NFT_CMP_LTE, "at most "}, {NFT_CMP_GT, "greater than "}, {NFT_CMP_GTE, "at least "},
};

#define WORD(words, number, out) word_find(words, ARRAY_LEN(words), number, out, sizeof(out))

static const char *word_find(const struct word *words, size_t n, uint32_t number, char *out,
			     size_t cap)
{
	for (size_t i = 0; i < n; i++) {
		if (words[i].number == number)
			return words[i].text;
	}
	snprintf(out, cap, "%u", number);
	return out;
}

/* Marks and uids are numbers of this host. Two bytes are a port, and longer ones are text. */
static const char *value_format(const struct value *v, char *out, size_t cap)
{
	struct strbuf sb;
	uint32_t number;

	strbuf_init(&sb, out, cap);
	if (v->len == sizeof(number)) {
		memcpy(&number, v->bytes, sizeof(number));
		strbuf_printf(&sb, "0x%x", number);
		return out;
	}
	strbuf_puts(&sb, "0x");
	for (size_t i = 0; i < v->len; i++)
		strbuf_printf(&sb, "%02x", v->bytes[i]);
	return out;
}

static void load_format(const struct expr *e, char *out, size_t cap)
{
	char number[16];

	switch (e->kind) {
	case EXPR_META:
		snprintf(out, cap, "loads meta %s", WORD(meta_words, e->key, number));
		break;
	case EXPR_META_SET:
		snprintf(out, cap, "sets meta %s", WORD(meta_words, e->key, number));
		break;
	case EXPR_CT:
		snprintf(out, cap, "loads ct %s", WORD(ct_words, e->key, number));
		break;
	case EXPR_CT_SET:
		snprintf(out, cap, "sets ct %s", WORD(ct_words, e->key, number));
		break;
	case EXPR_PAYLOAD:
		snprintf(out, cap, "loads %u bytes at %u of the %s header", e->len, e->offset,
			 WORD(header_words, e->key, number));
		break;
	case EXPR_FIB_TYPE:
		snprintf(out, cap, "loads fib daddr type");
		break;
	case EXPR_SOCKET:
		snprintf(out, cap, "loads socket %s", WORD(socket_words, e->key, number));
		if (e->key == NFT_SOCKET_CGROUPV2)
			snprintf(out, cap, "loads socket cgroupv2 level %u", e->offset);
		break;
	default:
		break;
	}
}

static void compute_format(const struct expr *e, char *out, size_t cap)
{
	char values[2][2 * VALUE_MAX + 8], number[16];

	value_format(&e->value, values[0], sizeof(values[0]));
	value_format(&e->xor, values[1], sizeof(values[1]));
	switch (e->kind) {
	case EXPR_HASH:
		snprintf(out, cap, "hashes %u bytes with seed 0x%x modulo %u", e->len, e->offset,
			 e->key);
		break;
	case EXPR_IMMEDIATE:
		snprintf(out, cap, "gives %s", values[0]);
		break;
	case EXPR_BITWISE:
		snprintf(out, cap, "masks with %s and flips %s", values[0], values[1]);
		break;
	case EXPR_BYTEORDER:
		snprintf(out, cap, "turns into network byte order");
		break;
	case EXPR_CMP:
		snprintf(out, cap, "compares with %s%s", WORD(cmp_words, e->key, number),
			 values[0]);
		break;
	case EXPR_LOOKUP:
		snprintf(out, cap, "asks for %s set %s", e->negate ? "none of" : "one of", e->name);
		break;
	default:
		break;
	}
}

static void act_format(const struct expr *e, char *out, size_t cap)
{
	switch (e->kind) {
	case EXPR_COUNTER:
		snprintf(out, cap, "counts");
		break;
	case EXPR_ACCEPT:
		snprintf(out, cap, "accepts");
		break;
	case EXPR_DROP:
		snprintf(out, cap, "drops");
		break;
	case EXPR_RETURN:
		snprintf(out, cap, "returns");
		break;
	case EXPR_REDIRECT:
		snprintf(out, cap, "redirects");
		break;
	case EXPR_TPROXY:
		snprintf(out, cap, "takes by tproxy, family %u", e->key);
		break;
	case EXPR_REJECT:
		snprintf(out, cap, "rejects, type %u code %u", e->key, e->offset);
		break;
	case EXPR_OTHER:
		snprintf(out, cap, "has expression %s, which we never write", e->name);
		break;
	default:
		break;
	}
}

/* Two expressions may differ in nothing but the registers. */
static void registers_format(const struct expr *e, char *out, size_t cap)
{
	size_t len = strlen(out);

	if (e->source != 0 || e->dest != 0)
		snprintf(out + len, cap - len, " (register %u to %u)", e->source, e->dest);
}

const char *expr_format(const struct expr *e, char *out, size_t cap)
{
	if (e->kind <= EXPR_SOCKET && e->kind != EXPR_HASH)
		load_format(e, out, cap);
	else if (e->kind <= EXPR_LOOKUP)
		compute_format(e, out, cap);
	else
		act_format(e, out, cap);
	registers_format(e, out, cap);
	return out;
}

static bool value_equal(const struct value *a, const struct value *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* What we do not know equals nothing, not even itself. */
bool expr_equal(const struct expr *a, const struct expr *b)
{
	return a->kind == b->kind && a->kind != EXPR_OTHER && a->negate == b->negate &&
	       a->dest == b->dest && a->source == b->source && a->key == b->key &&
	       a->offset == b->offset && a->len == b->len && value_equal(&a->value, &b->value) &&
	       value_equal(&a->xor, &b->xor) && strcmp(a->name, b->name) == 0;
}
