/* SPDX-License-Identifier: MIT */
#include "daemon/proto/proxy_v2.h"

#include <string.h>

#define HEAD_LEN       16
#define SIGNATURE_LEN  12
#define VERSION_2      0x20
#define COMMAND_LOCAL  0
#define COMMAND_PROXY  1
#define TLV_HEAD_LEN   3
#define TYPE_AUTHORITY 0x02

/* Address family and transport, in one byte. */
enum {
	UNSPEC = 0x00,
	TCP4 = 0x11,
	TCP6 = 0x21,
	FAMILY_MAX = 0x30,    /* AF_UNIX */
	TRANSPORT_MAX = 0x02, /* datagrams */
};

static const uint8_t signature[SIGNATURE_LEN] = "\r\n\r\n\0\r\nQUIT\n";

/* ---- write ---- */

static size_t put16(uint8_t *out, size_t value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
	return 2;
}

static size_t put_head(uint8_t *out, uint8_t command, uint8_t kind)
{
	memcpy(out, signature, SIGNATURE_LEN);
	out[12] = VERSION_2 | command;
	out[13] = kind;
	put16(out + 14, 0);
	return HEAD_LEN;
}

/* In `len` bytes, 4 or 16: RFC 4291 section 2.5.5.2 where IPv4 gets 16. */
static size_t put_ip(uint8_t *out, const struct addr *a, size_t len)
{
	if (len > addr_len(a)) {
		memset(out, 0, 10);
		memset(out + 10, 0xff, 2);
		out += 12;
	}
	memcpy(out, a->ip, addr_len(a));
	return len;
}

size_t proxy_v2_write(uint8_t out[PROXY_V2_OUT_MAX], const struct addr *client,
		      const struct addr *dest, const char *authority)
{
	bool v4 = client->family == AF_INET && dest->family == AF_INET;
	size_t name_len = authority != NULL ? strlen(authority) : 0;
	size_t n = put_head(out, COMMAND_PROXY, v4 ? TCP4 : TCP6);

	BUG_ON(client->family == AF_UNSPEC || dest->family == AF_UNSPEC);
	BUG_ON(name_len > NAME_MAX_LEN);
	n += put_ip(out + n, client, v4 ? 4 : 16);
	n += put_ip(out + n, dest, v4 ? 4 : 16);
	n += put16(out + n, client->port);
	n += put16(out + n, dest->port);
	if (name_len > 0) {
		out[n++] = TYPE_AUTHORITY;
		n += put16(out + n, name_len);
		memcpy(out + n, authority, name_len);
		n += name_len;
	}
	put16(out + 14, n - HEAD_LEN);
	return n;
}

size_t proxy_v2_write_local(uint8_t out[PROXY_V2_OUT_MAX])
{
	return put_head(out, COMMAND_LOCAL, UNSPEC);
}

/* ---- parse ---- */

static size_t get16(const uint8_t *in)
{
	return (size_t)in[0] << 8 | in[1];
}

static enum proxy_v2_result fail(struct proxy_v2 *p, const char *error)
{
	p->error = error;
	return PROXY_V2_FAIL;
}

static enum proxy_v2_result read_signature(struct proxy_v2 *p, const uint8_t *in, size_t n)
{
	static const char v1[] = "PROXY";
	const size_t v1_len = sizeof(v1) - 1;

	if (n > 0 && memcmp(in, v1, n < v1_len ? n : v1_len) == 0)
		return n < v1_len ? PROXY_V2_MORE : fail(p, "version 1 of the PROXY protocol");
	if (n > 0 && memcmp(in, signature, n < SIGNATURE_LEN ? n : SIGNATURE_LEN) != 0)
		return fail(p, "no PROXY protocol header");
	return n < SIGNATURE_LEN ? PROXY_V2_MORE : PROXY_V2_DONE;
}

/* Bytes of the address block; the kinds are checked. */
static size_t block_len(uint8_t kind)
{
	static const uint8_t len[] = {0, 12, 36, 216};

	return kind % 16 == 0 ? 0 : len[kind / 16];
}

/* The fixed part; as early as it can be told. */
static enum proxy_v2_result read_head(struct proxy_v2 *p, const uint8_t *in, size_t n)
{
	enum proxy_v2_result result = read_signature(p, in, n);

	if (result != PROXY_V2_DONE || n == SIGNATURE_LEN)
		return result == PROXY_V2_DONE ? PROXY_V2_MORE : result;
	if ((in[12] & 0xf0) != VERSION_2)
		return fail(p, "an unknown version of the PROXY protocol");
	if ((in[12] & 0x0f) > COMMAND_PROXY)
		return fail(p, "an unknown command in the PROXY protocol header");
	p->local = (in[12] & 0x0f) == COMMAND_LOCAL;
	if (n > 13 && ((in[13] & 0xf0) > FAMILY_MAX || (in[13] & 0x0f) > TRANSPORT_MAX))
		return fail(p, "an unknown address family in the PROXY protocol header");
	if (n < HEAD_LEN)
		return PROXY_V2_MORE;
	if (get16(in + 14) > PROXY_V2_IN_MAX - HEAD_LEN)
		return fail(p, "the PROXY protocol header is too long");
	if (!p->local && get16(in + 14) < block_len(in[13]))
		return fail(p, "the PROXY protocol header is too short for its addresses");
	return PROXY_V2_DONE;
}

/* What is no name leaves it "". */
static void read_authority(struct proxy_v2 *p, const uint8_t *name, size_t n)
{
	struct addr addr;

	(void)name_normalise((const char *)name, n, p->authority, &addr);
}

static enum proxy_v2_result read_tlvs(struct proxy_v2 *p, const uint8_t *in, size_t n)
{
	bool named = false;

	while (n > 0) {
		size_t len = n < TLV_HEAD_LEN ? n : get16(in + 1) + TLV_HEAD_LEN;

		if (n < TLV_HEAD_LEN || len > n)
			return fail(p, "the PROXY protocol header is malformed");
		if (in[0] == TYPE_AUTHORITY) {
			if (named)
				return fail(p, "two names in the PROXY protocol header");
			named = true;
			read_authority(p, in + TLV_HEAD_LEN, len - TLV_HEAD_LEN);
		}
		in += len;
		n -= len;
	}
	return PROXY_V2_DONE;
}

static void read_addresses(struct proxy_v2 *p, const uint8_t *in, size_t ip_len)
{
	p->client = addr_from_bytes(in, ip_len, (uint16_t)get16(in + 2 * ip_len));
	p->dest = addr_from_bytes(in + ip_len, ip_len, (uint16_t)get16(in + 2 * ip_len + 2));
}

enum proxy_v2_result proxy_v2_parse(struct proxy_v2 *p, const uint8_t *in, size_t n, size_t *used)
{
	enum proxy_v2_result result;
	size_t len, block;

	*p = (struct proxy_v2){.error = NULL};
	result = read_head(p, in, n);
	if (result != PROXY_V2_DONE)
		return result;
	len = get16(in + 14);
	if (n - HEAD_LEN < len)
		return PROXY_V2_MORE;
	/* Where no length of the addresses is laid down, nothing behind them can be found. */
	block = block_len(in[13]);
	if (!p->local && block > 0) {
		if (in[13] == TCP4 || in[13] == TCP6)
			read_addresses(p, in + HEAD_LEN, in[13] == TCP4 ? 4 : 16);
		result = read_tlvs(p, in + HEAD_LEN + block, len - block);
	}
	if (result == PROXY_V2_DONE)
		*used = HEAD_LEN + len;
	return result;
}
