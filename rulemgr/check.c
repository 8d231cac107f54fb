/* SPDX-License-Identifier: MIT */
/*
 * The sub-command `check`: does all of it work together on this host? Each probe is held in a cage
 * (cage.h) that lets nothing out of this host; only what the rules redirect arrives at transocksd.
 */
#include "rulemgr/command.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/arrival.h"
#include "rulemgr/drain.h"
#include "rulemgr/endings.h"
#include "rulemgr/explain.h"
#include "rulemgr/iptables_ask.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/linger.h"
#include "rulemgr/listeners.h"
#include "rulemgr/neighbour.h"
#include "rulemgr/resolve.h"
#include "rulemgr/routes.h"
#include "rulemgr/servers.h"
#include "rulemgr/sync.h"
#include "rulemgr/verdict.h"

/* Where the probes want to go. Both are of the Internet, not special-purpose, and belong to the AS112
 * project, which absorbs what nobody wants (RFC 7535, RFC 7534). */
static const char *const check_targets[] = {"192.31.196.1:443", "[2620:4f:8000::1]:443"};

/* An ordinary user, whom no rule is likely to exempt: "nobody". */
#define CHECK_UID 65534

#define CHECK_ARRIVAL_MAX (ADDR_TEXT_MAX + 32)

enum outcome { CHECK_OK, CHECK_SKIPPED, CHECK_DOUBTFUL, CHECK_FAILED, CHECK_NO_LISTENER };

struct check {
	struct kernel *kernel; /* NULL: iptables */
	struct report *report;
	const struct conf *conf;          /* what the daemons should be like */
	uid_t uid;                        /* of ordinary probes */
	struct model found;               /* what is installed; by iptables: not known */
	bool without[LISTENERS_FAMILIES]; /* of these there are no rules of iptables */
	/* Of the family at work. */
	int family; /* LISTENERS_IPV4, ... */
	struct addr target;
	struct addr arrives; /* at this address and port of this host; under TPROXY, `target` */
	char by[MODEL_COMMENT_MAX]; /* the rule that decided about the last probe */
	bool ended;                 /* the last connection has, though nobody here ended it */
	/* Of all. */
	bool outside_share;
	unsigned n[CHECK_NO_LISTENER + 1]; /* by outcome */
	struct diag first_failure;
};

/* TPROXY translates nothing: the connection arrives under the name of its destination. */
static bool check_is_tproxy(const struct check *c)
{
	return addr_equal(&c->arrives, &c->target);
}

/* How an ordinary flow is taken: "redirected to 127.0.0.1:1081"; returns `out`. */
static const char *check_format_arrival(const struct check *c, char *out, size_t cap)
{
	char at[ADDR_TEXT_MAX];

	addr_format(&c->arrives, at, sizeof(at));
	snprintf(out, cap, "%s %s", check_is_tproxy(c) ? "brought by TPROXY as" : "redirected to",
		 at);
	return out;
}

/* One line for a person and one object for a program. `hint` may be NULL. */
static void PRINTF_LIKE(5, 6) check_say(struct check *c, enum outcome outcome, const char *step,
					const char *hint, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "skipped", "doubtful", "failed", "failed"};
	struct json *j = &c->report->json;
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	strbuf_printf(&c->report->text, "%-9s%s: %s\n", words[outcome], listeners_family[c->family],
		      text);
	if (hint != NULL)
		strbuf_printf(&c->report->text, "         %s\n", hint);
	json_object_begin(j, NULL);
	json_string(j, "family", listeners_family[c->family]);
	json_string(j, "step", step);
	json_string(j, "result", words[outcome]);
	json_string(j, "text", text);
	if (hint != NULL)
		json_string(j, "hint", hint);
	json_object_end(j);
	c->n[outcome]++;
	if (outcome >= CHECK_FAILED && c->first_failure.text[0] == '\0')
		diag_set(&c->first_failure, EPROTO, NULL, 0, "%s: %s", listeners_family[c->family],
			 text);
}

static struct probe check_probe(const struct check *c)
{
	return (struct probe){.to = c->target, .uid = c->uid, .fd = -1};
}

/* The same by iptables. */
static int check_verdict_iptables(struct check *c, struct probe *p, char *why, size_t cap,
				  struct addr *last)
{
	struct iptables_answer a;
	int r = iptables_ask(p, &a, &c->report->error);

	if (r < 0)
		return r;
	snprintf(why, cap, "%s", a.why);
	snprintf(c->by, sizeof(c->by), "%s", a.rule);
	if (last != NULL)
		*last = a.arrives;
	return (int)a.verdict;
}

/* Asks what becomes of a probe. `why` gets the explanation, `last` where it ended up; either may be
 * NULL. A verdict, or a negative errno with the report's error filled. */
static int check_verdict(struct check *c, struct probe *p, char *why, size_t cap, struct addr *last,
			 int *send_err)
{
	struct trace t = {.sock = NULL};
	struct answer a = {.verdict = VERDICT_LOST};
	int r;

	if (c->kernel == NULL)
		return check_verdict_iptables(c, p, why, cap, last);
	r = trace_probe(&t, p, CAGE_ALL, send_err, &c->report->error);

	if (r == 0)
		r = trace_name(&t, c->kernel, &c->report->error);
	if (r == 0) {
		a = verdict_of(&t, p, *send_err);
		verdict_explain(&a, why, cap);
		snprintf(c->by, sizeof(c->by), "%s", a.by != NULL ? a.by->comment : "");
		if (last != NULL && t.caught)
			*last = t.last_to;
	}
	trace_close(&t);
	return r < 0 ? r : (int)a.verdict;
}

/* The option family leaves this one out on purpose. */
static bool check_family_is_off(const struct check *c)
{
	char comment[MODEL_COMMENT_MAX];

	snprintf(comment, sizeof(comment), WANT_COMMENT_FAMILY, listeners_family[c->family]);
	return strcmp(c->by, comment) == 0;
}

/* What a rule of ours that left a probe alone means; `step` is what was tried. */
static void check_say_left(struct check *c, const char *step, const char *what, const char *why)
{
	bool share = strstr(c->by, WANT_COMMENT_SHARE) != NULL;

	c->outside_share |= share;
	if (check_family_is_off(c))
		check_say(c, CHECK_SKIPPED, step, NULL, "%s", why);
	else if (share)
		check_say(c, CHECK_SKIPPED, step,
			  "that is meant by option share, and decided by the client's address: no "
			  "other destination helps",
			  "%s is not taken: %s", what, why);
	else if (strcmp(c->by, DRAIN_COMMENT) == 0)
		check_say(c, CHECK_FAILED, step,
			  "flush lets new flows pass while it waits for live ones: "
			  "transocks-rules install ends that",
			  "%s is not taken: %s", what, why);
	else
		check_say(c, CHECK_FAILED, step,
			  "if that is meant, name a destination that must be taken: "
			  "transocks-rules check ADDRESS:PORT",
			  "%s is not taken: %s", what, why);
}

/* An ordinary flow is taken: 1. Else says why not: 0. Or a negative errno. */
static int check_taken(struct check *c)
{
	struct probe p = check_probe(c);
	char why[768], target[ADDR_TEXT_MAX];
	int send_err, r = check_verdict(c, &p, why, sizeof(why), &c->arrives, &send_err);

	addr_format(&c->target, target, sizeof(target));
	switch (r) {
	case VERDICT_TAKEN:
		return 1;
	case VERDICT_NO_ROUTE:
		check_say(c, CHECK_SKIPPED, "taken",
			  "programs fail in the same way: add a default route, if only "
			  "\"default dev lo metric 4294967295\"",
			  "%s: %s", target, why);
		return 0;
	case VERDICT_LEFT:
		check_say_left(c, "taken", target, why);
		return 0;
	default:
		if (r >= 0)
			check_say(c, CHECK_FAILED, "taken", NULL, "%s is not taken: %s", target,
				  why);
		return r < 0 ? r : 0;
	}
}

/* How long the daemon waits for what the probe does not say, before it goes on. */
static int64_t check_held_up_ms(const struct check *c)
{
	return port_list_contains(&c->conf->sniff.ports, c->target.port) ? c->conf->sniff.timeout
									 : 0;
}

/* 0, or what became of the connection. A listener that has no upstream accepts and resets. */
static int check_await(struct check *c, struct probe *p, struct peer *peer)
{
	int r = probe_send(p);

	if (r == 0)
		r = arrival_connected(p->fd);
	if (peer == NULL || (r < 0 && r != -ECONNRESET))
		return r;
	r = arrival_accepted(&c->arrives, &p->from, peer);
	c->ended = r == -ENOENT || (r == 0 && arrival_ends(p->fd, check_held_up_ms(c)));
	return r == -ENOENT ? 0 : r;
}

/* The same by iptables: without a trace. */
static int check_connect_iptables(struct check *c, struct probe *p, struct peer *peer,
				  int *connected)
{
	struct iptables_cage cage = {.open = false};
	struct iptables_have have = {.present = false};
	struct diag *d = &c->report->error;
	int closed, r = probe_open(p, d);

	if (r == 0)
		r = iptables_cage_open(&cage, p, &have, true, d);
	if (r == 0)
		*connected = check_await(c, p, peer);
	probe_close(p);
	closed = iptables_cage_close(&cage, d);
	return r < 0 ? r : closed;
}

/* Connects for real, within this host. *connected is what became of the connection; the trace is open
 * and collected. Returns 0, or a negative errno with the report's error filled. */
static int check_connect(struct check *c, struct probe *p, struct trace *t, struct peer *peer,
			 int *connected)
{
	struct cage cage = {.table = ""};
	struct diag *d = &c->report->error;
	int r;

	if (c->kernel == NULL)
		return check_connect_iptables(c, p, peer, connected);
	r = probe_open(p, d);
	if (r < 0)
		return r;
	r = trace_open(t, d);
	if (r == 0)
		r = cage_open(&cage, p, CAGE_BUT_LOCAL, d);
	if (r == 0) {
		*connected = check_await(c, p, peer);
		r = trace_collect(t, &cage, 0);
		if (r < 0)
			diag_set(d, -r, NULL, 0, "cannot read the trace: %s", strerror(-r));
	}
	probe_close(p);
	cage_close(&cage);
	return r;
}

/* What TPROXY lacks beside the table, as text; false: nothing. */
static bool check_lacks_routes(const struct check *c, struct strbuf *out)
{
	const bool family[LISTENERS_FAMILIES] = {c->family == LISTENERS_IPV4,
						 c->family == LISTENERS_IPV6};
	struct routes_change change = {.n = 0};
	struct routes all;
	struct diag ignored;
	bool lacks = false;

	if (routes_read(&all, &ignored) < 0)
		return false;
	if (routes_plan(&all, &c->conf->tproxy_mark, family, &change) == 0) {
		for (size_t i = 0; i < change.n; i++) {
			if (!change.steps[i].add)
				continue;
			strbuf_puts(out, lacks ? ", ip " : "ip ");
			route_item_format(&change.steps[i].item, out);
			lacks = true;
		}
	}
	routes_free(&all);
	routes_change_free(&change);
	return lacks;
}

static void check_say_unreached(struct check *c, const struct trace *t, int err)
{
	const struct step *last = t->n_steps > 0 ? &t->steps[t->n_steps - 1] : NULL;
	char at[CHECK_ARRIVAL_MAX], by[512], lacking[512];
	struct strbuf sb;
	struct listeners l;
	struct diag ignored;

	strbuf_init(&sb, lacking, sizeof(lacking));
	check_format_arrival(c, at, sizeof(at));
	if (check_is_tproxy(c) && check_lacks_routes(c, &sb)) {
		check_say(c, CHECK_FAILED, "reached", "transocks-rules install puts it back",
			  "%s, but not delivered to this host: missing: %s", at, lacking);
		return;
	}
	if (last != NULL && step_is_end(last))
		check_say(
			c, CHECK_FAILED, "reached",
			"let the loopback interface through, or connections to this port that have "
			"\"ct status dnat\"",
			"%s, but dropped by %s", at, step_format(last, by, sizeof(by)));
	else if (err == -ECONNREFUSED && listeners_read(c->arrives.port, &l, &ignored) == 0 &&
		 !l.loopback[c->family])
		check_say(c, CHECK_NO_LISTENER, "reached", "start transocksd",
			  "%s, where nobody listens", at);
	else
		check_say(c, CHECK_FAILED, "reached",
			  check_is_tproxy(c) ? "does transocksd run, with mode = \"tproxy\"?"
					     : NULL,
			  "%s, but not accepted there: %s", at, strerror(-err));
}

/* A flow that was ended at once: the daemon knows why. `before`: what it had counted until then. */
static void check_say_ended(struct check *c, const struct endings *before, const char *at)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	struct endings_verdict v = {.hopeless = false};
	struct endings after;
	struct diag d;
	bool known = false;
	int r = 0;

	/* It counts when it has ended the flow, maybe a moment after the client has seen that. */
	for (int waited = 0; r == 0 && !known && waited < ARRIVAL_WAIT_MS; waited += 10) {
		r = endings_read(c->conf->control, &after, &d);
		known = r == 0 && endings_judge(before, &after, &v);
		if (r == 0 && !known)
			nanosleep(&pause, NULL);
	}
	if (!known)
		check_say(c, CHECK_DOUBTFUL, "reached",
			  "has transocksd a working upstream? see its log",
			  "%s, accepted and ended there at once; %s", at,
			  r < 0 ? d.text : "transocksd has counted no flow that failed");
	else if (v.hopeless)
		check_say(c, CHECK_FAILED, "reached", v.hint, "%s; transocksd ended it: %s", at,
			  v.words);
	else
		check_say(c, CHECK_DOUBTFUL, "reached",
			  "name a destination that answers: transocks-rules check ADDRESS:PORT",
			  "%s; transocksd ended it: %s", at, v.words);
}

/* `asked`: what came of reading `before`, and `why` if that was an error. */
static void check_say_reached(struct check *c, const struct peer *peer, int asked,
			      const struct endings *before, const struct diag *why)
{
	char at[CHECK_ARRIVAL_MAX];

	check_format_arrival(c, at, sizeof(at));
	if (!c->ended)
		check_say(c, CHECK_OK, "reached", NULL, "%s, accepted there by uid %u", at,
			  peer->uid);
	else if (asked == 0)
		check_say_ended(c, before, at);
	else
		check_say(c, CHECK_DOUBTFUL, "reached",
			  "has transocksd a working upstream? see its log",
			  "%s, accepted and ended there at once; %s", at, why->text);
}

/* Whether it arrives at the listener: 1, and *peer says whose that is. 0: it does not; or a negative
 * errno. */
static int check_reached(struct check *c, struct peer *peer)
{
	struct probe p = check_probe(c);
	struct trace t = {.sock = NULL};
	int connected = 0;
	struct endings before;
	struct diag why;
	int asked = endings_read(c->conf->control, &before, &why);
	int r = check_connect(c, &p, &t, peer, &connected);

	if (r == 0 && c->kernel != NULL)
		r = trace_name(&t, c->kernel, &c->report->error);
	if (r == 0 && connected < 0) {
		check_say_unreached(c, &t, connected);
	} else if (r == 0) {
		check_say_reached(c, peer, asked, &before, &why);
		r = 1;
	}
	trace_close(&t);
	return r;
}

/* A flow like one of the daemon's own must not be taken. */
static int check_own(struct check *c, struct probe p, const char *step, const char *whose,
		     const char *hint)
{
	char why[768];
	int send_err, r = check_verdict(c, &p, why, sizeof(why), NULL, &send_err);

	if (r == -EPERM) {
		check_say(c, CHECK_SKIPPED, step, NULL, "%s: %s", whose, c->report->error.text);
		return 0;
	}
	if (r < 0)
		return r;
	if (r == VERDICT_LEFT)
		check_say(c, CHECK_OK, step, NULL, "%s: %s", whose, why);
	else
		check_say(c, CHECK_FAILED, step, r == VERDICT_TAKEN ? hint : NULL, "%s: %s", whose,
			  why);
	return 0;
}

/* The user who accepts is the user who dials. */
static int check_user(struct check *c, const struct peer *peer)
{
	struct probe p = check_probe(c);
	struct diag unknown;
	char whose[64], hint[128];

	p.uid = peer->uid;
	if (!peer->accepted && resolve_user(&p.uid, c->conf->user, &unknown) < 0) {
		check_say(c, CHECK_SKIPPED, "user", NULL, "the daemon's user is not known: %s",
			  unknown.text);
		return 0;
	}
	snprintf(whose, sizeof(whose), "flows of uid %u, the daemon's", p.uid);
	snprintf(hint, sizeof(hint),
		 "transocksd would get its own flows: transocks-rules install --uid %u", p.uid);
	return check_own(c, p, "user", whose, hint);
}

static int check_mark(struct check *c)
{
	struct probe p = check_probe(c);
	char whose[64];

	if (c->conf->mark.mask == 0)
		return 0;
	p.mark = c->conf->mark.value;
	snprintf(whose, sizeof(whose), "flows with mark 0x%x", p.mark);
	return check_own(
		c, p, "mark", whose,
		"transocksd would get its own flows: install with the mark that it has (option "
		"mark)");
}

/* A connection made to the port itself is turned away. */
static int check_guard(struct check *c)
{
	struct probe p = check_probe(c);
	struct trace t = {.sock = NULL};
	char at[ADDR_TEXT_MAX];
	int connected = 0, r;

	p.to = c->arrives;
	addr_format(&p.to, at, sizeof(at));
	r = check_connect(c, &p, &t, NULL, &connected);
	trace_close(&t);
	if (r < 0)
		return r;
	if (connected == -ECONNREFUSED)
		check_say(c, CHECK_OK, "guard", NULL, "direct connections to %s are reset", at);
	else if (connected == 0 || connected == -ECONNRESET) /* by the daemon, at once */
		check_say(
			c, CHECK_FAILED, "guard",
			"transocksd would dial itself: transocks-rules install puts the guard back",
			"direct connections to %s are let in", at);
	else
		check_say(c, CHECK_FAILED, "guard", NULL, "direct connections to %s: %s", at,
			  strerror(-connected));
	return 0;
}

static int check_host(struct check *c)
{
	struct peer peer = {.accepted = false};
	int r = check_taken(c);

	if (r <= 0)
		return r;
	r = check_reached(c, &peer);
	if (r > 0)
		r = check_user(c, &peer);
	if (r >= 0)
		r = check_mark(c);
	if (r >= 0 && !check_is_tproxy(c))
		r = check_guard(c);
	return r;
}

/* A forwarded flow was redirected to `arrives`, an address that only its interface has. */
static void check_say_forwarded(struct check *c, const char *what, const struct addr *arrives)
{
	char at[ADDR_TEXT_MAX], hint[64];
	struct servers s = {.n = 0};
	struct diag why;

	addr_format(arrives, at, sizeof(at));
	snprintf(hint, sizeof(hint), "start transocksd with listen = \":%u\"", arrives->port);
	if (addr_equal(arrives, &c->target))
		check_say(c, CHECK_OK, "forwarded", NULL, "%s: brought by TPROXY as %s", what, at);
	else if (servers_read(arrives, &s, &why) < 0)
		check_say(c, CHECK_SKIPPED, "forwarded", NULL, "%s: redirected to %s; %s", what, at,
			  why.text);
	else if (s.n_sockets == 0)
		check_say(c, CHECK_NO_LISTENER, "forwarded", hint,
			  "%s: redirected to %s, where nobody listens", what, at);
	else
		check_say(c, CHECK_OK, "forwarded", NULL,
			  "%s: redirected to %s, where somebody listens", what, at);
}

/* A flow of a client behind a gateway interface. It is only shown the way: nobody there could answer. */
static int check_forwarded(struct check *c, const char *in)
{
	struct probe p = {.to = c->target, .fd = -1};
	char why[768], from[ADDR_TEXT_MAX], what[ADDR_TEXT_MAX + IFNAMSIZ + 32];
	struct addr arrives = {.family = AF_UNSPEC};
	int send_err, r = neighbour_choose(in, c->target.family, &p.from);

	if (r < 0) {
		check_say(c, CHECK_SKIPPED, "forwarded", NULL,
			  "flows in by %s: no address there that a client could have: %s", in,
			  strerror(-r));
		return 0;
	}
	snprintf(p.in, sizeof(p.in), "%s", in);
	snprintf(what, sizeof(what), "flows from %s in by %s",
		 addr_format_ip(&p.from, from, sizeof(from)), in);
	r = check_verdict(c, &p, why, sizeof(why), &arrives, &send_err);
	if (r == -EOPNOTSUPP || r == -EPERM || r == -EACCES || r == -ENODEV)
		check_say(c, CHECK_SKIPPED, "forwarded", NULL, "%s: %s", what,
			  c->report->error.text);
	else if (r == VERDICT_TAKEN)
		check_say_forwarded(c, what, &arrives);
	else if (r == VERDICT_LEFT)
		check_say_left(c, "forwarded", what, why);
	else if (r >= 0)
		check_say(c, CHECK_FAILED, "forwarded", NULL, "%s: %s", what, why);
	else
		return r;
	return 0;
}

static int check_family(struct check *c)
{
	const struct set *gateways = model_find_set(&c->found, WANT_SET_GATEWAY);
	int r;

	if (c->without[c->family]) {
		check_say(c, CHECK_SKIPPED, "taken", NULL, "no rules of iptables are installed");
		return 0;
	}
	r = check_host(c);
	for (size_t i = 0; r >= 0 && gateways != NULL && i < gateways->n_elements; i++) {
		char name[IFNAMSIZ];

		memcpy(name, gateways->elements[i].first, sizeof(name));
		name[sizeof(name) - 1] = '\0';
		if (strcmp(name, "lo") != 0) /* under TPROXY: what this host sends */
			r = check_forwarded(c, name);
	}
	return r;
}

/* One that the rules take, if they do not take all. */
static uint16_t check_port(const struct port_list *ports, uint16_t usual)
{
	for (size_t i = 0; i < ports->n; i++) {
		if (ports->ranges[i].first <= usual && usual <= ports->ranges[i].last)
			return usual;
	}
	return ports->n > 0 ? ports->ranges[0].first : usual;
}

static int check_families(struct check *c, const char *word)
{
	struct listeners l;
	struct addr given = {.family = AF_UNSPEC};
	int r = listeners_read(1, &l, &c->report->error);

	if (word != NULL && (addr_parse_endpoint(&given, word) < 0 || given.port == 0))
		return diag_set(&c->report->error, EINVAL, NULL, 0, "\"%s\" is not ADDRESS:PORT",
				word);
	for (int f = 0; r >= 0 && f < LISTENERS_FAMILIES; f++) {
		if (!l.host_has[f])
			continue;
		c->family = f;
		BUG_ON(addr_parse_endpoint(&c->target, check_targets[f]) < 0);
		c->target.port = check_port(&c->conf->redirect.ports, c->target.port);
		if (given.family == c->target.family)
			c->target = given;
		r = check_family(c);
	}
	return r < 0 ? r : 0;
}

/* Whether sockets can be made under that uid. */
static bool check_can_be(uid_t uid)
{
	struct probe p = {.to = {.family = AF_INET}, .uid = uid};
	struct diag ignored;
	bool can = probe_open(&p, &ignored) == 0;

	probe_close(&p);
	return can;
}

static int check_judge(const struct check *c, struct report *r)
{
	if (c->n[CHECK_FAILED] + c->n[CHECK_NO_LISTENER] > 0) {
		r->error = c->first_failure;
		return c->n[CHECK_FAILED] == 0 ? EXIT_NO_LISTENER : EXIT_FAILURE;
	}
	if (c->n[CHECK_OK] + c->n[CHECK_DOUBTFUL] == 0) {
		diag_set(&r->error, EPROTO, NULL, 0, "nothing could be tried%s",
			 c->outside_share ? ": all were outside the share; try test --from" : "");
		return EXIT_FAILURE;
	}
	return 0;
}

/* A family without rules is left out. */
static int check_iptables(struct check *c)
{
	struct diag *d = &c->report->error;
	struct iptables_have have;
	int r = iptables_read(&have, d);

	if (r < 0)
		return r;
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		c->without[f] = !iptables_has_family(&have, f);
	if (iptables_gateways(&have, &c->found) < 0)
		r = diag_set(d, ENOMEM, NULL, 0, "out of memory");
	iptables_have_free(&have);
	return r;
}

static int check_with(struct kernel *k, const struct args *a, struct report *r)
{
	struct check c = {.kernel = k, .report = r, .conf = a->conf};
	struct have have;
	int err = k != NULL ? sync_read(k, &have, &c.found, &r->error) : check_iptables(&c);

	if (err < 0)
		return report_exit_code(err);
	c.uid = check_can_be(CHECK_UID) ? CHECK_UID : geteuid();
	json_array_begin(&r->json, "steps");
	err = check_families(&c, a->words[0]);
	json_array_end(&r->json);
	model_free(&c.found);
	if (err == -EINVAL)
		return EX_USAGE;
	return err < 0 ? report_exit_code(err) : check_judge(&c, r);
}

int check_run(const struct args *a, struct report *r)
{
	struct kernel k;
	int code, err = kernel_open(&k, &r->error);

	if (iptables_is_used(&k, err, a->conf->redirect.backend, r)) {
		kernel_close(&k);
		code = iptables_need_installed(r);
		if (code == 0)
			code = linger_begin(&r->error); /* nothing else takes the cage away */
		return code == 0 ? check_with(NULL, a, r) : code;
	}
	if (err < 0)
		return report_exit_code(err);
	code = explain_need_installed(&k, r);
	if (code == 0)
		code = check_with(&k, a, r);
	kernel_close(&k);
	return code;
}
