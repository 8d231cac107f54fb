/* SPDX-License-Identifier: MIT */
#include "daemon/admin/status.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "daemon/admin/egress_status.h"
#include "daemon/admin/login_status.h"
#include "daemon/admin/udp_status.h"
#include "daemon/admin/upstream_status.h"
#include "daemon/core/shared.h"
#include "policy/json.h"

#define STATUS_GET(name, help, from)                              \
	static uint64_t status_get_##name(const struct engine *e) \
	{                                                         \
		return SHARED_GET(from);                          \
	}
STATUS_TABLE(STATUS_GET)
#undef STATUS_GET

const struct status_row status_rows[] = {
#define STATUS_ROW(name, help, from) {#name, help, status_get_##name},
	STATUS_TABLE(STATUS_ROW)
#undef STATUS_ROW
};
const size_t n_status_rows = ARRAY_LEN(status_rows);

static size_t status_flows(const struct status *st)
{
	return atomic_load_explicit(&st->budget->live, memory_order_relaxed);
}

static size_t status_max_flows(const struct status *st)
{
	return atomic_load_explicit(&st->budget->max, memory_order_relaxed);
}

static uint64_t status_ended(const struct status *st, enum why why)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < st->n_engines; i++)
		n += SHARED_GET(st->engines[i].ended[why]);
	return n;
}

static size_t status_n_listeners(const struct status *st)
{
	return st->draining ? 0 : st->engines[0].n_listeners;
}

static const struct addr *status_listener(const struct status *st, size_t index)
{
	return &st->engines[0].listeners[index].addr;
}

/* In one worker at least. */
static bool status_is_paused(const struct status *st, size_t index)
{
	for (unsigned i = 0; i < st->n_engines; i++) {
		if (SHARED_GET(st->engines[i].listeners[index].paused))
			return true;
	}
	return false;
}

static void status_json_workers(const struct status *st, struct json *j)
{
	json_array_begin(j, "workers");
	for (unsigned i = 0; i < st->n_engines; i++) {
		json_object_begin(j, NULL);
		for (size_t k = 0; k < n_status_rows; k++)
			json_uint(j, status_rows[k].name, status_rows[k].get(&st->engines[i]));
		json_object_end(j);
	}
	json_array_end(j);
}

static void status_json_listeners(const struct status *st, struct json *j)
{
	char addr[ADDR_TEXT_MAX];

	json_array_begin(j, "listeners");
	for (size_t i = 0; i < status_n_listeners(st); i++) {
		json_object_begin(j, NULL);
		json_string(j, "address", addr_format(status_listener(st, i), addr, sizeof(addr)));
		json_bool(j, "paused", status_is_paused(st, i));
		json_object_end(j);
	}
	json_array_end(j);
}

static uint64_t status_count(const atomic_uint_fast64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

/* Which rule decided on how many flows, since this configuration was loaded. */
static void status_json_rules(const struct status *st, struct json *j)
{
	const struct flow_rules *rules = &st->conf->rules;

	json_array_begin(j, "rules");
	for (size_t i = 0; i < rules->n; i++) {
		const struct flow_rule *rule = &rules->rules[i];

		json_object_begin(j, NULL);
		json_string(j, "name", rule->name);
		json_string(j, "file", rule->place.file);
		json_int(j, "line", rule->place.line);
		json_string(j, "action", rule_action_words[rule->action]);
		json_bool(j, "observe", rule->observe);
		json_uint(j, "decided", status_count(&st->plan->rules[i].decided));
		json_uint(j, "observed", status_count(&st->plan->rules[i].observed));
		json_object_end(j);
	}
	json_array_end(j);
	json_uint(j, "no_rule", status_count(&st->plan->rules_default));
}

static void status_json_files(const struct status *st, struct json *j)
{
	json_string(j, "configuration", st->file);
	json_array_begin(j, "files");
	for (size_t i = 0; i < st->conf->files.n; i++)
		json_string(j, NULL, st->conf->files.strings[i]);
	json_array_end(j);
	json_string(j, "reload_error", st->reload_error);
}

void status_json(const struct status *st, struct strbuf *out)
{
	struct json j;

	json_init(&j, out);
	json_object_begin(&j, NULL);
	json_string(&j, "program", st->conf->program->name);
	json_string(&j, "version", TRANSOCKS_VERSION);
	json_int(&j, "pid", getpid());
	json_uint(&j, "uptime_s", st->uptime_ms / 1000);
	status_json_files(st, &j);
	json_bool(&j, "draining", st->draining);
	status_json_listeners(st, &j);
	json_uint(&j, "flows", status_flows(st));
	json_uint(&j, "max_flows", status_max_flows(st));
	status_json_workers(st, &j);
	if (st->conf->n_upstreams > 0) {
		upstream_status_json(st->plan->upstreams, st->now_ms, &j);
		status_json_rules(st, &j);
	}
	if (st->plan->egress != NULL) {
		egress_status_json(st->plan->egress, &j);
		udp_status_json(st, &j);
	}
	if (st->conf->auth.users != NULL)
		login_status_json(&st->budget->logins, &j);
	json_object_begin(&j, "ended");
	for (size_t why = 0; why < WHY_COUNT; why++)
		json_uint(&j, why_rows[why].word, status_ended(st, (enum why)why));
	json_object_end(&j);
	json_object_end(&j);
	strbuf_putc(out, '\n');
}

static void status_text_files(const struct status *st, struct strbuf *out)
{
	strbuf_printf(out, "configuration  %s\n", st->file);
	for (size_t i = 0; i < st->conf->files.n; i++) {
		if (strcmp(st->conf->files.strings[i], st->file) != 0)
			strbuf_printf(out, "               %s\n", st->conf->files.strings[i]);
	}
	if (st->reload_error[0] != '\0')
		strbuf_printf(out,
			      "reload failed  %s\n"
			      "               what was read before that is in force\n",
			      st->reload_error);
}

static void status_text_head(const struct status *st, struct strbuf *out)
{
	char addr[ADDR_TEXT_MAX];
	uint64_t s = st->uptime_ms / 1000;

	strbuf_printf(out, "%s %s, process %d, up ", st->conf->program->name, TRANSOCKS_VERSION,
		      (int)getpid());
	if (s >= 86400)
		strbuf_printf(out, "%" PRIu64 " d ", s / 86400);
	strbuf_printf(out, "%02u:%02u:%02u%s\n", (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60),
		      (unsigned)(s % 60), st->draining ? ", draining" : "");
	status_text_files(st, out);
	for (size_t i = 0; i < status_n_listeners(st); i++)
		strbuf_printf(out, "%-13s  %s%s\n", i == 0 ? "listeners" : "",
			      addr_format(status_listener(st, i), addr, sizeof(addr)),
			      status_is_paused(st, i) ? " (paused)" : "");
	strbuf_printf(out, "flows          %zu of %zu\n", status_flows(st), status_max_flows(st));
	strbuf_printf(out, "workers        %u\n", st->n_engines);
}

static void status_text_workers(const struct status *st, struct strbuf *out)
{
	strbuf_puts(out, "\nworker");
	for (size_t k = 0; k < n_status_rows; k++)
		strbuf_printf(out, "  %8s", status_rows[k].name);
	for (unsigned i = 0; i < st->n_engines; i++) {
		strbuf_printf(out, "\n%6u", i);
		for (size_t k = 0; k < n_status_rows; k++) {
			int width = (int)strlen(status_rows[k].name);

			strbuf_printf(out, "  %*" PRIu64, width > 8 ? width : 8,
				      status_rows[k].get(&st->engines[i]));
		}
	}
	strbuf_putc(out, '\n');
}

static void status_text_rules(const struct status *st, struct strbuf *out)
{
	const struct flow_rules *rules = &st->conf->rules;

	if (rules->n == 0)
		return;
	strbuf_printf(out, "\n%12s  %12s  %-8s  %s\n", "decided", "observed", "action", "rule");
	for (size_t i = 0; i < rules->n; i++)
		strbuf_printf(out, "%12" PRIu64 "  %12" PRIu64 "  %-8s  %s\n",
			      status_count(&st->plan->rules[i].decided),
			      status_count(&st->plan->rules[i].observed),
			      rule_action_words[rules->rules[i].action], rules->rules[i].name);
	strbuf_printf(out, "%12" PRIu64 "  %12s  %-8s  (no rule)\n",
		      status_count(&st->plan->rules_default), "", "proxy");
}

void status_text(const struct status *st, struct strbuf *out)
{
	bool none = true;

	status_text_head(st, out);
	status_text_workers(st, out);
	upstream_status_text(st->plan->upstreams, st->now_ms, out);
	status_text_rules(st, out);
	if (st->plan->egress != NULL) {
		egress_status_text(st->plan->egress, out);
		udp_status_text(st, out);
	}
	if (st->conf->auth.users != NULL)
		login_status_text(&st->budget->logins, out);
	strbuf_printf(out, "\n%-18s  %12s\n", "ended", "flows");
	for (size_t why = 0; why < WHY_COUNT; why++) {
		uint64_t n = status_ended(st, (enum why)why);

		if (n > 0)
			strbuf_printf(out, "%-18s  %12" PRIu64 "\n", why_rows[why].word, n);
		none = none && n == 0;
	}
	if (none)
		strbuf_puts(out, "none\n");
}
