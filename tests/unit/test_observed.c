/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "daemon/flow/observed.h"

static const uint8_t somewhere[4] = {11, 0, 0, 1};

/* What differs in anything that a rule could be made of is apart; all else is counted together. */
static void test_apart(void **state)
{
	struct addr dest = addr_from_bytes(somewhere, 4, 443), client = dest;
	struct addr other = addr_from_bytes(somewhere, 4, 80);
	const struct flow_facts named = {
		.client = &client, .dest = &dest, .port = 443, .name = "a.example"};
	const struct flow_facts unnamed = {.client = &client, .dest = &dest, .port = 443};
	const struct flow_facts port = {.client = &client, .dest = &other, .port = 80};
	const struct rule_verdict proxy = {.action = RULE_PROXY, .observed = 3};
	const struct rule_verdict direct = {.action = RULE_DIRECT, .observed = 3};
	const struct rule_verdict second = {.action = RULE_PROXY, .observed = 4};
	struct suggest_row *rows;
	struct observed o;
	uint64_t lost, flows = 0;

	(void)state;
	assert_int_equal(observed_init(&o), 0);
	assert_int_equal(observed_rows(&o, &rows, &lost), 0);
	free(rows);
	for (int i = 0; i < 2; i++) {
		observed_add(&o, &named, &proxy);
		observed_add(&o, &named, &direct);
		observed_add(&o, &named, &second);
		observed_add(&o, &unnamed, &proxy);
		observed_add(&o, &port, &proxy);
	}
	assert_int_equal(observed_rows(&o, &rows, &lost), 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(rows[i].flows, 2);
		assert_in_range(rows[i].rule, 3, 4);
		if (rows[i].name[0] == '\0')
			assert_true(addr_equal_ip(&rows[i].dest, &dest));
		else
			assert_string_equal(rows[i].name, "a.example");
		flows += rows[i].flows;
	}
	assert_int_equal(flows, 10);
	assert_int_equal(lost, 0);
	free(rows);
	observed_destroy(&o);
}

/* What went direct to its address is of that address, under whatever name. */
static void test_direct_by_address(void **state)
{
	struct addr dest = addr_from_bytes(somewhere, 4, 443);
	const struct addr none = {.family = AF_UNSPEC};
	const char *const names[] = {"a.example", "b.example", NULL};
	const struct rule_verdict direct = {.action = RULE_DIRECT};
	const struct rule_verdict by_name = {.action = RULE_DIRECT, .by_name = true};
	struct flow_facts f = {.client = &dest, .dest = &dest, .port = 443};
	struct suggest_row *rows;
	struct observed o;
	uint64_t lost;

	(void)state;
	assert_int_equal(observed_init(&o), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		f.name = names[i];
		observed_add(&o, &f, &direct);
	}
	assert_int_equal(observed_rows(&o, &rows, &lost), 1);
	assert_string_equal(rows->name, "");
	assert_true(addr_equal_ip(&rows->dest, &dest));
	assert_int_equal(rows->flows, 3);
	free(rows);
	f.name = names[0];
	observed_add(&o, &f, &by_name);
	f.name = names[1];
	f.dest = &none; /* there was nothing but the name */
	observed_add(&o, &f, &direct);
	assert_int_equal(observed_rows(&o, &rows, &lost), 3);
	free(rows);
	observed_destroy(&o);
}

static void test_is_bounded(void **state)
{
	struct addr dest = addr_from_bytes(somewhere, 4, 443);
	const struct flow_facts f = {.client = &dest, .dest = &dest, .port = 443};
	const struct rule_verdict v = {.action = RULE_PROXY};
	struct suggest_row *rows;
	struct observed o;
	uint64_t lost;

	(void)state;
	assert_int_equal(observed_init(&o), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < OBSERVED_MAX + 100; i++) {
			dest.ip[2] = (uint8_t)(i >> 8);
			dest.ip[3] = (uint8_t)i;
			observed_add(&o, &f, &v);
		}
	}
	assert_int_equal(observed_rows(&o, &rows, &lost), OBSERVED_MAX);
	assert_int_equal(lost, 200);
	free(rows);
	observed_destroy(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_direct_by_address),
		cmocka_unit_test(test_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
