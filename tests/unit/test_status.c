/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "daemon/admin/status.h"

/* A daemon with two workers and two listeners, each number its own. */
struct world {
	struct conf conf;
	struct upstream_conf upstream;
	char name[16];
	struct flow_rule rule;
	struct rule_count counts[1];
	struct plan plan;
	struct upstreams upstreams; /* test_upstream_status.c has some */
	struct budget budget;
	struct engine engines[2];
	struct listener listeners[2][2];
	struct status status;
};

static void world_init(struct world *w)
{
	static const uint8_t loopback[4] = {127, 0, 0, 1};

	memset(w, 0, sizeof(*w));
	w->conf.program = &conf_transocks;
	w->conf.upstreams = &w->upstream;
	w->conf.n_upstreams = 1;
	w->conf.rules = (struct flow_rules){.rules = &w->rule, .n = 1};
	strcpy(w->name, "no \"ads\"");
	w->rule = (struct flow_rule){.name = w->name,
				     .place = {.file = "a.toml", .line = 7},
				     .action = RULE_REFUSE,
				     .observe = true};
	w->counts[0].decided = 31;
	w->counts[0].observed = 32;
	w->plan.upstreams = &w->upstreams;
	w->plan.rules = w->counts;
	w->plan.rules_default = 33;
	atomic_store(&w->budget.live, 5);
	atomic_store(&w->budget.max, 77);
	for (unsigned i = 0; i < 2; i++) {
		struct engine *e = &w->engines[i];

		e->listeners = w->listeners[i];
		e->n_listeners = 2;
		for (uint16_t k = 0; k < 2; k++)
			e->listeners[k].addr = addr_from_bytes(loopback, 4, 1081 + k);
		e->n_live = 1001 + i;
		e->sessions.live = 1003 + i;
		e->sessions.idle = 1005 + i;
		e->setups.live = 1007 + i;
		e->setups.idle = 1009 + i;
		e->bufs.live = 1011 + i;
		e->bufs.idle = 1013 + i;
		e->pipes.live = 1015 + i;
		e->pipes.idle = 1017 + i;
		e->half_open.n = 1019 + i;
		e->n_resolving = 1021 + i;
		e->ended[WHY_DONE] = 100 + i;
	}
	w->engines[1].ended[WHY_CLIENT_LIMIT] = 3;
	w->listeners[1][1].paused = true; /* in one worker only */
	w->status = (struct status){
		.conf = &w->conf,
		.plan = &w->plan,
		.file = "/etc/\"x\".toml",
		.reload_error = "no",
		.budget = &w->budget,
		.engines = w->engines,
		.n_engines = 2,
		.uptime_ms = (2 * 86400 + 3 * 3600 + 4 * 60 + 5) * UINT64_C(1000) + 999};
}

static char *render(const struct world *w, void (*fn)(const struct status *st, struct strbuf *out))
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	fn(&w->status, &sb);
	assert_false(sb.truncated);
	return sb.data;
}

static void has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("no %s in:\n%s", part, text);
}

static void test_rows(void **state)
{
	(void)state;

	for (size_t i = 0; i < n_status_rows; i++) {
		assert_in_range(strlen(status_rows[i].name), 3, 20);
		assert_in_range(strlen(status_rows[i].help), 5, 60);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(status_rows[i].name, status_rows[k].name);
	}
}

/* Every row with its number, for both workers, in both forms. */
static void test_numbers(void **state)
{
	struct world w;
	char *json, *text, part[64];

	(void)state;
	world_init(&w);
	json = render(&w, status_json);
	text = render(&w, status_text);
	for (size_t i = 0; i < n_status_rows; i++) {
		has(text, status_rows[i].name);
		for (unsigned k = 0; k < 2; k++) {
			unsigned long long n = status_rows[i].get(&w.engines[k]);

			assert_int_equal(n, 1001 + 2 * i + k);
			snprintf(part, sizeof(part), "\"%s\":%llu", status_rows[i].name, n);
			has(json, part);
			snprintf(part, sizeof(part), " %llu", n);
			has(text, part);
		}
	}
	free(json);
	free(text);
}

static void test_json(void **state)
{
	struct world w;
	char *json;

	(void)state;
	world_init(&w);
	json = render(&w, status_json);
	has(json, "{\"program\":\"transocksd\",\"version\":\"" TRANSOCKS_VERSION "\",\"pid\":");
	has(json, ",\"uptime_s\":183845,\"configuration\":\"/etc/"
		  "\\\"x\\\".toml\",");
	has(json, ",\"upstreams\":[],\"rules\":[{\"name\":\"no "
		  "\\\"ads\\\"\",\"file\":\"a.toml\",\"line\":7,"
		  "\"action\":\"refuse\",\"observe\":true,\"decided\":31,\"observed\":32}],"
		  "\"no_rule\":33,");
	has(json,
	    "\"draining\":false,\"listeners\":[{\"address\":\"127.0.0.1:1081\",\"paused\":false},"
	    "{\"address\":\"127.0.0.1:1082\",\"paused\":true}],\"flows\":5,\"max_flows\":77,");
	has(json, "\"ended\":{\"done\":201,\"client-lost\":0,");
	has(json, "\"client-limit\":3,");
	assert_string_equal(json + strlen(json) - 3, "}}\n");
	free(json);
	w.status.draining = true;
	json = render(&w, status_json);
	has(json, "\"draining\":true,\"listeners\":[],");
	free(json);
}

static void test_text(void **state)
{
	struct world w;
	char *text;

	(void)state;
	world_init(&w);
	text = render(&w, status_text);
	has(text, ", up 2 d 03:04:05\n");
	has(text, "\nlisteners      127.0.0.1:1081\n"
		  "               127.0.0.1:1082 (paused)\n"
		  "flows          5 of 77\n"
		  "workers        2\n");
	has(text, "\n          31            32  refuse    no \"ads\"\n"
		  "          33                proxy     (no rule)\n");
	has(text, "\ndone                         201\nclient-limit                   3\n");
	assert_null(strstr(text, "none"));
	free(text);
	w.status.draining = true;
	w.status.uptime_ms = 0;
	for (unsigned i = 0; i < 2; i++)
		memset(w.engines[i].ended, 0, sizeof(w.engines[i].ended));
	text = render(&w, status_text);
	has(text, ", up 00:00:00, draining\n");
	assert_null(strstr(text, "listeners"));
	has(text, "\nnone\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
