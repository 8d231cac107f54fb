/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <endian.h>
#include <string.h>

#include "daemon/core/hash.h"
#include "policy/defs.h"

/* Key and input are 00 01 02 ..., as in the paper, appendix A (15 bytes), and the vectors published with it. */
static void test_vectors(void **state)
{
	static const struct {
		size_t n;
		uint64_t hash;
	} cases[] = {
		{0, 0x726fdb47dd0e0e31u},  {1, 0x74f839c593dc67fdu},  {8, 0x93f5f5799a932462u},
		{15, 0xa129ca6149be45e5u}, {16, 0x3f2acc7f57c29bdbu},
	};
	struct hash_key key;
	uint8_t bytes[16];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	memcpy(&key, bytes, sizeof(key));
	key.k[0] = le64toh(key.k[0]);
	key.k[1] = le64toh(key.k[1]);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t hash = hash_bytes(&key, bytes, cases[i].n);

		if (hash != cases[i].hash)
			fail_msg("%zu bytes: %016llx", cases[i].n, (unsigned long long)hash);
	}
}

static void test_keys_differ(void **state)
{
	struct hash_key a, b;

	(void)state;
	assert_int_equal(hash_key_init(&a), 0);
	assert_int_equal(hash_key_init(&b), 0);
	assert_memory_not_equal(&a, &b, sizeof(a));
	assert_true(hash_bytes(&a, "x", 1) != hash_bytes(&b, "x", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_keys_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
