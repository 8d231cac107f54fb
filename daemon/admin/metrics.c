/* SPDX-License-Identifier: MIT */
#include "daemon/admin/metrics.h"

#include <string.h>

#include "daemon/admin/exposition.h"
#include "daemon/admin/udp_status.h"
#include "daemon/core/shared.h"

/* What the rows are written from. */
struct metrics {
	const struct status *st;
	struct exposition x;
	struct counts counts; /* of all workers */
};

static const char *const direction_words[COUNTS_DIRECTIONS] = {"up", "down"};

static uint64_t count(const atomic_uint_fast64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

static uint64_t size(const atomic_size_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

static void put(struct metrics *m, uint64_t value)
{
	exposition_number(&m->x, NO_LABELS, value);
}

/* One sample for each word of a label. */
static void put_words(struct metrics *m, const char *label, const char *const *words, size_t n,
		      const uint64_t *values)
{
	for (size_t i = 0; i < n; i++)
		exposition_number(&m->x, LABELS({label, words[i]}), values[i]);
}

static void put_histogram(struct metrics *m, const struct histogram_shape *shape,
			  const struct histogram *h)
{
	exposition_histogram(&m->x, NO_LABELS, shape, h);
}

static void put_histograms(struct metrics *m, const char *const *results, size_t n,
			   const struct histogram_shape *shape, const struct histogram *h)
{
	for (size_t i = 0; i < n; i++)
		exposition_histogram(&m->x, LABELS({"result", results[i]}), shape, &h[i]);
}

/* 1 for the word that holds, 0 for the others. */
static void put_state(struct metrics *m, const char *label, const char *of, const char *state,
		      const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		exposition_number(&m->x, LABELS({label, of}, {"state", words[i]}),
				  strcmp(state, words[i]) == 0);
}

/* --- both daemons --- */

static void metrics_build_info(struct metrics *m)
{
	exposition_number(&m->x, LABELS({"version", TRANSOCKS_VERSION}), 1);
}

static void metrics_start_time_seconds(struct metrics *m)
{
	put(m, (uint64_t)m->st->started_s);
}

static void metrics_reload_failed(struct metrics *m)
{
	put(m, m->st->reload_error[0] != '\0');
}

static void metrics_flows(struct metrics *m)
{
	put(m, size(&m->st->budget->live));
}

static void metrics_max_flows(struct metrics *m)
{
	put(m, size(&m->st->budget->max));
}

static void metrics_accept_paused(struct metrics *m)
{
	bool paused = false;

	for (size_t i = 0; i < m->st->n_engines; i++) {
		const struct engine *e = &m->st->engines[i];

		for (size_t k = 0; k < e->n_listeners; k++)
			paused |= SHARED_GET(e->listeners[k].paused);
	}
	put(m, paused);
}

static void metrics_accept_pauses_total(struct metrics *m)
{
	put(m, m->counts.pauses);
}

static void metrics_flows_ended_total(struct metrics *m)
{
	for (size_t why = 0; why < WHY_COUNT; why++) {
		uint64_t n = 0;

		for (size_t i = 0; i < m->st->n_engines; i++)
			n += SHARED_GET(m->st->engines[i].ended[why]);
		exposition_number(&m->x, LABELS({"end", why_rows[why].word}), n);
	}
}

static void metrics_bytes_total(struct metrics *m)
{
	for (size_t way = 0; way < COUNTS_DIRECTIONS; way++)
		exposition_number(&m->x, LABELS({"direction", direction_words[way]}),
				  m->counts.ways[way].bytes);
}

static void metrics_setup_seconds(struct metrics *m)
{
	put_histogram(m, &histogram_waits, &m->counts.setup_ms);
}

static void metrics_dial_seconds(struct metrics *m)
{
	put_histograms(m, counts_dial_words, COUNTS_DIALS, &histogram_waits, m->counts.dial_ms);
}

static void metrics_dns_queries_total(struct metrics *m)
{
	put_words(m, "from", resolve_from_words, RESOLVE_FROMS, m->counts.resolve.queries);
}

static void metrics_dns_seconds(struct metrics *m)
{
	put_histograms(m, resolve_result_words, RESOLVE_RESULTS, &histogram_waits,
		       m->counts.resolve.asked_ms);
}

static void metrics_worker_status(struct metrics *m)
{
	char worker[16];

	for (unsigned i = 0; i < m->st->n_engines; i++) {
		snprintf(worker, sizeof(worker), "%u", i);
		for (size_t k = 0; k < n_status_rows; k++)
			exposition_number(
				&m->x, LABELS({"worker", worker}, {"number", status_rows[k].name}),
				status_rows[k].get(&m->st->engines[i]));
	}
}

static void metrics_proxy_inflight_requests(struct metrics *m)
{
	put(m, m->counts.relayed);
}

static void metrics_proxy_elapsed_seconds(struct metrics *m)
{
	static const char *const results[] = {"success", "error"};

	put_histograms(m, results, ARRAY_LEN(results), &histogram_lasts, m->counts.lasts_ms);
}

static void metrics_proxy_tx_bytes(struct metrics *m)
{
	put_histogram(m, &histogram_bytes, &m->counts.ways[COUNTS_UP].flow_bytes);
}

static void metrics_proxy_rx_bytes(struct metrics *m)
{
	put_histogram(m, &histogram_bytes, &m->counts.ways[COUNTS_DOWN].flow_bytes);
}

static void metrics_proxy_tx_seconds(struct metrics *m)
{
	put_histogram(m, &histogram_lasts, &m->counts.ways[COUNTS_UP].flow_lasts_ms);
}

static void metrics_proxy_rx_seconds(struct metrics *m)
{
	put_histogram(m, &histogram_lasts, &m->counts.ways[COUNTS_DOWN].flow_lasts_ms);
}

static void metrics_proxy_tx_errors_total(struct metrics *m)
{
	put(m, m->counts.ways[COUNTS_UP].errors);
}

static void metrics_proxy_rx_errors_total(struct metrics *m)
{
	put(m, m->counts.ways[COUNTS_DOWN].errors);
}

/* --- usocksd --- */

static void metrics_connections_total(struct metrics *m)
{
	for (size_t v = 0; v < COUNTS_VERSIONS; v++)
		for (size_t i = 0; i < COUNTS_STATUSES; i++)
			exposition_number(&m->x,
					  LABELS({"version", counts_version_words[v]},
						 {"status", counts_status_words[i]}),
					  m->counts.connections[v][i]);
}

static void metrics_socks5_auth_negotiated_total(struct metrics *m)
{
	static const char *const types[] = {"no_auth", "basic"};
	static const char *const results[] = {"failed", "ok"};

	for (size_t by_password = 0; by_password < 2; by_password++)
		for (size_t agreed = 0; agreed < 2; agreed++)
			exposition_number(
				&m->x,
				LABELS({"type", types[by_password]}, {"result", results[agreed]}),
				m->counts.auth[by_password][agreed]);
}

static void metrics_socks5_address_read_total(struct metrics *m)
{
	static const char *const types[SOCKS5_ADDRESSES] = {
		[SOCKS5_ADDRESS_UNREAD] = "unknown",
		[SOCKS5_ADDRESS_IPV4] = "IPv4",
		[SOCKS5_ADDRESS_IPV6] = "IPv6",
		[SOCKS5_ADDRESS_NAME] = "Domain_name",
	};

	for (size_t i = 0; i < SOCKS5_ADDRESSES; i++)
		exposition_number(&m->x,
				  LABELS({"type", types[i]},
					 {"result", i == SOCKS5_ADDRESS_UNREAD ? "failed" : "ok"}),
				  m->counts.addresses[i]);
}

static void metrics_acl_refused_total(struct metrics *m)
{
	for (size_t v = ACL_ALLOWED + 1; v < ACL_VERDICTS; v++)
		exposition_number(&m->x, LABELS({"rule", acl_word((enum acl_verdict)v)}),
				  m->counts.acl[v]);
}

static void metrics_udp_associations(struct metrics *m)
{
	put(m, size(&m->st->budget->udp_live));
}

static void metrics_udp_dropped_total(struct metrics *m)
{
	for (unsigned why = 0; why < UDP_DROP_COUNT; why++)
		exposition_number(&m->x, LABELS({"reason", udp_drop_words[why]}),
				  udp_status_dropped(m->st, why));
}

static void metrics_requests_total(struct metrics *m)
{
	_Static_assert(SOCKS5_UDP_ASSOCIATE - SOCKS5_CONNECT == INCOMING_UDP_ASSOCIATE,
		       "the commands are in the same order");
	for (size_t i = 0; incoming_command_words[i] != NULL; i++)
		exposition_number(&m->x, LABELS({"command", incoming_command_words[i]}),
				  m->counts.requests[SOCKS5_CONNECT + i]);
}

static void metrics_logins(struct metrics *m)
{
	const struct logins *ls = &m->st->budget->logins;

	exposition_number(&m->x, LABELS({"state", "waiting"}), SHARED_GET(ls->n_waiting));
	exposition_number(&m->x, LABELS({"state", "running"}), SHARED_GET(ls->n_running));
}

static void metrics_logins_checked_total(struct metrics *m)
{
	put(m, SHARED_GET(m->st->budget->logins.n_checked));
}

static void metrics_logins_refused_total(struct metrics *m)
{
	put(m, SHARED_GET(m->st->budget->logins.n_refused));
}

/* Calls `fn` for each own address. */
static void each_egress(struct metrics *m,
			void (*fn)(struct metrics *m, const struct egress_addr *a))
{
	const struct egress *e = m->st->plan->egress;

	for (size_t i = 0; e != NULL && i < e->n; i++)
		fn(m, e->items[i]);
}

static void put_egress(struct metrics *m, const struct egress_addr *a, uint64_t value)
{
	exposition_number(&m->x, LABELS({"address", a->text}), value);
}

static void put_egress_state(struct metrics *m, const struct egress_addr *a)
{
	static const char *const words[] = {"ok", "not-local", "listed"};

	put_state(m, "address", a->text, egress_state_word(a), words, ARRAY_LEN(words));
}

static void put_egress_listed(struct metrics *m, const struct egress_addr *a)
{
	put_egress(m, a, atomic_load_explicit(&a->listed, memory_order_relaxed));
}

static void put_egress_flows(struct metrics *m, const struct egress_addr *a)
{
	put_egress(m, a, size(&a->flows));
}

static void put_egress_connects(struct metrics *m, const struct egress_addr *a)
{
	put_egress(m, a, count(&a->connects));
}

static void put_egress_failed(struct metrics *m, const struct egress_addr *a)
{
	put_egress(m, a, count(&a->failed));
}

static void put_egress_failed_binds(struct metrics *m, const struct egress_addr *a)
{
	put_egress(m, a, count(&a->failed_binds));
}

static void put_egress_bytes(struct metrics *m, const struct egress_addr *a)
{
	const uint64_t bytes[] = {count(&a->bytes_up), count(&a->bytes_down)};

	for (size_t way = 0; way < COUNTS_DIRECTIONS; way++)
		exposition_number(&m->x,
				  LABELS({"address", a->text}, {"direction", direction_words[way]}),
				  bytes[way]);
}

static void metrics_egress_state(struct metrics *m)
{
	each_egress(m, put_egress_state);
}

static void metrics_egress_listed(struct metrics *m)
{
	each_egress(m, put_egress_listed);
}

static void metrics_egress_flows(struct metrics *m)
{
	each_egress(m, put_egress_flows);
}

static void metrics_egress_connects_total(struct metrics *m)
{
	each_egress(m, put_egress_connects);
}

static void metrics_egress_failed_total(struct metrics *m)
{
	each_egress(m, put_egress_failed);
}

static void metrics_egress_failed_binds_total(struct metrics *m)
{
	each_egress(m, put_egress_failed_binds);
}

static void metrics_egress_bytes_total(struct metrics *m)
{
	each_egress(m, put_egress_bytes);
}

/* --- transocksd --- */

static void put_rules(struct metrics *m, bool observed)
{
	const struct flow_rules *rules = &m->st->conf->rules;

	for (size_t i = 0; i < rules->n; i++) {
		const struct rule_count *n = &m->st->plan->rules[i];

		exposition_number(&m->x,
				  LABELS({"rule", rules->rules[i].name},
					 {"action", rule_action_words[rules->rules[i].action]}),
				  count(observed ? &n->observed : &n->decided));
	}
}

static void metrics_rule_decided_total(struct metrics *m)
{
	put_rules(m, false);
}

static void metrics_rule_observed_total(struct metrics *m)
{
	put_rules(m, true);
}

static void metrics_rule_none_total(struct metrics *m)
{
	put(m, count(&m->st->plan->rules_default));
}

static void each_upstream(struct metrics *m,
			  void (*fn)(struct metrics *m, const struct upstream *up))
{
	const struct upstreams *u = m->st->plan->upstreams;

	for (size_t i = 0; i < u->n; i++)
		fn(m, &u->items[i]);
}

static void put_upstream(struct metrics *m, const struct upstream *up, uint64_t value)
{
	exposition_number(&m->x, LABELS({"upstream", up->conf->name}), value);
}

static void put_upstream_state(struct metrics *m, const struct upstream *up)
{
	static const char *const words[] = {"up", "ejected", "trying", "returning"};

	put_state(m, "upstream", up->conf->name, upstream_state_word(up, m->st->now_ms), words,
		  ARRAY_LEN(words));
}

static void put_upstream_share(struct metrics *m, const struct upstream *up)
{
	_Static_assert(HEALTH_FULL == 1000, "a share is in thousandths");
	exposition_thousandths(&m->x, LABELS({"upstream", up->conf->name}),
			       health_share(&up->run->health, m->st->now_ms));
}

static void put_upstream_flows(struct metrics *m, const struct upstream *up)
{
	put_upstream(m, up, size(&up->run->flows));
}

static void put_upstream_warm(struct metrics *m, const struct upstream *up)
{
	put_upstream(m, up, size(&up->run->warm));
}

static void put_upstream_connects(struct metrics *m, const struct upstream *up)
{
	put_upstream(m, up, count(&up->run->connects));
}

static void put_upstream_failures(struct metrics *m, const struct upstream *up)
{
	for (size_t i = 0; i < UPSTREAM_FAILED_COUNT; i++)
		exposition_number(
			&m->x,
			LABELS({"upstream", up->conf->name}, {"phase", upstream_failure_words[i]}),
			count(&up->run->failures[i]));
}

static void put_upstream_replies(struct metrics *m, const struct upstream *up)
{
	for (size_t i = 0; i < UPSTREAM_REPLY_COUNT; i++)
		exposition_number(
			&m->x,
			LABELS({"upstream", up->conf->name}, {"reply", upstream_reply_words[i]}),
			count(&up->run->replies[i]));
}

static void put_upstream_ports(struct metrics *m, const struct upstream *up)
{
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < up->n_sources; i++) {
		const struct upstream_source *source = up->sources[i];

		text[0] = '\0'; /* the kernel chooses */
		if (source->addr.family != AF_UNSPEC)
			addr_format_ip(&source->addr, text, sizeof(text));
		exposition_number(&m->x, LABELS({"upstream", up->conf->name}, {"source", text}),
				  size(&source->ports));
	}
}

static void metrics_upstream_state(struct metrics *m)
{
	each_upstream(m, put_upstream_state);
}

static void metrics_upstream_share(struct metrics *m)
{
	each_upstream(m, put_upstream_share);
}

static void metrics_upstream_flows(struct metrics *m)
{
	each_upstream(m, put_upstream_flows);
}

static void metrics_upstream_warm(struct metrics *m)
{
	each_upstream(m, put_upstream_warm);
}

static void metrics_upstream_connects_total(struct metrics *m)
{
	each_upstream(m, put_upstream_connects);
}

static void metrics_upstream_failures_total(struct metrics *m)
{
	each_upstream(m, put_upstream_failures);
}

static void metrics_upstream_replies_total(struct metrics *m)
{
	each_upstream(m, put_upstream_replies);
}

static void metrics_upstream_ports(struct metrics *m)
{
	each_upstream(m, put_upstream_ports);
}

static void metrics_upstream_max_ports(struct metrics *m)
{
	put(m, m->st->plan->upstreams->n_ports);
}

/* --- all of it --- */

enum { TRANSOCKSD = 1, USOCKSD = 2, BOTH = 3 };

static const struct {
	unsigned daemons;
	const char *name, *type, *help;
	void (*write)(struct metrics *m);
} rows[] = {
#define GAUGE                                          "gauge"
#define COUNTER                                        "counter"
#define HISTOGRAM                                      "histogram"
#define METRICS_ROW(daemons, name, type, labels, help) {daemons, #name, type, help, metrics_##name},
	METRICS_TABLE(METRICS_ROW)
#undef METRICS_ROW
};

void metrics_text(const struct status *st, struct strbuf *out)
{
	unsigned daemon = st->conf->acl.enforced ? USOCKSD : TRANSOCKSD;
	struct metrics m = {
		.st = st,
		.x = {.out = out, .prefix = daemon == USOCKSD ? "usocksd_" : "transocksd_"}};

	for (size_t i = 0; i < st->n_engines; i++)
		counts_collect(&m.counts, &st->engines[i].counts);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!(rows[i].daemons & daemon))
			continue;
		exposition_metric(&m.x, rows[i].name, rows[i].type, rows[i].help);
		rows[i].write(&m);
	}
}
