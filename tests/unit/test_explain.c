/* SPDX-License-Identifier: MIT */
/*
 * What --explain says of the order of tries is what the daemon does; its words are in tests/e2e.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "daemon/upstream/upstreams.h"
#include "policy/explain.h"
#include "tests/unit/temp_files.h"

#define MEMBERS 40

static char dir[TEMP_DIR_MAX];

static int setup(void **state)
{
	(void)state;
	return temp_dir_make(dir, "test_explain");
}

static int teardown(void **state)
{
	(void)state;
	return temp_dir_remove(dir);
}

static struct conf *load_text(const char *text)
{
	struct conf *c = NULL;
	char path[128];
	struct diag d;

	snprintf(path, sizeof(path), "%s/t.toml", dir);
	temp_write(path, text, strlen(text));
	if (conf_load(&conf_transocks, path, &c, &d) != 0)
		fail_msg("%s:%d: %s", d.file, d.line, d.text);
	return c;
}

static struct conf *load(const char *choose)
{
	struct strbuf text;
	struct conf *c;

	strbuf_init_heap(&text);
	for (unsigned i = 0; i < MEMBERS; i++)
		strbuf_printf(&text,
			      "[[upstream]]\nname = \"u%u\"\nurl = \"socks5://10.1.1.%u:1080\"\n"
			      "weight = %u\n",
			      i, i + 1, i % 5 + 1);
	strbuf_printf(&text, "[group.default]\nchoose = \"%s\"\n", choose);
	c = load_text(text.data);
	strbuf_free(&text);
	return c;
}

/* The names of the upstreams, in their order. */
static void order_of_text(const char *json, char out[256])
{
	static const char key[] = "{\"name\":\"";

	out[0] = '\0';
	for (const char *at = json; (at = strstr(at, key)) != NULL;) {
		at += strlen(key);
		snprintf(out + strlen(out), 256 - strlen(out), "%.*s ", (int)strcspn(at, "\""), at);
	}
}

static void order_of_daemon(struct conf *c, const struct addr *client, char out[256])
{
	uint16_t tries[UPSTREAM_TRIES_MAX];
	struct upstreams *u = NULL; /* a new one: nobody has had a turn */
	struct diag d;
	size_t n;

	assert_int_equal(upstreams_new(c, NULL, &u, &d), 0);
	n = upstreams_order(u, 0, client, 1000000, tries);
	assert_int_equal(n, UPSTREAM_TRIES_MAX);
	out[0] = '\0';
	for (size_t i = 0; i < n; i++)
		snprintf(out + strlen(out), 256 - strlen(out), "%s ", c->upstreams[tries[i]].name);
	upstreams_unref(u);
}

static void test_order(void **state)
{
	(void)state;
	for (size_t k = 0; group_choose_words[k] != NULL; k++) {
		struct conf *c = load(group_choose_words[k]);

		for (unsigned i = 0; i < 50; i++) {
			char question[128], told[256], done[256];
			struct explain_flow flow;
			struct strbuf out;
			struct diag d;

			snprintf(question, sizeof(question),
				 i % 2 == 0 ? "client=10.0.0.%u dest=192.0.2.1:443"
					    : "client=fd91::%u dest=192.0.2.1:443",
				 i);
			assert_int_equal(explain_parse(&flow, question, &d), 0);
			strbuf_init_heap(&out);
			explain_json(c, &flow, UPSTREAM_TRIES_MAX, &out);
			order_of_text(out.data, told);
			order_of_daemon(c, &flow.client, done);
			assert_string_equal(told, done);
			strbuf_free(&out);
		}
		conf_unref(c);
	}
}

/* A flow that has gone direct is not tried again otherwise. */
static void test_nothing_behind_direct(void **state)
{
	struct conf *c = load_text("[[upstream]]\nname = \"a\"\nurl = \"socks5://10.1.1.1\"\n"
				   "[[upstream]]\nname = \"out\"\nurl = \"direct://\"\n"
				   "[[upstream]]\nname = \"b\"\nurl = \"socks5://10.1.1.2\"\n"
				   "[group.default]\nchoose = \"failover\"\n");
	struct explain_flow flow;
	struct strbuf out;
	char told[256];
	struct diag d;

	(void)state;
	assert_int_equal(explain_parse(&flow, "client=10.0.0.5 dest=192.0.2.1:22", &d), 0);
	strbuf_init_heap(&out);
	explain_json(c, &flow, UPSTREAM_TRIES_MAX, &out);
	order_of_text(out.data, told);
	assert_string_equal(told, "a out ");
	strbuf_free(&out);
	conf_unref(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_nothing_behind_direct),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
