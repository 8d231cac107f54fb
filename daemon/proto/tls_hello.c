/* SPDX-License-Identifier: MIT */
#include "daemon/proto/tls_hello.h"

#include <string.h>

#define MESSAGE_MAX (16 * 1024)
#define RECORD_MAX  (1 << 14) /* RFC 8446 section 5.1 */

#define CLIENT_HELLO    1
#define HOST_NAME       0      /* the only NameType there is */
#define EXT_SERVER_NAME 0      /* RFC 6066 */
#define EXT_ECH         0xfe0d /* RFC 9849 */
#define ECH_OUTER       0

/* The integers of a ClientHello, in their order. What lies between them is passed over. */
enum tls_field {
	TLS_TYPE,
	TLS_LENGTH,
	TLS_SESSION,
	TLS_CIPHERS,
	TLS_COMPRESSION,
	TLS_EXTENSIONS,
	TLS_EXTENSION, /* type and length in one */
	TLS_NAME_LIST,
	TLS_NAME_TYPE,
	TLS_NAME_LEN,
	TLS_ECH_TYPE,
	TLS_END, /* no integer */
};

void tls_hello_init(struct sniff_tls *t)
{
	*t = (struct sniff_tls){.field = TLS_TYPE, .width = 1};
}

static enum sniff_result malformed(struct sniff *s)
{
	return sniff_end_none(s, "malformed ClientHello");
}

/* What comes next: `skip` bytes, and the integer `field` of `width` bytes. */
static enum sniff_result expect(struct sniff *s, uint32_t skip, enum tls_field field, uint8_t width)
{
	struct sniff_tls *t = &s->tls;

	if (t->left < skip || t->left - skip < width)
		return malformed(s);
	t->left -= skip + width;
	t->skip = skip;
	t->field = field;
	t->width = width;
	t->value = 0;
	return SNIFF_MORE;
}

/* Behind the `skip` bytes that remain of an extension. */
static enum sniff_result expect_extension(struct sniff *s, uint32_t skip)
{
	return s->tls.left == skip ? expect(s, skip, TLS_END, 0)
				   : expect(s, skip, TLS_EXTENSION, 4);
}

static enum sniff_result read_extension(struct sniff *s, uint16_t type, uint16_t len)
{
	struct sniff_tls *t = &s->tls;

	switch (type) {
	case EXT_SERVER_NAME:
		if (t->named)
			return malformed(s);
		t->named = true;
		t->inner = len;
		return len < 2 ? malformed(s) : expect(s, 0, TLS_NAME_LIST, 2);
	case EXT_ECH:
		t->inner = len;
		return len < 1 ? malformed(s) : expect(s, 0, TLS_ECH_TYPE, 1);
	default:
		return expect_extension(s, len);
	}
}

/* There must be exactly one name. Other types of names were never defined, and servers differ in what they do
 * about several. */
static enum sniff_result read_name_len(struct sniff *s, uint32_t len)
{
	struct sniff_tls *t = &s->tls;

	if (len > t->inner)
		return malformed(s);
	if (len < t->inner)
		return sniff_end_none(s, "several server names");
	if (len == 0)
		return sniff_end_none(s, "an empty server name");
	if (len > sizeof(t->name))
		return sniff_end_none(s, "not a domain name");
	t->in_name = true;
	return expect_extension(s, len);
}

static enum sniff_result read_hello_end(struct sniff *s)
{
	struct sniff_tls *t = &s->tls;

	if (t->name_n == 0)
		return sniff_end_none(s, "no server name");
	s->ech = t->outer;
	return sniff_end_name(s, t->name, t->name_n);
}

/* An integer is complete, or the message. */
static enum sniff_result read_field(struct sniff *s)
{
	struct sniff_tls *t = &s->tls;
	uint32_t value = t->value;

	switch ((enum tls_field)t->field) {
	case TLS_TYPE:
		if (value != CLIENT_HELLO)
			return sniff_end_none(s, "not a ClientHello");
		s->protocol = SNIFF_TLS;
		t->left = 3;
		return expect(s, 0, TLS_LENGTH, 3);
	case TLS_LENGTH:
		if (value > MESSAGE_MAX)
			return sniff_end_none(s, "a ClientHello of more than 16 KiB");
		t->left = value;
		return expect(s, 2 + 32, TLS_SESSION, 1); /* behind version and random */
	case TLS_SESSION:
		return value > 32 ? malformed(s) : expect(s, value, TLS_CIPHERS, 2);
	case TLS_CIPHERS:
		return value == 0 || value % 2 != 0 ? malformed(s)
						    : expect(s, value, TLS_COMPRESSION, 1);
	case TLS_COMPRESSION:
		if (value == 0)
			return malformed(s);
		return t->left == value ? expect(s, value, TLS_END, 0)
					: expect(s, value, TLS_EXTENSIONS, 2);
	case TLS_EXTENSIONS:
		return value != t->left ? malformed(s) : expect_extension(s, 0);
	case TLS_EXTENSION:
		return read_extension(s, (uint16_t)(value >> 16), (uint16_t)value);
	case TLS_NAME_LIST:
		t->inner -= 2;
		return value != t->inner || value < 3 ? malformed(s)
						      : expect(s, 0, TLS_NAME_TYPE, 1);
	case TLS_NAME_TYPE:
		t->inner -= 3;
		return value != HOST_NAME ? sniff_end_none(s, "a server name of another type")
					  : expect(s, 0, TLS_NAME_LEN, 2);
	case TLS_NAME_LEN:
		return read_name_len(s, value);
	case TLS_ECH_TYPE:
		/* An inner hello is what a front has decrypted: its name is the site. */
		t->outer = t->outer || value == ECH_OUTER;
		return expect_extension(s, t->inner - 1);
	case TLS_END:
		break;
	}
	return read_hello_end(s);
}

/* Up to `n` bytes of the message. Returns how many of them were used; at least one. */
static size_t read_message(struct sniff_tls *t, const uint8_t *bytes, size_t n)
{
	if (t->skip == 0) {
		t->value = t->value << 8 | bytes[0];
		t->width--;
		return 1;
	}
	if (n > t->skip)
		n = t->skip;
	if (t->in_name) {
		memcpy(t->name + t->name_n, bytes, n);
		t->name_n += (uint8_t)n;
	}
	t->skip -= (uint32_t)n;
	if (t->skip == 0)
		t->in_name = false;
	return n;
}

/* One byte of a record's header: type, version (the second byte of which must be ignored, RFC 8446 section 5.1;
 * the first has always been 3) and length. */
static enum sniff_result read_head(struct sniff *s, uint8_t byte)
{
	struct sniff_tls *t = &s->tls;
	bool first = s->at < 5;

	switch (t->head_n++) {
	case 0:
		if (byte != TLS_HANDSHAKE)
			return first ? sniff_end_none(s, SNIFF_NEITHER) : malformed(s);
		break;
	case 1:
		if (byte != 3)
			return first ? sniff_end_none(s, SNIFF_NEITHER) : malformed(s);
		break;
	case 3:
		t->record_left = (uint16_t)(byte << 8);
		break;
	case 4:
		t->record_left |= byte;
		if (t->record_left == 0 || t->record_left > RECORD_MAX)
			return first ? sniff_end_none(s, SNIFF_NEITHER) : malformed(s);
		break;
	}
	return SNIFF_MORE;
}

enum sniff_result tls_hello_step(struct sniff *s, const uint8_t *bytes, size_t n)
{
	struct sniff_tls *t = &s->tls;
	enum sniff_result result = SNIFF_MORE;

	while (result == SNIFF_MORE && s->at < n) {
		size_t used = 1, there = n - s->at;

		if (t->head_n < 5) {
			result = read_head(s, bytes[s->at]);
		} else {
			used = read_message(t, bytes + s->at,
					    there < t->record_left ? there : t->record_left);
			t->record_left -= (uint16_t)used;
			if (t->record_left == 0)
				t->head_n = 0;
			while (result == SNIFF_MORE && t->skip == 0 && t->width == 0)
				result = read_field(s);
		}
		s->at += (uint32_t)used;
	}
	return result;
}
