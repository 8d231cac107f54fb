/* SPDX-License-Identifier: MIT */
/*
 * What a client may send first. Input: the lengths of the pieces in turn, less one (2 bytes), then the client's
 * bytes. What is read of them must not depend on the pieces.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "daemon/proto/sniff.h"

/* A copy that ends with its memory, so that no byte beyond is read unnoticed, nor one of an earlier call. */
static enum sniff_result step(struct sniff *s, const uint8_t *bytes, size_t n)
{
	uint8_t *in = malloc(n);
	enum sniff_result result;

	BUG_ON(in == NULL);
	memcpy(in, bytes, n);
	result = sniff_step(s, in, n);
	BUG_ON(s->at > n || s->at > SNIFF_BYTES_MAX);
	BUG_ON(result == SNIFF_MORE && (s->at != n || n >= SNIFF_BYTES_MAX));
	BUG_ON(result == SNIFF_NONE && (s->none == NULL || s->ech || s->to_proxy));
	BUG_ON(result == SNIFF_FOUND && s->protocol == SNIFF_UNKNOWN);
	BUG_ON(sniff_step(s, in, n) != result);
	free(in);
	return result;
}

/* There is one form of a name, and it is what the client wrote. */
static void check_name(const struct sniff *s, const uint8_t *bytes, size_t n)
{
	char again[NAME_MAX_LEN + 1];
	size_t len = strnlen(s->name, sizeof(s->name));
	struct addr addr;

	BUG_ON(name_normalise(s->name, len, again, &addr) != 0 || strcmp(s->name, again) != 0);
	BUG_ON(s->ech && s->protocol != SNIFF_TLS);
	BUG_ON(s->to_proxy && s->protocol != SNIFF_HTTP);
	BUG_ON(s->to_port != 0 && !s->to_proxy);
	if (s->protocol != SNIFF_HTTP)
		return;
	for (size_t i = 0; i + len <= n; i++) {
		if (strncasecmp((const char *)bytes + i, s->name, len) == 0)
			return;
	}
	BUG_ON("the name is not among the bytes");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *bytes = data + 2;
	struct sniff whole, pieces;
	size_t n, end = 0;

	if (size < 3)
		return 0;
	n = size - 2;
	memset(&whole, 0xee, sizeof(whole));
	memset(&pieces, 0x11, sizeof(pieces));
	sniff_init(&whole);
	sniff_init(&pieces);
	step(&whole, bytes, n);
	for (unsigned turn = 0; end < n; turn++) {
		end = n - end > data[turn % 2] ? end + 1 + data[turn % 2] : n;
		if (step(&pieces, bytes, end) != SNIFF_MORE)
			break;
	}
	BUG_ON(whole.result != pieces.result || whole.at != pieces.at);
	BUG_ON(whole.protocol != pieces.protocol);
	BUG_ON(whole.ech != pieces.ech || whole.to_proxy != pieces.to_proxy);
	BUG_ON(whole.result == SNIFF_FOUND && whole.to_port != pieces.to_port);
	if (whole.result == SNIFF_NONE)
		BUG_ON(whole.none != pieces.none);
	if (whole.result == SNIFF_FOUND) {
		BUG_ON(strcmp(whole.name, pieces.name) != 0);
		check_name(&whole, bytes, n);
	}
	return 0;
}
