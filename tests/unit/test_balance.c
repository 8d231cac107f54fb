/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "policy/balance.h"

#define CLIENTS 20000

static struct candidate candidate(size_t index, uint32_t weight)
{
	char name[32];

	snprintf(name, sizeof(name), "proxy-%zu", index);
	return (struct candidate){
		.index = index, .identity = balance_identity(name), .weight = weight};
}

static struct addr client(uint32_t i)
{
	const uint8_t v4[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

	return addr_from_bytes(v4, 4, (uint16_t)(i * 7));
}

static size_t first_by_client(const uint32_t *weights, size_t n, uint32_t i)
{
	struct candidate c[16];
	struct addr a = client(i);

	for (size_t k = 0; k < n; k++)
		c[k] = candidate(k, weights[k]);
	balance_order(GROUP_HASH_CLIENT, c, n, &a, i);
	return c[0].index;
}

/* Without one of five, its clients go elsewhere and nobody else does. */
static void test_losing_one(void **state)
{
	static const uint32_t weights[] = {1, 2, 1, 3, 1};
	size_t moved[5] = {0};

	(void)state;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct candidate c[5], left[4];
		struct addr a = client(i);

		for (size_t k = 0; k < 5; k++)
			c[k] = candidate(k, weights[k]);
		for (size_t k = 0; k < 4; k++)
			left[k] = candidate(k < 3 ? k : 4, weights[k < 3 ? k : 4]);
		balance_order(GROUP_HASH_CLIENT, c, 5, &a, 0);
		balance_order(GROUP_HASH_CLIENT, left, 4, &a, 1);
		if (c[0].index == 3) {
			/* and they go where they would have gone next */
			assert_int_equal(left[0].index, c[1].index);
			moved[left[0].index]++;
		} else {
			assert_int_equal(left[0].index, c[0].index);
		}
	}
	assert_int_equal(moved[3], 0);
	for (size_t k = 0; k < 5; k++)
		assert_true(k == 3 || moved[k] > CLIENTS / 20);
}

static void test_hash_weights(void **state)
{
	static const uint32_t weights[] = {1, 2, 3, 4, 10};
	size_t got[5] = {0};

	(void)state;
	for (uint32_t i = 0; i < CLIENTS; i++)
		got[first_by_client(weights, 5, i)]++;
	for (size_t k = 0; k < 5; k++) {
		size_t want = CLIENTS * weights[k] / 20;

		print_message("weight %u: %zu of %zu\n", weights[k], got[k], want);
		assert_true(got[k] > want - CLIENTS / 100 && got[k] < want + CLIENTS / 100);
	}
}

/* Another process on another machine says the same: written down once. */
static void test_hash_is_fixed(void **state)
{
	static const uint8_t v6[16] = {0xfd, 0x91, [15] = 1};
	static const size_t v4_order[] = {0, 2, 3, 1}, v6_order[] = {2, 3, 1, 0};
	struct addr a = client(5), b = addr_from_bytes(v6, 16, 0);
	struct candidate c[4];

	(void)state;
	assert_true(balance_identity("tokyo-1") == UINT64_C(0xcdf1a8930ba7a427));
	for (size_t k = 0; k < 4; k++)
		c[k] = candidate(k, 1);
	balance_order(GROUP_HASH_CLIENT, c, 4, &a, 0);
	for (size_t k = 0; k < 4; k++)
		assert_int_equal(c[k].index, v4_order[k]);
	/* In whatever order they come, and whatever the client's port. */
	a.port++;
	balance_order(GROUP_HASH_CLIENT, c, 4, &a, 9);
	for (size_t k = 0; k < 4; k++)
		assert_int_equal(c[k].index, v4_order[k]);
	balance_order(GROUP_HASH_CLIENT, c, 4, &b, 0);
	for (size_t k = 0; k < 4; k++)
		assert_int_equal(c[k].index, v6_order[k]);
}

static const struct {
	uint32_t weights[4];
	size_t n;
	const char *turns; /* who is first, turn by turn */
} rounds[] = {
	{{1, 1, 1}, 3, "012012012"},
	{{5, 5}, 2, "01010101"},
	{{2, 1}, 2, "010010010"},
	{{3, 1}, 2, "00100010"},
	{{5, 1, 1}, 3, "00012000001200"},
	{{0, 1, 1}, 3, "1212"},
	{{1, 0, 2}, 3, "202202"},
	{{0, 0}, 2, "0000"},
	{{7}, 1, "000"},
	{{256, 512}, 2, "101101101"},
};

static void test_round_robin(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rounds); i++) {
		char got[32] = "";

		for (size_t t = 0; t < strlen(rounds[i].turns); t++) {
			struct candidate c[4];

			for (size_t k = 0; k < rounds[i].n; k++)
				c[k] = candidate(k, rounds[i].weights[k]);
			balance_order(GROUP_ROUND_ROBIN, c, rounds[i].n, NULL, t);
			got[t] = (char)('0' + c[0].index);
		}
		assert_string_equal(got, rounds[i].turns);
	}
}

/* Who follows is who would be due next, so that a lost one's share is spread. */
static void test_round_robin_next(void **state)
{
	struct candidate c[3];

	(void)state;
	for (uint64_t turn = 0; turn < 9; turn++) {
		for (size_t k = 0; k < 3; k++)
			c[k] = candidate(k, 4);
		balance_order(GROUP_ROUND_ROBIN, c, 3, NULL, turn);
		for (size_t k = 0; k < 3; k++)
			assert_int_equal(c[k].index, (turn + k) % 3);
	}
}

/* Of many, each exactly as often as its weight says, in every round. */
static void test_round_robin_many(void **state)
{
	static struct candidate c[40];
	unsigned got[40] = {0}, sum = 0;

	(void)state;
	for (size_t k = 0; k < 40; k++)
		sum += (unsigned)k * 25;
	for (uint64_t turn = 0; turn < 2 * sum; turn++) {
		for (size_t k = 0; k < 40; k++)
			c[k] = candidate(k, (uint32_t)k * 25);
		balance_order(GROUP_ROUND_ROBIN, c, 40, NULL, turn);
		got[c[0].index]++;
		assert_int_equal(c[39].index, 0);
	}
	for (size_t k = 0; k < 40; k++)
		assert_int_equal(got[k], 2 * k * 25);
}

static void test_least_flows(void **state)
{
	struct candidate c[3];
	unsigned got[3] = {0};

	(void)state;
	for (unsigned turn = 0; turn < 700; turn++) {
		for (size_t k = 0; k < 3; k++) {
			c[k] = candidate(k, k == 2 ? 5 : 1);
			c[k].flows = got[k];
		}
		balance_order(GROUP_LEAST_FLOWS, c, 3, NULL, turn);
		got[c[0].index]++;
	}
	assert_in_range(got[0], 99, 101);
	assert_in_range(got[1], 99, 101);
	assert_in_range(got[2], 499, 501);
	/* Equals go by turns; one that is as good as gone is last however few it has. */
	for (unsigned turn = 0; turn < 6; turn++) {
		for (size_t k = 0; k < 3; k++) {
			c[k] = candidate(k, k == 1 ? 0 : 1);
			c[k].flows = k == 1 ? 0 : 1000;
		}
		balance_order(GROUP_LEAST_FLOWS, c, 3, NULL, turn);
		assert_int_equal(c[0].index, turn % 3 == 0 ? 0 : 2);
		assert_int_equal(c[2].index, 1);
	}
}

static void test_failover(void **state)
{
	static const uint32_t weights[] = {0, 3, 1, 0, 9};
	static const size_t want[] = {1, 2, 4, 0, 3};
	struct candidate c[5];
	struct addr a = client(1);

	(void)state;
	for (size_t k = 0; k < 5; k++)
		c[k] = candidate(k, weights[k]);
	balance_order(GROUP_FAILOVER, c, 5, &a, 3);
	for (size_t k = 0; k < 5; k++)
		assert_int_equal(c[k].index, want[k]);
	balance_order(GROUP_FAILOVER, c, 0, &a, 3);
}

/* The sort itself: each candidate is there once, ranks ascend. */
static void test_large(void **state)
{
	static struct candidate c[UPSTREAMS_MAX];
	static bool seen[UPSTREAMS_MAX];

	(void)state;
	for (uint32_t i = 0; i < 20; i++) {
		struct addr a = client(i);

		memset(seen, 0, sizeof(seen));
		for (size_t k = 0; k < UPSTREAMS_MAX; k++)
			c[k] = candidate(k, (uint32_t)(k % 7));
		balance_order(GROUP_HASH_CLIENT, c, UPSTREAMS_MAX, &a, 0);
		for (size_t k = 0; k < UPSTREAMS_MAX; k++) {
			assert_false(seen[c[k].index]);
			seen[c[k].index] = true;
			assert_true(k == 0 || c[k - 1].rank <= c[k].rank);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_losing_one),
		cmocka_unit_test(test_hash_weights),
		cmocka_unit_test(test_hash_is_fixed),
		cmocka_unit_test(test_round_robin),
		cmocka_unit_test(test_round_robin_next),
		cmocka_unit_test(test_round_robin_many),
		cmocka_unit_test(test_least_flows),
		cmocka_unit_test(test_failover),
		cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
