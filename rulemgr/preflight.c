/* SPDX-License-Identifier: MIT */
#include "rulemgr/preflight.h"

#include <errno.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy/addr.h"
#include "rulemgr/basechains.h"
#include "rulemgr/listeners.h"
#include "rulemgr/marks.h"
#include "rulemgr/resolvers.h"
#include "rulemgr/servers.h"

/* For a daemon that is just starting, as that of a unit beside ours. */
#define START_MS 3000
/* Of one that has begun to listen: for its next address. */
#define START_REST_MS 1000
#define RETRY_MS      50
#define US_OF_MS      1000

/* What the checks share. Those who look at a list of the host read it themselves. */
struct preflight {
	struct kernel *kernel; /* NULL: iptables */
	const struct args *args;
	const struct want *want;
	struct report *report;
	struct listeners listeners;
	struct base_chains chains;
};

static const uint8_t families[LISTENERS_FAMILIES] = {AF_INET, AF_INET6};
static const uint8_t protocols[LISTENERS_FAMILIES] = {NFPROTO_IPV4, NFPROTO_IPV6};
static const char *const family_words[LISTENERS_FAMILIES] = {"ipv4", "ipv6"};

/* A family that is taken, on a host that has it. */
static bool matters(const struct preflight *p, int family)
{
	return p->want->family[family] && p->listeners.host_has[family];
}

/* Returns an exit code: with --force it is a warning only. */
static int refuse(struct preflight *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int refuse(struct preflight *p, const char *fmt, ...)
{
	char text[sizeof(p->report->error.text) - 64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->args->force) {
		report_warn(p->report, "%s", text);
		return 0;
	}
	diag_set(&p->report->error, ENOTCONN, NULL, 0, "%s (--force installs all the same)", text);
	return EXIT_FAILURE;
}

/* For a check that could not be made. */
static int unknown(struct preflight *p, const char *what, const struct diag *why)
{
	report_warn(p->report, "%s; %s is not known", why->text, what);
	return 0;
}

/* A gateway cuts off a whole network. */
static int check_gateway_listeners(struct preflight *p)
{
	const struct want *w = p->want;

	for (int f = 0; w->n_gateways > 0 && f < LISTENERS_FAMILIES; f++) {
		int code;

		if (!matters(p, f) || p->listeners.any[f])
			continue;
		code = refuse(p,
			      "nobody listens on all %s addresses (%s:%u), so --gateway would "
			      "cut the flows from %s off; "
			      "start transocksd with listen = \":%u\" first",
			      listeners_family[f], listeners_any[f], w->port, w->gateways[0],
			      w->port);
		if (code != 0)
			return code;
	}
	return 0;
}

static bool somebody_listens(const struct listeners *l)
{
	return l->loopback[LISTENERS_IPV4] || l->loopback[LISTENERS_IPV6];
}

/* TPROXY of iptables drops what nobody listens for, and no rule behind it can refuse it. */
static bool would_hang(const struct preflight *p)
{
	return p->kernel == NULL && p->want->mode == REDIRECT_MODE_TPROXY;
}

/* Nobody at all is a warning: the daemon may come later, and new flows are refused meanwhile. Somebody in
 * one family alone is a daemon that will not come for the other. */
static int check_host_listeners(struct preflight *p)
{
	const struct want *w = p->want;
	bool somebody = somebody_listens(&p->listeners);

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		int code = 0;

		if (!matters(p, f) || p->listeners.loopback[f])
			continue;
		if (!somebody && would_hang(p))
			code = refuse(
				p,
				"nobody listens on %s:%u: by iptables with mode = \"tproxy\" all "
				"new %s connections would hang until transocksd runs, and could "
				"reach other programs; start it first",
				listeners_loopback[f], w->port, listeners_family[f]);
		else if (!somebody)
			report_warn(p->report,
				    "nobody listens on %s:%u: new %s connections are refused until "
				    "transocksd runs",
				    listeners_loopback[f], w->port, listeners_family[f]);
		else
			code = refuse(
				p,
				"nobody listens on %s:%u, though somebody does for %s: all new %s "
				"connections would be refused; add it to listen, or take the other "
				"family alone with --family %s",
				listeners_loopback[f], w->port, listeners_family[!f],
				listeners_family[f], family_words[!f]);
		if (code != 0)
			return code;
	}
	return 0;
}

/* A daemon in the other mode listens just as well, and would refuse all that comes. */
static int check_mode(struct preflight *p)
{
	const struct want *w = p->want;
	const struct listeners *l = &p->listeners;
	bool tproxy = w->mode == REDIRECT_MODE_TPROXY;

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		if (!matters(p, f) || !l->loopback[f])
			continue;
		if (tproxy && !l->transparent[f])
			return refuse(
				p,
				"who listens on port %u does not take what comes by TPROXY, so "
				"all new %s connections would get lost; start transocksd with "
				"mode = \"tproxy\" first",
				w->port, listeners_family[f]);
		if (!tproxy && !l->plain[f])
			return refuse(
				p,
				"who listens on port %u takes what comes by TPROXY alone, so all "
				"new %s connections would be reset; install with --mode tproxy, or "
				"start transocksd with mode = \"redirect\" first",
				w->port, listeners_family[f]);
	}
	return 0;
}

/* Whether somebody must come for what the next checks would refuse. */
static bool lacks_listener(const struct preflight *p)
{
	const struct listeners *l = &p->listeners;
	bool somebody = somebody_listens(l), lacks = false;

	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		lacks |= matters(p, f) && ((p->want->n_gateways > 0 && !l->any[f]) ||
					   ((somebody || would_hang(p)) && !l->loopback[f]));
	return lacks;
}

/* One who binds an address after the other is seen halfway as well, but not for long: who listens otherwise than
 * needed, and for some time, is not starting. */
static int await_listeners(struct preflight *p, struct diag *why)
{
	int since_ms = 0, r = listeners_read(p->want->port, &p->listeners, why);

	for (int ms = 0; r == 0 && !p->args->force && lacks_listener(p); ms += RETRY_MS) {
		struct listeners before = p->listeners;

		if (ms >= START_MS || (somebody_listens(&before) && ms - since_ms >= START_REST_MS))
			return 0;
		usleep(RETRY_MS * US_OF_MS);
		r = listeners_read(p->want->port, &p->listeners, why);
		if (memcmp(&before, &p->listeners, sizeof(before)) != 0)
			since_ms = ms + RETRY_MS;
	}
	return r;
}

static int check_listeners(struct preflight *p)
{
	struct report *r = p->report;
	struct diag why;
	int code;

	if (await_listeners(p, &why) < 0) {
		/* Then the other checks speak of both families. */
		p->listeners = (struct listeners){.host_has = {true, true}};
		if (p->want->n_gateways == 0)
			return unknown(p, "whether transocksd listens", &why);
		r->error = why;
		return EXIT_FAILURE;
	}
	code = check_gateway_listeners(p);
	if (code == 0)
		code = check_host_listeners(p);
	return code != 0 ? code : check_mode(p);
}

static bool sees_taken(const struct preflight *p, const struct base_chain *c)
{
	bool sees = false;

	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		sees |= p->want->family[f] && base_chain_sees(c, protocols[f]);
	return sees;
}

/* The first nat chain that translates a flow wins. Under TPROXY ours are not of that kind, and those of
 * iptables are chains that others have rules in as well. */
static int check_nat_chains(struct preflight *p)
{
	const struct want *w = p->want;
	bool is_nat = w->mode == REDIRECT_MODE_REDIRECT && p->kernel != NULL;
	int32_t ours = w->redirect->priority;
	char text[BASE_CHAIN_TEXT_MAX];

	for (size_t i = 0; is_nat && i < p->chains.n; i++) {
		const struct base_chain *c = &p->chains.chains[i];
		bool hook = c->hook == NF_INET_LOCAL_OUT ||
			    (c->hook == NF_INET_PRE_ROUTING && w->n_gateways > 0);

		if (!c->nat || c->ours || c->n_rules == 0 || c->priority > ours || !hook ||
		    !sees_taken(p, c))
			continue;
		base_chain_format(c, text, sizeof(text));
		if (c->priority < ours)
			report_warn(p->report,
				    "chain %s comes before ours (%d) on hook %s: what it "
				    "translates never gets to transocksd",
				    text, ours, base_chain_hook_name(c->hook));
		else
			report_warn(p->report,
				    "chain %s is at the priority of ours on hook %s: whichever was "
				    "made last comes first; choose another with --priority",
				    text, base_chain_hook_name(c->hook));
	}
	return 0;
}

/* What to add to a chain so that redirected flows get in. */
static const char *accept_rule(const struct want *w, char *out, size_t cap)
{
	if (w->mode == REDIRECT_MODE_TPROXY)
		snprintf(out, cap, "meta mark & 0x%x == 0x%x accept", w->tproxy_mark.mask,
			 w->tproxy_mark.value);
	else
		snprintf(out, cap, "tcp dport %u ct status dnat accept", w->port);
	return out;
}

/* Redirected flows are input of this host: those from a gateway arrive by its interface, our own by lo, which
 * hardly any firewall closes. What a rule does nobody can tell from outside; a policy alone is certain. */
static int check_firewall(struct preflight *p)
{
	const struct want *w = p->want;
	char text[BASE_CHAIN_TEXT_MAX], rule[96];

	for (size_t i = 0; i < p->chains.n; i++) {
		const struct base_chain *c = &p->chains.chains[i];

		if (c->hook != NF_INET_LOCAL_IN || !c->drops || c->ours || !sees_taken(p, c))
			continue;
		base_chain_format(c, text, sizeof(text));
		accept_rule(w, rule, sizeof(rule));
		if (c->n_rules == 0)
			report_warn(p->report,
				    "the firewall drops all redirected flows: chain %s has policy "
				    "drop and no rule; it needs one such as: %s",
				    text, rule);
		else if (w->n_gateways > 0)
			report_warn(p->report,
				    "the firewall may drop the flows from %s: chain %s has policy "
				    "drop; unless a rule of it lets them in, it needs one such as: "
				    "iifname \"%s\" %s",
				    w->gateways[0], text, w->gateways[0], rule);
	}
	return 0;
}

static int check_chains(struct preflight *p)
{
	struct diag why;

	if (base_chains_read(p->kernel, &p->chains, &why) < 0)
		return unknown(p, "who else takes or drops flows", &why);
	check_nat_chains(p);
	check_firewall(p);
	base_chains_free(&p->chains);
	return 0;
}

/* The kernel redirects to an address of the interface, and drops the flow if there is none. */
static int check_gateway_addresses(struct preflight *p)
{
	const struct want *w = p->want;
	struct ifaddrs *all;

	if (w->n_gateways == 0 || w->mode == REDIRECT_MODE_TPROXY || getifaddrs(&all) < 0)
		return 0;
	for (size_t g = 0; g < w->n_gateways; g++) {
		for (int f = 0; f < LISTENERS_FAMILIES; f++) {
			bool has = false;

			for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
				has |= i->ifa_addr != NULL &&
				       i->ifa_addr->sa_family == families[f] &&
				       strcmp(i->ifa_name, w->gateways[g]) == 0;
			if (matters(p, f) && !has)
				report_warn(p->report,
					    "%s has no %s address: new %s connections from there "
					    "vanish, since they are redirected to it; give it one, "
					    "or take the other family alone with --family %s",
					    w->gateways[g], listeners_family[f],
					    listeners_family[f], family_words[!f]);
		}
	}
	freeifaddrs(all);
	return 0;
}

/* Whether this host means to reach the Internet by this family: it has an address other than on its
 * loopback and links. */
static bool has_address(uint8_t family)
{
	struct ifaddrs *all;
	bool has = false;

	if (getifaddrs(&all) < 0)
		return true;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		struct addr a;

		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family)
			continue;
		a = addr_from_sockaddr(i->ifa_addr);
		has |= !addr_is_loopback(&a) &&
		       !(family == AF_INET6 && a.ip[0] == 0xfe && (a.ip[1] & 0xc0) == 0x80);
	}
	freeifaddrs(all);
	return has;
}

/* Connecting a datagram socket looks the route up and sends nothing. */
static bool has_route(const char *address)
{
	struct sockaddr_storage ss;
	struct addr a;
	socklen_t len;
	int fd, err;

	BUG_ON(addr_parse(&a, address) < 0);
	a.port = 443;
	len = addr_to_sockaddr(&a, &ss);
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true; /* then nobody can tell */
	err = connect(fd, (const struct sockaddr *)&ss, len) < 0 ? errno : 0;
	close(fd);
	return err != ENETUNREACH && err != EHOSTUNREACH && err != EADDRNOTAVAIL;
}

static int check_routes(struct preflight *p)
{
	/* Somewhere in the Internet. */
	static const char *const far[LISTENERS_FAMILIES] = {"1.1.1.1", "2606:4700:4700::1111"};

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		if (!matters(p, f) || !has_address(families[f]) || has_route(far[f]))
			continue;
		report_warn(
			p->report,
			"no %s route to the Internet (%s): connections of this host fail before "
			"any rule sees them; where nothing else may use it, `ip -%c route add "
			"default dev lo metric 4294967295` will do",
			listeners_family[f], far[f], f == LISTENERS_IPV4 ? '4' : '6');
	}
	return 0;
}

static bool takes_port(const struct want *w, uint16_t port)
{
	const struct port_list *ports = &w->redirect->ports;

	for (size_t i = 0; i < ports->n; i++) {
		if (port >= ports->ranges[i].first && port <= ports->ranges[i].last)
			return true;
	}
	return ports->n == 0;
}

static bool is_exempt(const struct want *w, uid_t uid)
{
	for (size_t i = 0; i < w->n_exempt_uids; i++) {
		if (w->exempt_uids[i] == uid)
			return true;
	}
	return uid == w->uid;
}

/* The name of the upstream may be asked for over a flow that goes to the upstream. */
static int check_resolvers(struct preflight *p)
{
	struct resolvers all;
	struct diag why;

	if (!takes_port(p->want, RESOLVERS_TLS_PORT))
		return 0;
	if (resolvers_read(&all, &why) < 0)
		return unknown(p, "whether a name server of this host would be redirected", &why);
	for (size_t i = 0; i < all.n; i++) {
		const struct resolver *s = &all.resolvers[i];

		if (!is_exempt(p->want, s->uid))
			report_warn(
				p->report,
				"%s %s: its queries over TLS (port %u) would be redirected, and "
				"names could wait for transocksd while that waits for names; "
				"--exempt-uids %s lets them go direct",
				s->name,
				s->connected ? "is connected to a name server"
					     : "answers name queries on this host",
				RESOLVERS_TLS_PORT, s->name);
	}
	return 0;
}

/* What needs no exemption: usocksd marks what it dials, and Docker's goes to a container alone. */
static bool serves_safely(const char *name)
{
	return strcmp(name, "usocksd") == 0 || strcmp(name, "docker-proxy") == 0;
}

/* Whether new flows of those who serve there are left alone. Of several processes one is enough: a parent
 * that stays root dials nothing. */
static bool servers_are_exempt(const struct want *w, const struct servers *s)
{
	bool exempt = s->n_sockets == 0 ||
		      (w->mark.mask != 0 && (s->mark & w->mark.mask) == w->mark.value) ||
		      (s->n == 0 && is_exempt(w, s->socket_user));

	for (size_t i = 0; i < s->n; i++)
		exempt |= is_exempt(w, s->holders[i].uid) || serves_safely(s->holders[i].name);
	return exempt;
}

/* A proxy on this host whose flows are taken gets them back from transocksd, and so on without end. Control
 * groups may exempt it as well, which is not looked at: then nothing is said. */
static int check_upstreams(struct preflight *p)
{
	const struct want *w = p->want;
	char at[ADDR_TEXT_MAX];
	struct servers s;
	struct diag why;

	for (size_t i = 0; w->n_exempt_cgroups == 0 && i < w->n_upstreams; i++) {
		uid_t uid;

		if (!servers_is_here(&w->upstreams[i]))
			continue;
		if (servers_read(&w->upstreams[i], &s, &why) < 0)
			return unknown(p, "whether the upstream's own flows would be redirected",
				       &why);
		if (servers_are_exempt(w, &s))
			continue;
		uid = s.n > 0 ? s.holders[s.n - 1].uid : s.socket_user;
		report_warn(p->report,
			    "the upstream %s is on this host, and the flows of who serves there "
			    "(%s, uid %u) would be redirected, back to transocksd and so on "
			    "without end: run it as user %s, or let its user's flows go direct "
			    "with --exempt-uids %u",
			    addr_format(&w->upstreams[i], at, sizeof(at)),
			    s.n > 0 ? s.holders[s.n - 1].name : "an unknown process", uid,
			    p->args->conf->user, uid);
	}
	return 0;
}

static int check_marks(struct preflight *p)
{
	const struct want *w = p->want;
	uint32_t bits = w->mark.mask;
	struct mark_users all;
	struct diag why;

	bits |= w->mode == REDIRECT_MODE_TPROXY ? w->tproxy_mark.mask : 0;
	if (bits == 0 || p->kernel == NULL)
		return 0;
	if (mark_users_read(p->kernel, bits, &all, &why) < 0)
		return unknown(p, "whether others test our marks", &why);
	for (size_t i = 0; i < all.n; i++)
		report_warn(p->report,
			    "%s tests bits 0x%x of the mark, which are ours: choose others with "
			    "option %s, for the daemon as well",
			    all.users[i].where, all.users[i].bits,
			    (all.users[i].bits & w->mark.mask) != 0 ? "mark" : "tproxy_mark");
	return 0;
}

/* In this order; the first finds out what the host has. Each returns an exit code. */
static int (*const checks[])(struct preflight *) = {
	check_listeners, check_chains, check_gateway_addresses, check_routes, check_resolvers,
	check_upstreams, check_marks,
};

int preflight_run(struct kernel *k, const struct args *a, const struct want *w, struct report *r)
{
	struct preflight p = {.kernel = k, .args = a, .want = w, .report = r};

	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		int code = checks[i](&p);

		if (code != 0)
			return code;
	}
	return 0;
}
