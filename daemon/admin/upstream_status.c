/* SPDX-License-Identifier: MIT */
#include "daemon/admin/upstream_status.h"

#include <inttypes.h>
#include <string.h>

/* A column of text is as wide as what is in it, up to this. */
#define COLUMN_MAX 40

#define UPSTREAM_STATUS_GET(name, help, from)                                      \
	static uint64_t upstream_status_get_##name(const struct upstream_run *run) \
	{                                                                          \
		return atomic_load_explicit(&from, memory_order_relaxed);          \
	}
UPSTREAM_STATUS_TABLE(UPSTREAM_STATUS_GET)
#undef UPSTREAM_STATUS_GET

const struct upstream_status_row upstream_status_rows[] = {
#define UPSTREAM_STATUS_ROW(name, help, from) {#name, help, upstream_status_get_##name},
	UPSTREAM_STATUS_TABLE(UPSTREAM_STATUS_ROW)
#undef UPSTREAM_STATUS_ROW
};
const size_t n_upstream_status_rows = ARRAY_LEN(upstream_status_rows);

static uint64_t ports_of(const struct upstream *up, size_t source)
{
	return atomic_load_explicit(&up->sources[source]->ports, memory_order_relaxed);
}

/* "" where the kernel chooses. */
static const char *source_format(const struct upstream *up, size_t source, char *out, size_t cap)
{
	const struct addr *a = &up->sources[source]->addr;

	if (a->family == AF_UNSPEC) {
		out[0] = '\0';
		return out;
	}
	return addr_format_ip(a, out, cap);
}

static void upstream_json_sources(const struct upstream *up, struct json *j)
{
	char addr[ADDR_TEXT_MAX];

	json_array_begin(j, "sources");
	for (size_t i = 0; i < up->n_sources; i++) {
		json_object_begin(j, NULL);
		json_string(j, "address", source_format(up, i, addr, sizeof(addr)));
		json_uint(j, "ports", ports_of(up, i));
		json_uint(j, "max_ports", up->all->n_ports);
		json_object_end(j);
	}
	json_array_end(j);
}

static void upstream_json(const struct upstream *up, uint64_t now_ms, struct json *j)
{
	const struct health *h = &up->run->health;
	uint64_t until = atomic_load_explicit(&h->until_ms, memory_order_relaxed);
	unsigned share = health_share(h, now_ms);
	char text[UPSTREAM_FAILURE_TEXT_MAX];

	json_object_begin(j, NULL);
	json_string(j, "name", up->conf->name);
	json_string(j, "url", up->url);
	json_string(j, "group", up->conf->group);
	json_string(j, "state", upstream_state_word(up, now_ms));
	json_uint(j, "share", share * 100 / HEALTH_FULL);
	json_uint(j, "ejected_ms", share == 0 && until > now_ms ? until - now_ms : 0);
	for (size_t i = 0; i < n_upstream_status_rows; i++)
		json_uint(j, upstream_status_rows[i].name, upstream_status_rows[i].get(up->run));
	json_string(j, "last_failure", upstream_failure_format(up, text, sizeof(text)));
	upstream_json_sources(up, j);
	json_object_end(j);
}

void upstream_status_json(const struct upstreams *u, uint64_t now_ms, struct json *j)
{
	json_array_begin(j, "upstreams");
	for (size_t i = 0; i < u->n; i++)
		upstream_json(&u->items[i], now_ms, j);
	json_array_end(j);
}

static int wider(int width, const char *text)
{
	int len = (int)strlen(text);

	len = len < COLUMN_MAX ? len : COLUMN_MAX;
	return len > width ? len : width;
}

/* "; failures: 3 connect, 1 greeting": what is not zero, nothing where all of it is */
static void upstream_text_counts(const char *what, const atomic_uint_fast64_t *counts,
				 const char *const *words, size_t n_words, struct strbuf *out)
{
	const char *before = "; ";

	for (size_t i = 0; i < n_words; i++) {
		uint64_t n = atomic_load_explicit(&counts[i], memory_order_relaxed);

		if (n == 0)
			continue;
		strbuf_printf(out, "%s%s%" PRIu64 " %s", before, what, n, words[i]);
		before = ", ";
		what = "";
	}
}

/* "; failures: 3 connect, 1 greeting, the last one connect: Connection refused" */
static void upstream_text_failures(const struct upstream *up, struct strbuf *out)
{
	char text[UPSTREAM_FAILURE_TEXT_MAX];

	upstream_text_counts("failures: ", up->run->failures, upstream_failure_words,
			     UPSTREAM_FAILED_COUNT, out);
	if (upstream_failure_format(up, text, sizeof(text))[0] != '\0')
		strbuf_printf(out, ", the last one %s", text);
}

static void upstream_text_sources(const struct upstream *up, int width, struct strbuf *out)
{
	char addr[ADDR_TEXT_MAX];

	for (size_t i = 0; i < up->n_sources; i++) {
		source_format(up, i, addr, sizeof(addr));
		strbuf_printf(out, "%*s  %" PRIu64 " of %zu ports%s%s in use\n", width, "",
			      ports_of(up, i), up->all->n_ports, addr[0] != '\0' ? " of " : "",
			      addr);
	}
}

void upstream_status_text(const struct upstreams *u, uint64_t now_ms, struct strbuf *out)
{
	int name = (int)strlen("upstream"), group = (int)strlen("group"),
	    state = (int)strlen("state");
	char text[UPSTREAM_FAILURE_TEXT_MAX];

	if (u->n == 0)
		return;
	for (size_t i = 0; i < u->n; i++) {
		const struct upstream *up = &u->items[i];

		name = wider(name, up->conf->name);
		group = wider(group, up->conf->group);
		state = wider(state, upstream_state_format(up, now_ms, text, sizeof(text)));
	}
	strbuf_printf(out, "\n%-*s  %-*s  %-*s  %8s  %8s  %10s\n", name, "upstream", group, "group",
		      state, "state", "flows", "warm", "connects");
	for (size_t i = 0; i < u->n; i++) {
		const struct upstream *up = &u->items[i];
		const struct upstream_run *run = up->run;

		strbuf_printf(out, "%-*s  %-*s  %-*s", name, up->conf->name, group, up->conf->group,
			      state, upstream_state_format(up, now_ms, text, sizeof(text)));
		strbuf_printf(out, "  %8zu  %8zu  %10" PRIuFAST64 "\n", atomic_load(&run->flows),
			      atomic_load(&run->warm), atomic_load(&run->connects));
		strbuf_printf(out, "%*s  %s", name, "", up->url);
		upstream_text_counts("replies: ", run->replies, upstream_reply_words,
				     UPSTREAM_REPLY_COUNT, out);
		upstream_text_failures(up, out);
		strbuf_putc(out, '\n');
		upstream_text_sources(up, name, out);
	}
}
