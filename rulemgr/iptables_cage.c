/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_cage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <string.h>

#include "rulemgr/iptables_run.h"
#include "rulemgr/lock.h"

#define SYN "--tcp-flags FIN,SYN,RST,ACK SYN"

/* A signal that ends a whole process group ends iptables-restore as well. */
#define REMOVAL_ATTEMPTS 3

static const char marked[] = "marked", untouched[] = "untouched", elsewhere[] = "elsewhere";
/* A copy of the probe, or an answer to it: both are not the probe itself. */
static const char other[] = "other";
/* And "redirected 1081". */
static const char redirected[] = "redirected ";

static void put_rule(struct strbuf *body, const char *match, const char *comment, unsigned port,
		     const char *target)
{
	char number[16] = "";

	if (port > 0)
		snprintf(number, sizeof(number), "%u", port);
	strbuf_printf(body, "-A %s %s-m comment --comment \"%s%s\" -j %s\n", IPTABLES_PROBE, match,
		      comment, number, target);
}

/* The mark that TPROXY takes flows with, as its rule has it; NULL: there is none. */
static const char *find_mark(const struct iptables_text *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const char *at = t->lines[i].kind == IPTABLES_RULE
					 ? strstr(t->lines[i].rest, "--tproxy-mark ")
					 : NULL;

		if (at != NULL)
			return at + strlen("--tproxy-mark ");
	}
	return NULL;
}

struct building {
	struct strbuf *body;
	const struct probe *p;
	const struct iptables_have *have;
	int family;
};

/* One rule for an address of this host that a flow may be redirected to. */
static void put_redirected(const struct building *b, const struct addr *to)
{
	char match[256], ip[ADDR_TEXT_MAX];

	inet_ntop(to->family, to->ip, ip, sizeof(ip));
	for (size_t i = 0; i < b->have->n_ports; i++) {
		snprintf(match, sizeof(match),
			 "-d %s -p tcp -m tcp --dport %u -m conntrack --ctstate DNAT ", ip,
			 b->have->ports[i]);
		put_rule(b->body, match, redirected, b->have->ports[i], "DROP");
	}
}

/* Flows of this host are redirected to its loopback address, others to one of the interface that they come in by. */
static void put_all_redirected(const struct building *b)
{
	struct addr loopback;
	struct ifaddrs *all;

	if (!probe_is_forwarded(b->p)) {
		BUG_ON(addr_parse(&loopback, b->family == LISTENERS_IPV4 ? "127.0.0.1" : "::1") <
		       0);
		put_redirected(b, &loopback);
		return;
	}
	if (getifaddrs(&all) < 0)
		return;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		struct addr own;

		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != b->p->to.family ||
		    strcmp(i->ifa_name, b->p->in) != 0)
			continue;
		own = addr_from_sockaddr(i->ifa_addr);
		put_redirected(b, &own);
	}
	freeifaddrs(all);
}

static void put_counting(const struct building *b)
{
	const char *mark = find_mark(&b->have->text[b->family]);
	char match[256], to[ADDR_TEXT_MAX + 4], ip[ADDR_TEXT_MAX];

	inet_ntop(b->p->to.family, b->p->to.ip, ip, sizeof(ip));
	snprintf(to, sizeof(to), "-d %s", ip);
	if (mark == NULL)
		put_all_redirected(b);
	else {
		snprintf(match, sizeof(match), "%s %s-m mark --mark %.*s ", to,
			 probe_is_forwarded(b->p) ? "" : "-o lo ", (int)strcspn(mark, " "), mark);
		put_rule(b->body, match, marked, 0, "DROP");
	}
	snprintf(match, sizeof(match), "%s -p tcp -m tcp --dport %u ", to, b->p->to.port);
	put_rule(b->body, match, untouched, 0, "DROP");
	put_rule(b->body, "", elsewhere, 0, "DROP");
}

static void put_jump(const struct building *b, const char *chain, const char *match)
{
	strbuf_printf(b->body, "-I %s 1 %s -j %s\n", chain, match, IPTABLES_PROBE);
}

/* It is seen where it has been routed. What the kernel
 * answers, for example that there is no route, must not get to the host whose address it bears. */
static void put_forwarded(const struct building *b)
{
	bool four = b->family == LISTENERS_IPV4;
	char match[256], from[ADDR_TEXT_MAX];

	inet_ntop(b->p->from.family, b->p->from.ip, from, sizeof(from));
	snprintf(match, sizeof(match), "! -i %s ", b->p->in);
	put_rule(b->body, match, other, 0, "DROP");
	put_counting(b);
	snprintf(match, sizeof(match), "-s %s -p tcp -m tcp --sport %u " SYN, from,
		 b->p->from.port);
	put_jump(b, "INPUT", match);
	put_jump(b, "FORWARD", match);
	put_jump(b, "POSTROUTING", match);
	snprintf(match, sizeof(match), "-d %s -p tcp -m tcp --dport %u", from, b->p->from.port);
	put_jump(b, "OUTPUT", match);
	snprintf(match, sizeof(match), "-d %s %s", from,
		 four ? "-p icmp -m icmp --icmp-type destination-unreachable"
		      : "-p ipv6-icmp -m icmp6 --icmpv6-type destination-unreachable");
	put_jump(b, "OUTPUT", match);
}

/* Last of all, since there it is known which interface it leaves by. Its port belongs to no other socket of this
 * host; that of a client behind a gateway may be the same. */
static void put_own(const struct building *b, bool local)
{
	char match[128];

	if (local) {
		put_rule(b->body, "-o lo ", "stays", 0, "RETURN");
		put_rule(b->body, "", elsewhere, 0, "DROP");
	} else {
		put_rule(b->body, "-m owner ! --socket-exists ", other, 0, "DROP");
		put_counting(b);
	}
	snprintf(match, sizeof(match),
		 "-p tcp -m tcp --sport %u " SYN " -m addrtype --src-type LOCAL", b->p->from.port);
	put_jump(b, "POSTROUTING", match);
}

/* Of any cage, also of a process that was killed; *by: whose programs it goes on with. 1: there was none. */
static int sweep(int family, const char **by, struct diag *d)
{
	struct iptables_have have;
	struct strbuf body;
	bool found = false;
	int r = iptables_read(&have, d);

	if (r < 0)
		return r;
	*by = have.by;
	strbuf_init_heap(&body);
	strbuf_puts(&body, "*mangle\n");
	for (size_t i = 0; i < have.text[family].n; i++) {
		const struct iptables_line *l = &have.text[family].lines[i];

		if (!iptables_line_is_probe(l) || strcmp(l->table, "mangle") != 0)
			continue;
		found = true;
		if (l->kind == IPTABLES_JUMP)
			strbuf_printf(&body, "-D %s %s\n", l->chain, l->rest);
	}
	if (found)
		strbuf_printf(&body, "-F %s\n-X %s\nCOMMIT\n", IPTABLES_PROBE, IPTABLES_PROBE);
	r = found ? iptables_restore(family, have.by, &body, false, d) : 1;
	strbuf_free(&body);
	iptables_have_free(&have);
	return r;
}

int iptables_cage_open(struct iptables_cage *c, const struct probe *p,
		       const struct iptables_have *have, bool local, struct diag *d)
{
	const char *by;
	struct strbuf body;
	int r, family = p->to.family == AF_INET ? LISTENERS_IPV4 : LISTENERS_IPV6;
	struct building b = {.body = &body, .p = p, .have = have, .family = family};

	*c = (struct iptables_cage){.family = family, .lock = lock_take(d)};
	if (c->lock == -EBUSY)
		return c->lock;
	c->open = true;
	r = sweep(family, &by, d);
	if (r >= 0) {
		strbuf_init_heap(&body);
		strbuf_printf(&body, "*mangle\n:%s - [0:0]\n", IPTABLES_PROBE);
		if (probe_is_forwarded(p))
			put_forwarded(&b);
		else
			put_own(&b, local);
		strbuf_puts(&body, "COMMIT\n");
		r = body.truncated ? diag_set(d, ENOMEM, NULL, 0, "out of memory")
				   : iptables_restore(family, by, &body, false, d);
		strbuf_free(&body);
	}
	if (r < 0) {
		struct diag ignored;

		iptables_cage_close(c, &ignored);
	}
	return r;
}

/* From "-d 127.0.0.1/32 -p tcp -m tcp --dport 1081 ...". */
static bool read_arrival(const char *rest, struct addr *out)
{
	const char *port = strstr(rest, "--dport ");
	char ip[ADDR_TEXT_MAX];

	if (port == NULL || sscanf(rest, "-d %63[0-9a-f.:]", ip) != 1 || addr_parse(out, ip) < 0)
		return false;
	out->port = (uint16_t)strtoul(port + strlen("--dport "), NULL, 10);
	return true;
}

enum iptables_fate iptables_cage_fate(const struct iptables_cage *c,
				      const struct iptables_have *have, struct addr *arrives)
{
	const struct iptables_text *t = &have->text[c->family];
	enum iptables_fate fate = IPTABLES_FATE_NONE;
	char comment[64];

	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (l->kind != IPTABLES_RULE || l->packets == 0 || !iptables_line_is_probe(l))
			continue;
		iptables_line_comment(l, comment, sizeof(comment));
		if (strcmp(comment, marked) == 0)
			fate = IPTABLES_FATE_MARKED;
		else if (strcmp(comment, untouched) == 0)
			fate = IPTABLES_FATE_UNTOUCHED;
		else if (strcmp(comment, elsewhere) == 0)
			fate = IPTABLES_FATE_ELSEWHERE;
		else if (strncmp(comment, redirected, strlen(redirected)) == 0 &&
			 read_arrival(l->rest, arrives))
			fate = IPTABLES_FATE_REDIRECTED;
	}
	return fate;
}

int iptables_cage_close(struct iptables_cage *c, struct diag *d)
{
	int r = c->open ? -EAGAIN : 0;
	const char *by;

	for (int i = 0; r < 0 && i < REMOVAL_ATTEMPTS; i++)
		r = sweep(c->family, &by, d);
	if (c->open)
		lock_drop(c->lock);
	c->open = false;
	return r < 0 ? r : 0;
}
