/* SPDX-License-Identifier: MIT */
#include "daemon/upstream/upstreams.h"

#include <errno.h>
#include <string.h>

#include "daemon/core/log.h"

#define PORT_RANGE_FILE "/proc/sys/net/ipv4/ip_local_port_range"
#define PORT_RANGE_MAX  64512 /* where the kernel does not say: everything above 1023 */
/* Percent of the ports: from here on they are said to be scarce, and from there on no longer. */
#define PORTS_SCARCE 80
#define PORTS_PLENTY 70
/* Steps of a slow return. Small numbers: some ways of choosing count weights out. */
#define RAMP_STEPS 10

const char *const upstream_failure_words[UPSTREAM_FAILED_COUNT] = {
	[UPSTREAM_FAILED_RESOLVE] = "resolve",
	[UPSTREAM_FAILED_CONNECT] = "connect",
	[UPSTREAM_FAILED_GREETING] = "greeting",
	[UPSTREAM_FAILED_PROBE] = "probe",
};

const char *const upstream_reply_words[UPSTREAM_REPLY_COUNT] = {
	[UPSTREAM_REPLY_DONE] = "done",     [UPSTREAM_REPLY_DEST] = "dest",
	[UPSTREAM_REPLY_POLICY] = "policy", [UPSTREAM_REPLY_UPSTREAM] = "upstream",
	[UPSTREAM_REPLY_NONE] = "none",
};

/* --- the table --- */

static void upstream_ports_unref(struct upstream_ports *ports)
{
	struct upstream_source *src, *next;

	if (ports == NULL || atomic_fetch_sub(&ports->refs, 1) > 1)
		return;
	for (src = ports->sources; src != NULL; src = next) {
		next = src->next;
		free(src);
	}
	free(ports);
}

static bool upstream_ports_are(const struct upstream_ports *ports, const struct proxy_url *url)
{
	if (ports->port != url->port || ports->addr.family != url->addr.family)
		return false;
	return url->addr.family == AF_UNSPEC ? strcasecmp(ports->host, url->host) == 0
					     : addr_equal_ip(&ports->addr, &url->addr);
}

/* Those of an upstream of `u` (may be NULL) at the address: a new reference, or NULL. */
static struct upstream_ports *upstream_ports_in(const struct upstreams *u,
						const struct proxy_url *url)
{
	for (size_t i = 0; u != NULL && i < u->n; i++) {
		const struct upstream_run *run = u->items[i].run;

		if (run != NULL && upstream_ports_are(run->ports, url)) {
			atomic_fetch_add(&run->ports->refs, 1);
			return run->ports;
		}
	}
	return NULL;
}

static struct upstream_ports *upstream_ports_new(const struct proxy_url *url)
{
	struct upstream_ports *ports = calloc(1, sizeof(*ports));

	if (ports == NULL)
		return NULL;
	atomic_init(&ports->refs, 1);
	ports->addr = url->addr;
	ports->port = url->port;
	snprintf(ports->host, sizeof(ports->host), "%s", url->host);
	return ports;
}

static void upstream_run_unref(struct upstream_run *run)
{
	if (run == NULL || atomic_fetch_sub(&run->refs, 1) > 1)
		return;
	upstream_ports_unref(run->ports);
	health_destroy(&run->health);
	pthread_mutex_destroy(&run->lock);
	free(run->name);
	free(run);
}

/* Takes the reference to `ports`, also where it fails. */
static struct upstream_run *upstream_run_new(const struct upstream_conf *conf,
					     struct upstream_ports *ports)
{
	struct upstream_run *run = calloc(1, sizeof(*run));
	char *name = strdup(conf->name);

	if (run == NULL || name == NULL || ports == NULL) {
		free(run);
		free(name);
		upstream_ports_unref(ports);
		return NULL;
	}
	run->name = name;
	run->ports = ports;
	atomic_init(&run->refs, 1);
	run->url = conf->url;
	run->identity = balance_identity(conf->name);
	health_init(&run->health);
	pthread_mutex_init(&run->lock, NULL);
	return run;
}

static bool upstream_run_is(const struct upstream_run *run, const struct upstream_conf *conf)
{
	const struct proxy_url *a = &run->url, *b = &conf->url;

	return strcmp(run->name, conf->name) == 0 && a->scheme == b->scheme && a->port == b->port &&
	       strcmp(a->host, b->host) == 0 && strcmp(a->user, b->user) == 0 &&
	       strcmp(a->password, b->password) == 0;
}

/* A new reference, or NULL. `u` is what it is for, as far as it is made. */
static struct upstream_run *upstream_run_of(const struct upstream_conf *conf,
					    const struct upstreams *u, struct upstreams *previous)
{
	struct upstream_ports *ports;

	for (size_t i = 0; previous != NULL && i < previous->n; i++) {
		struct upstream_run *run = previous->items[i].run;

		if (upstream_run_is(run, conf)) {
			atomic_fetch_add(&run->refs, 1);
			return run;
		}
	}
	ports = upstream_ports_in(u, &conf->url);
	if (ports == NULL)
		ports = upstream_ports_in(previous, &conf->url);
	return upstream_run_new(conf, ports != NULL ? ports : upstream_ports_new(&conf->url));
}

/* NULL: no memory. Only the main thread adds; others hold what they have found before. */
static struct upstream_source *upstream_ports_source(struct upstream_ports *ports,
						     const struct addr *addr)
{
	struct upstream_source *src;

	for (src = ports->sources; src != NULL; src = src->next)
		if (src->addr.family == addr->family && addr_equal_ip(&src->addr, addr))
			return src;
	src = calloc(1, sizeof(*src));
	if (src == NULL)
		return NULL;
	src->addr = *addr;
	src->next = ports->sources;
	ports->sources = src;
	return src;
}

static int upstream_init(struct upstream *up, struct upstreams *u, const struct upstream_conf *conf,
			 struct upstreams *previous)
{
	static const struct addr any = {.family = AF_UNSPEC};

	up->conf = conf;
	up->all = u;
	proxy_url_format(&conf->url, up->url, sizeof(up->url));
	up->run = upstream_run_of(conf, u, previous);
	up->n_sources = conf->source.n > 0 ? conf->source.n : 1;
	up->sources = calloc(up->n_sources, sizeof(struct upstream_source *));
	if (up->run == NULL || up->sources == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < up->n_sources; i++) {
		up->sources[i] = upstream_ports_source(
			up->run->ports, conf->source.n > 0 ? &conf->source.addrs[i] : &any);
		if (up->sources[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static size_t port_range(void)
{
	FILE *f = fopen(PORT_RANGE_FILE, "re");
	unsigned low, high;
	int n = 0;

	if (f != NULL) {
		n = fscanf(f, "%u %u", &low, &high);
		fclose(f);
	}
	return n == 2 && low <= high && high <= UINT16_MAX ? high - low + 1 : PORT_RANGE_MAX;
}

int upstreams_new(struct conf *conf, struct upstreams *previous, struct upstreams **out,
		  struct diag *d)
{
	struct upstreams *u = calloc(1, sizeof(*u));
	int rc = -ENOMEM;

	if (u == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	atomic_init(&u->refs, 1);
	u->conf = conf_ref(conf);
	u->n_ports = port_range();
	u->items = calloc(conf->n_upstreams + 1, sizeof(*u->items));
	u->groups = calloc(conf->n_groups + 1, sizeof(*u->groups));
	if (u->items != NULL && u->groups != NULL)
		rc = 0;
	for (size_t i = 0; i < conf->n_upstreams && rc == 0; i++) {
		u->n++;
		rc = upstream_init(&u->items[i], u, &conf->upstreams[i], previous);
	}
	if (rc < 0) {
		upstreams_unref(u);
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	}
	*out = u;
	return 0;
}

struct upstreams *upstreams_ref(struct upstreams *u)
{
	atomic_fetch_add(&u->refs, 1);
	return u;
}

void upstreams_unref(struct upstreams *u)
{
	if (u == NULL || atomic_fetch_sub(&u->refs, 1) > 1)
		return;
	for (size_t i = 0; i < u->n; i++) {
		upstream_run_unref(u->items[i].run);
		free(u->items[i].sources);
	}
	free(u->items);
	free(u->groups);
	conf_unref(u->conf);
	free(u);
}

/* --- changes of health, in the log --- */

static const struct group_conf *upstream_group(const struct upstream *up)
{
	return &up->all->conf->groups[up->conf->group_index];
}

bool upstreams_are_down(const struct upstreams *u, size_t group, uint64_t now_ms)
{
	const struct group_conf *g = &u->conf->groups[group];

	for (size_t i = 0; i < g->n_members; i++)
		if (health_share(&u->items[g->members[i]].run->health, now_ms) > 0)
			return false;
	return true;
}

static void upstream_log_group_found(const struct upstream *up)
{
	struct log_line line;

	if (!atomic_exchange(&up->all->groups[up->conf->group_index].down, false))
		return;
	if (log_begin(&line, LOG_LEVEL_INFO, "an upstream of the group works again")) {
		log_add(&line, "group", up->conf->group);
		log_add(&line, "upstream", up->conf->name);
		log_end(&line);
	}
}

static void upstream_log_group_lost(const struct upstream *up, uint64_t now_ms)
{
	const struct group_conf *g = upstream_group(up);
	bool direct = g->when_all_down == GROUP_ALL_DOWN_DIRECT;
	struct log_line line;

	/* Of a group of one that has been said. */
	if ((g->n_members < 2 && !direct) ||
	    !upstreams_are_down(up->all, up->conf->group_index, now_ms) ||
	    atomic_exchange(&up->all->groups[up->conf->group_index].down, true))
		return;
	if (log_begin(&line, LOG_LEVEL_ERROR,
		      direct ? "every upstream of the group is ejected, its flows go direct"
			     : "every upstream of the group is ejected, they are tried all the "
			       "same")) {
		log_add(&line, "group", g->name);
		log_end(&line);
	}
}

static void upstream_log(struct upstream *up, enum health_change change, uint64_t now_ms)
{
	static const struct {
		enum log_level level;
		const char *text;
	} rows[] = {
		[HEALTH_LOST] = {LOG_LEVEL_WARNING, "upstream ejected"},
		[HEALTH_STILL_LOST] = {LOG_LEVEL_DEBUG, "upstream stays ejected"},
		[HEALTH_FOUND] = {LOG_LEVEL_INFO, "upstream works again, returning slowly"},
		[HEALTH_WHOLE] = {LOG_LEVEL_INFO, "upstream has returned"},
	};
	uint64_t until = atomic_load_explicit(&up->run->health.until_ms, memory_order_relaxed);
	bool lost = change == HEALTH_LOST || change == HEALTH_STILL_LOST;
	char text[UPSTREAM_FAILURE_TEXT_MAX];
	struct log_line line;

	if (change == HEALTH_SAME)
		return;
	if (log_begin(&line, rows[change].level, rows[change].text)) {
		log_add(&line, "upstream", up->conf->name);
		log_add(&line, "group", up->conf->group);
		if (lost) {
			log_add(&line, "url", up->url);
			log_add(&line, "error", upstream_failure_format(up, text, sizeof(text)));
			log_add_elapsed(&line, "ejected_for", until > now_ms ? until - now_ms : 0);
		}
		log_end(&line);
	}
	if (change == HEALTH_LOST)
		upstream_log_group_lost(up, now_ms);
	else if (change == HEALTH_FOUND)
		upstream_log_group_found(up);
}

/* --- what attempts tell --- */

static void count(atomic_uint_fast64_t *n)
{
	atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

/* splitmix64's finisher over a counter: chance enough, without state that threads would share. */
static uint32_t mix(uint64_t n)
{
	n += UINT64_C(0x9e3779b97f4a7c15);
	n = (n ^ (n >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	n = (n ^ (n >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)(n >> 32);
}

bool upstream_is_to_blame(int err)
{
	return !sock_is_shortage(err) && err != EPERM && err != EACCES && err != EADDRNOTAVAIL &&
	       err != EADDRINUSE && err != EAFNOSUPPORT;
}

bool upstream_greets(const struct upstream *up)
{
	return up->conf->url.scheme == PROXY_SOCKS5;
}

static void upstream_worked(struct upstream *up, uint64_t began_ms, uint64_t now_ms)
{
	struct health *h = &up->run->health;

	upstream_log(up, health_worked(h, began_ms, now_ms), now_ms);
	upstream_log(up, health_look(h, now_ms), now_ms);
}

void upstream_connected(struct upstream *up)
{
	count(&up->run->connects);
}

void upstream_greeted(struct upstream *up, uint64_t began_ms, uint64_t now_ms)
{
	if (upstream_greets(up))
		upstream_worked(up, began_ms, now_ms);
}

void upstream_probed(struct upstream *up, bool connected, uint64_t began_ms, uint64_t now_ms)
{
	if (connected && health_share(&up->run->health, now_ms) == 0)
		upstream_unknown(up, began_ms);
	else
		upstream_worked(up, began_ms, now_ms);
}

void upstream_failed(struct upstream *up, enum upstream_failure kind, int err, const char *detail,
		     uint64_t began_ms, uint64_t now_ms)
{
	struct upstream_run *run = up->run;
	uint64_t chance = now_ms ^ (uint64_t)(uintptr_t)run;

	count(&run->failures[kind]);
	pthread_mutex_lock(&run->lock);
	run->last = (struct upstream_last_failure){kind, err, detail, now_ms};
	pthread_mutex_unlock(&run->lock);
	atomic_store(&run->has_failed, true);
	/* What cannot be reached directly is a destination. */
	if (!upstream_is_to_blame(err) || up->conf->url.scheme == PROXY_DIRECT)
		upstream_unknown(up, began_ms);
	else
		upstream_log(up, health_failed(&run->health, began_ms, now_ms, mix(chance)),
			     now_ms);
}

void upstream_unknown(struct upstream *up, uint64_t began_ms)
{
	health_unknown(&up->run->health, began_ms);
}

void upstream_replied(struct upstream *up, enum upstream_reply reply, uint64_t began_ms,
		      uint64_t now_ms)
{
	count(&up->run->replies[reply]);
	if (!upstream_greets(up) && reply != UPSTREAM_REPLY_NONE &&
	    reply != UPSTREAM_REPLY_UPSTREAM)
		upstream_worked(up, began_ms, now_ms);
}

/* --- the order of tries --- */

/* Whether a member that returns slowly takes part in this turn, where there are no weights: in a failover. */
static bool upstream_share_wins(unsigned share, uint64_t turn)
{
	return mix(turn) % HEALTH_FULL < share;
}

static uint32_t upstream_weight(const struct upstream *up, const struct group_conf *g,
				unsigned share, uint64_t turn)
{
	unsigned steps;

	if (g->choose == GROUP_FAILOVER)
		return upstream_share_wins(share, turn) ? 1 : 0;
	steps = share * RAMP_STEPS / HEALTH_FULL;
	return up->conf->weight * (steps > 0 ? steps : 1);
}

static bool upstreams_candidates(struct upstreams *u, const struct group_conf *g, uint64_t now_ms,
				 uint64_t turn, struct candidate *c)
{
	bool returning = false;

	for (size_t i = 0; i < g->n_members; i++) {
		struct upstream *up = &u->items[g->members[i]];
		struct health *h = &up->run->health;
		unsigned share = health_share(h, now_ms);

		c[i] = (struct candidate){
			.index = g->members[i],
			.identity = up->run->identity,
			.flows = (uint32_t)atomic_load_explicit(&up->run->flows,
								memory_order_relaxed),
		};
		if (share == 0 && health_is_due(h, now_ms))
			share = HEALTH_FULL;
		if (share > 0)
			c[i].weight = upstream_weight(up, g, share, turn);
		returning = returning || (share > 0 && share < HEALTH_FULL);
	}
	/* The usual weights where they are in the right proportion. */
	for (size_t i = 0; i < g->n_members && !returning && g->choose != GROUP_FAILOVER; i++)
		c[i].weight /= RAMP_STEPS;
	return returning;
}

/* What is ejected, the first one due first, behind the `n` that are in `out`. */
static size_t upstreams_order_ejected(const struct upstreams *u, const uint16_t *ejected,
				      size_t n_ejected, uint16_t *out, size_t n)
{
	size_t first = n;

	for (size_t i = 0; i < n_ejected; i++) {
		const struct health *h = &u->items[ejected[i]].run->health;
		uint64_t until = atomic_load_explicit(&h->until_ms, memory_order_relaxed);
		size_t at = n;

		while (at > first &&
		       atomic_load_explicit(&u->items[out[at - 1]].run->health.until_ms,
					    memory_order_relaxed) > until)
			at--;
		if (at == UPSTREAM_TRIES_MAX)
			continue;
		if (n == UPSTREAM_TRIES_MAX)
			n--;
		memmove(&out[at + 1], &out[at], (n - at) * sizeof(out[0]));
		out[at] = ejected[i];
		n++;
	}
	return n;
}

size_t upstreams_order(struct upstreams *u, size_t group, const struct addr *client,
		       uint64_t now_ms, uint16_t out[UPSTREAM_TRIES_MAX])
{
	const struct group_conf *g = &u->conf->groups[group];
	uint64_t turn = atomic_fetch_add_explicit(&u->groups[group].turn, 1, memory_order_relaxed);
	struct candidate c[UPSTREAMS_MAX];
	uint16_t ejected[UPSTREAMS_MAX];
	size_t n = 0, n_ejected = 0;

	upstreams_candidates(u, g, now_ms, turn, c);
	balance_order(g->choose, c, g->n_members, client, turn);
	for (size_t i = 0; i < g->n_members; i++) {
		struct upstream *up = &u->items[c[i].index];
		struct health *h = &up->run->health;

		upstream_log(up, health_look(h, now_ms), now_ms);
		if (health_share(h, now_ms) > 0 || (n == 0 && health_take_trial(h, now_ms))) {
			if (n < UPSTREAM_TRIES_MAX)
				out[n++] = (uint16_t)c[i].index;
		} else {
			ejected[n_ejected++] = (uint16_t)c[i].index;
		}
	}
	if (g->when_all_down == GROUP_ALL_DOWN_DIRECT)
		return n;
	return upstreams_order_ejected(u, ejected, n_ejected, out, n);
}

/* --- flows and ports --- */

void upstream_flow_begin(struct upstream *up)
{
	atomic_fetch_add_explicit(&up->run->flows, 1, memory_order_relaxed);
}

void upstream_flow_end(struct upstream *up)
{
	atomic_fetch_sub_explicit(&up->run->flows, 1, memory_order_relaxed);
}

struct sock_options upstream_sock_options(struct upstream *up, bool speaks_first)
{
	return (struct sock_options){
		.mark = up->all->conf->mark,
		.speaks_first = speaks_first,
		.source = &up->conf->source,
		.source_turn = atomic_fetch_add_explicit(&up->run->turn, 1, memory_order_relaxed),
	};
}

void upstreams_remark_sources(const struct conf *c, upstream_remark_fn *say, void *ctx)
{
	char addr[ADDR_TEXT_MAX], text[192];

	for (size_t i = 0; i < c->n_upstreams; i++) {
		const struct upstream_conf *up = &c->upstreams[i];

		for (size_t k = 0; k < up->source.n; k++) {
			const struct addr *a = &up->source.addrs[k];

			if (sock_is_own(a))
				continue;
			snprintf(text, sizeof(text),
				 "option \"upstream.source\": %s is not an address of this host, "
				 "so no connection comes from it",
				 addr_format_ip(a, addr, sizeof(addr)));
			say(ctx, up, text);
		}
	}
}

/* -1: the kernel has chosen. */
static struct upstream_source *upstream_source(struct upstream *up, int source)
{
	return up->sources[source < 0 ? 0 : source];
}

static void upstream_log_ports(const struct upstream *up, const struct upstream_source *src,
			       size_t ports)
{
	char source[ADDR_TEXT_MAX];
	struct log_line line;

	if (!log_begin(&line, LOG_LEVEL_WARNING,
		       "ports towards an upstream are getting scarce, give it more addresses "
		       "(option \"source\")"))
		return;
	log_add(&line, "upstream", up->conf->name);
	if (src->addr.family != AF_UNSPEC)
		log_add(&line, "source", addr_format_ip(&src->addr, source, sizeof(source)));
	log_add_uint(&line, "ports", ports);
	log_add_uint(&line, "max_ports", up->all->n_ports);
	log_end(&line);
}

void upstream_port_take(struct upstream *up, int source)
{
	struct upstream_source *src = upstream_source(up, source);
	size_t ports = atomic_fetch_add_explicit(&src->ports, 1, memory_order_relaxed) + 1;

	if (ports * 100 >= up->all->n_ports * PORTS_SCARCE &&
	    !atomic_load_explicit(&src->said, memory_order_relaxed) &&
	    !atomic_exchange(&src->said, true))
		upstream_log_ports(up, src, ports);
}

void upstream_port_put(struct upstream *up, int source)
{
	struct upstream_source *src = upstream_source(up, source);
	size_t ports = atomic_fetch_sub_explicit(&src->ports, 1, memory_order_relaxed) - 1;

	if (atomic_load_explicit(&src->said, memory_order_relaxed) &&
	    ports * 100 < up->all->n_ports * PORTS_PLENTY)
		atomic_store_explicit(&src->said, false, memory_order_relaxed);
}

/* --- for people --- */

const char *upstream_state_word(const struct upstream *up, uint64_t now_ms)
{
	static const char *const words[] = {
		[HEALTH_UP] = "up",
		[HEALTH_EJECTED] = "ejected",
		[HEALTH_TRIAL] = "trying",
		[HEALTH_RETURNING] = "returning",
	};
	const struct health *h = &up->run->health;

	/* The end of a slow return is noticed by the next flow. */
	if (health_share(h, now_ms) == HEALTH_FULL)
		return words[HEALTH_UP];
	return words[atomic_load_explicit(&h->state, memory_order_relaxed)];
}

const char *upstream_state_format(const struct upstream *up, uint64_t now_ms, char *out, size_t cap)
{
	const struct health *h = &up->run->health;
	uint64_t until = atomic_load_explicit(&h->until_ms, memory_order_relaxed);
	const char *word = upstream_state_word(up, now_ms);

	if (strcmp(word, "ejected") == 0 && now_ms < until)
		snprintf(out, cap, "ejected for %u s", (unsigned)((until - now_ms + 999) / 1000));
	else if (strcmp(word, "ejected") == 0)
		snprintf(out, cap, "ejected, the next flow tries it");
	else if (strcmp(word, "trying") == 0)
		snprintf(out, cap, "ejected, being tried");
	else if (strcmp(word, "returning") == 0)
		snprintf(out, cap, "returning, %u %%", health_share(h, now_ms) * 100 / HEALTH_FULL);
	else
		snprintf(out, cap, "up");
	return out;
}

const char *upstream_failure_format(const struct upstream *up, char *out, size_t cap)
{
	struct upstream_run *run = up->run;
	struct upstream_last_failure last;
	const char *detail;

	out[0] = '\0';
	if (!atomic_load(&run->has_failed))
		return out;
	pthread_mutex_lock(&run->lock);
	last = run->last;
	pthread_mutex_unlock(&run->lock);
	detail = last.detail != NULL ? last.detail : last.err != 0 ? strerror(last.err) : "failed";
	snprintf(out, cap, "%s: %s", upstream_failure_words[last.kind], detail);
	return out;
}
