/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/json.h"

static void test_document(void **state)
{
	struct strbuf sb;
	struct json j;
	(void)state;

	strbuf_init_heap(&sb);
	json_init(&j, &sb);
	json_object_begin(&j, NULL);
	json_object_begin(&j, "empty");
	json_object_end(&j);
	json_array_begin(&j, "list");
	json_int(&j, NULL, INT64_MIN);
	json_array_begin(&j, NULL);
	json_array_end(&j);
	json_string(&j, NULL, "x\"y");
	json_object_begin(&j, NULL);
	json_bool(&j, "yes", true);
	json_bool(&j, "no", false);
	json_object_end(&j);
	json_array_end(&j);
	json_uint(&j, "max", UINT64_MAX);
	json_string_n(&j, "a key\n", "a\0b", 3);
	json_object_end(&j);
	assert_string_equal(sb.data, "{\"empty\":{},\"list\":[-9223372036854775808,[],\"x\\\"y\","
				     "{\"yes\":true,\"no\":false}],\"max\":18446744073709551615,"
				     "\"a key\\n\":\"a\\u0000b\"}");
	strbuf_free(&sb);
}

static void test_top_level_value(void **state)
{
	struct strbuf sb;
	struct json j;
	(void)state;

	strbuf_init_heap(&sb);
	json_init(&j, &sb);
	json_string(&j, NULL, "");
	assert_string_equal(sb.data, "\"\"");
	strbuf_free(&sb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_document),
		cmocka_unit_test(test_top_level_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
