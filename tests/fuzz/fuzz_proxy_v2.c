/* SPDX-License-Identifier: MIT */
/*
 * The header of the PROXY protocol, as anybody might send it. Input: the lengths of the pieces in turn, less one
 * (2 bytes), then the bytes of the sender.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/proto/proxy_v2.h"

/* A copy that ends with its memory, so that no byte beyond is read unnoticed. */
static enum proxy_v2_result step(struct proxy_v2 *p, const uint8_t *bytes, size_t n, size_t *used)
{
	uint8_t *in = malloc(n);
	enum proxy_v2_result result;

	BUG_ON(in == NULL);
	memcpy(in, bytes, n);
	memset(p, 0xee, sizeof(*p));
	*used = SIZE_MAX;
	result = proxy_v2_parse(p, in, n, used);
	BUG_ON(result == PROXY_V2_DONE && (*used > n || *used > PROXY_V2_IN_MAX));
	BUG_ON(result != PROXY_V2_DONE && *used != SIZE_MAX);
	BUG_ON(result == PROXY_V2_MORE && n >= PROXY_V2_IN_MAX);
	BUG_ON(result == PROXY_V2_FAIL && p->error == NULL);
	free(in);
	return result;
}

static void check_same(const struct proxy_v2 *a, const struct proxy_v2 *b)
{
	BUG_ON(a->local != b->local || strcmp(a->authority, b->authority) != 0);
	BUG_ON(!addr_equal(&a->client, &b->client) || !addr_equal(&a->dest, &b->dest));
}

/* Nothing is lost or changed by writing what was read. */
static void check_again(const struct proxy_v2 *p)
{
	uint8_t out[PROXY_V2_OUT_MAX];
	struct proxy_v2 again;
	char name[NAME_MAX_LEN + 1];
	struct addr addr;
	size_t n, used;

	if (p->authority[0] != '\0')
		BUG_ON(name_normalise(p->authority, strlen(p->authority), name, &addr) != 0 ||
		       strcmp(name, p->authority) != 0);
	BUG_ON((p->client.family == AF_UNSPEC) != (p->dest.family == AF_UNSPEC));
	if (p->client.family == AF_UNSPEC)
		return;
	BUG_ON(p->local);
	n = proxy_v2_write(out, &p->client, &p->dest, p->authority);
	BUG_ON(step(&again, out, n, &used) != PROXY_V2_DONE || used != n);
	check_same(p, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *bytes = data + 2;
	enum proxy_v2_result whole_result, result = PROXY_V2_MORE;
	struct proxy_v2 whole, pieces;
	size_t n, whole_used, used = 0, end = 0;

	if (size < 3)
		return 0;
	n = size - 2;
	whole_result = step(&whole, bytes, n, &whole_used);
	for (unsigned turn = 0; end < n && result == PROXY_V2_MORE; turn++) {
		end = n - end > data[turn % 2] ? end + 1 + data[turn % 2] : n;
		result = step(&pieces, bytes, end, &used);
	}
	BUG_ON(result != whole_result || used != whole_used);
	if (result == PROXY_V2_FAIL)
		BUG_ON(whole.error != pieces.error);
	if (result != PROXY_V2_DONE)
		return 0;
	check_same(&whole, &pieces);
	check_again(&whole);
	return 0;
}
