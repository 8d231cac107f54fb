/* SPDX-License-Identifier: MIT */
#include "daemon/admin/upstream_status.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/core/log.h"

#define T0 UINT64_C(1000000)

static struct conf conf;
static struct upstream_conf upstreams[2];
static struct group_conf group;
static size_t members[2] = {0, 1};
static struct upstreams *all;

/* The first one with a number of its own in each row, the second one with two source addresses and ejected. */
static int setup(void **state)
{
	static const uint8_t one[4] = {203, 0, 113, 10}, two[16] = {0x20, 1, 0xd, 0xb8};
	static struct addr sources[2];
	struct upstream_run *run;

	(void)state;
	log_configure("test", LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN, "", NULL);
	sources[0] = addr_from_bytes(one, 4, 0);
	sources[1] = addr_from_bytes(two, 16, 0);
	for (size_t i = 0; i < 2; i++) {
		upstreams[i] = (struct upstream_conf){.name = (char *)(i == 0 ? "eu\"1" : "us1"),
						      .group = (char *)"default",
						      .weight = 1};
		upstreams[i].url = (struct proxy_url){.scheme = PROXY_SOCKS5,
						      .host = "proxy.test",
						      .port = 1080,
						      .user = "me",
						      .password = "secret"};
	}
	upstreams[1].source = (struct addr_list){sources, 2};
	group = (struct group_conf){.name = (char *)"default", .members = members, .n_members = 2};
	conf = (struct conf){
		.upstreams = upstreams, .n_upstreams = 2, .groups = &group, .n_groups = 1};
	atomic_init(&conf.refs, 1);
	assert_int_equal(upstreams_new(&conf, NULL, &all, NULL), 0);
	all->n_ports = 28232;
	run = all->items[0].run;
	run->flows = 1001;
	run->warm = 1002;
	run->connects = 1003;
	for (size_t i = 0; i < UPSTREAM_FAILED_COUNT; i++)
		run->failures[i] = 1004 + i;
	for (size_t i = 0; i < UPSTREAM_REPLY_COUNT; i++)
		run->replies[i] = 1008 + i;
	for (size_t i = 0; i < HEALTH_FAILURES; i++)
		upstream_failed(&all->items[1], UPSTREAM_FAILED_CONNECT, ECONNREFUSED, NULL, T0,
				T0);
	upstream_failed(&all->items[1], UPSTREAM_FAILED_GREETING, 0, "it said nothing", T0, T0);
	atomic_store(&all->items[1].run->health.until_ms, T0 + 1500);
	upstream_port_take(&all->items[1], 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	upstreams_unref(all);
	return atomic_load(&conf.refs) == 1 ? 0 : -1;
}

static char *json_at(uint64_t now_ms)
{
	struct strbuf sb;
	struct json j;

	strbuf_init_heap(&sb);
	json_init(&j, &sb);
	json_object_begin(&j, NULL);
	upstream_status_json(all, now_ms, &j);
	json_object_end(&j);
	return sb.data;
}

static char *text_at(uint64_t now_ms)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	upstream_status_text(all, now_ms, &sb);
	return sb.data;
}

static void has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("no %s in:\n%s", part, text);
}

/* Every row with its number, and a manual's line can be made of each. */
static void test_rows(void **state)
{
	char *json = json_at(T0), part[64];

	(void)state;
	for (size_t i = 0; i < n_upstream_status_rows; i++) {
		const struct upstream_status_row *row = &upstream_status_rows[i];

		assert_in_range(strlen(row->name), 3, 20);
		assert_in_range(strlen(row->help), 5, 60);
		assert_int_equal(row->get(all->items[0].run), 1001 + i);
		snprintf(part, sizeof(part), ",\"%s\":%u,", row->name, (unsigned)(1001 + i));
		has(json, part);
	}
	free(json);
}

static void test_json(void **state)
{
	char *json = json_at(T0);

	(void)state;
	has(json, "{\"upstreams\":[{\"name\":\"eu\\\"1\",\"url\":\"socks5://proxy.test:1080\","
		  "\"group\":\"default\",\"state\":\"up\",\"share\":100,\"ejected_ms\":0,");
	has(json, "\"sources\":[{\"address\":\"\",\"ports\":0,\"max_ports\":28232}]}");
	has(json, "\"state\":\"ejected\",\"share\":0,\"ejected_ms\":1500,");
	has(json, "\"failed_connect\":3,\"failed_greeting\":1,");
	has(json, "\"last_failure\":\"greeting: it said nothing\","
		  "\"sources\":[{\"address\":\"203.0.113.10\",\"ports\":0,\"max_ports\":28232},"
		  "{\"address\":\"2001:db8::\",\"ports\":1,\"max_ports\":28232}]}]}");
	assert_null(strstr(json, "secret"));
	free(json);
	upstream_greeted(&all->items[1], T0 + 10, T0 + 10);
	json = json_at(T0 + 5010);
	has(json, "\"state\":\"returning\",\"share\":50,\"ejected_ms\":0,");
	free(json);
	json = json_at(T0 + 10 + HEALTH_RAMP_MS);
	has(json, "\"name\":\"us1\",\"url\":\"socks5://proxy.test:1080\",\"group\":\"default\","
		  "\"state\":\"up\",\"share\":100,");
	free(json);
}

static void test_text(void **state)
{
	struct strbuf none;
	char *text;

	(void)state;
	for (size_t i = 0; i < UPSTREAM_FAILED_COUNT; i++)
		all->items[0].run->failures[i] = 0;
	text = text_at(T0);
	assert_string_equal(
		text,
		"\n"
		"upstream  group    state               flows      warm    connects\n"
		"eu\"1      default  up                   1001      1002        1003\n"
		"          socks5://proxy.test:1080; replies: 1008 done, 1009 dest, 1010 policy, "
		"1011 upstream, 1012 none\n"
		"          0 of 28232 ports in use\n"
		"us1       default  ejected for 2 s         0         0           0\n"
		"          socks5://proxy.test:1080; failures: 3 connect, 1 greeting, the last one "
		"greeting: it said nothing\n"
		"          0 of 28232 ports of 203.0.113.10 in use\n"
		"          1 of 28232 ports of 2001:db8:: in use\n");
	free(text);
	all->n = 0; /* usocksd */
	strbuf_init_heap(&none);
	upstream_status_text(all, T0, &none);
	assert_int_equal(none.len, 0);
	strbuf_free(&none);
	all->n = 2;
}

int main(void)
{
#define STATUS_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		STATUS_TEST(test_rows),
		STATUS_TEST(test_json),
		STATUS_TEST(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
