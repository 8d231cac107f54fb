/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "rulemgr/listeners.h"

#define SYN "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"

/* The first bit of a QUIC packet is 1 while a connection is being made (RFC 9000 section 17.2); behind an
 * IPv4 header of any length, or an IPv6 header without extensions, and the 8 bytes of UDP. */
#define QUIC4 "0x0>>0x16&0x3c@0x8>>0x1f=0x1"
#define QUIC6 "0x30>>0x1f=0x1"

/* multiport takes so many, a range counts as two. */
#define PORTS_PER_RULE 15

/* A client's number below 100 has three digits, each by a hash of its own. Not ten and ten: iptables
 * 1.8.9 takes no node mask above 32. */
static const struct share_digit {
	unsigned nodes, weight;
	const char *seed;
} share_digits[] = {{4, 25, "0x74736f63"}, {5, 5, "0x6b736d73"}, {5, 1, "0x73686172"}};

/* nft(8)'s "dstnat", where other programs put what translates; at or before it ours comes first. */
#define PRIORITY_DSTNAT (-100)

static const struct redirect redirect_defaults = {.priority = -99, .share = 100};

static const struct redirect *redirect_of(const struct want *w)
{
	return w->redirect != NULL ? w->redirect : &redirect_defaults;
}

bool iptables_is_ours(const char *chain)
{
	static const char *const names[] = {"OUTPUT",  "PREROUTING", "FORWARDED",
					    "FORWARD", "SPECIAL",    "CONFIGURED",
					    "BYPASS",  "TAKE",       "GUARD"};
	static const char *const prefixes[] = {IPTABLES_TRIAL, IPTABLES_CHAINS};

	if (strcmp(chain, IPTABLES_PROBE) == 0 || strcmp(chain, IPTABLES_KEEP) == 0)
		return true;
	for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
		size_t len = strlen(prefixes[p]);

		for (size_t i = 0; strncmp(chain, prefixes[p], len) == 0 && i < ARRAY_LEN(names);
		     i++) {
			if (strcmp(chain + len, names[i]) == 0)
				return true;
		}
	}
	return false;
}

/* xtables_save_string() of iptables. */
void iptables_put_string(struct strbuf *out, const char *text)
{
	static const char plain[] = "_-0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t n = strspn(text, plain);

	if (n > 0 && text[n] == '\0') {
		strbuf_puts(out, text);
		return;
	}
	strbuf_putc(out, '"');
	for (; *text != '\0'; text++) {
		if (strchr("\"\\'", *text) != NULL)
			strbuf_putc(out, '\\');
		strbuf_putc(out, *text);
	}
	strbuf_putc(out, '"');
}

/* A trailing + would mean every interface that begins so, and there is no way to write it otherwise. */
static int check_gateways(const struct want *w, struct diag *d)
{
	for (size_t i = 0; i < w->n_gateways; i++) {
		const char *name = w->gateways[i];

		if (strpbrk(name, "\"'\\") != NULL || name[strlen(name) - 1] == '+')
			return diag_set(
				d, EINVAL, NULL, 0,
				"gateway \"%s\": iptables cannot name this interface; rename "
				"it, or use backend = \"nft\"",
				name);
	}
	return 0;
}

int iptables_check(const struct want *w, struct diag *d)
{
	if (redirect_of(w)->when_daemon_down == REDIRECT_DOWN_OPEN)
		return diag_set(d, EOPNOTSUPP, NULL, 0,
				"when_daemon_down = \"open\" needs nf_tables: iptables rules stay "
				"when their owner dies; use \"closed\", or backend = \"nft\"");
	return check_gateways(w, d);
}

/* ------------------------------------------------------------------------------------------------ */

struct build {
	const struct want *w;
	const struct redirect *redirect;
	int family;
	struct strbuf *out;
};

static int build_af(const struct build *b)
{
	return b->family == LISTENERS_IPV4 ? AF_INET : AF_INET6;
}

/* "-A CHAIN MATCHES -m comment --comment COMMENT TARGET". `matches` may be "". */
static void rule(const struct build *b, const char *chain, const char *matches, const char *comment,
		 const char *target)
{
	strbuf_printf(b->out, "-A %s %s%s-m comment --comment ", chain, matches,
		      matches[0] != '\0' ? " " : "");
	iptables_put_string(b->out, comment);
	strbuf_printf(b->out, " %s\n", target);
}

static void skip(const struct build *b, const char *chain, const char *matches, const char *comment)
{
	rule(b, chain, matches, comment, "-j RETURN");
}

static void skip_uint(const struct build *b, const char *chain, const char *match, unsigned value,
		      const char *comment)
{
	char text[64];

	snprintf(text, sizeof(text), "%s %u", match, value);
	skip(b, chain, text, comment);
}

/* "VALUE/MASK", as marks are printed: without a mask where all bits count. */
static const char *mark_text(struct mark m, char *out, size_t cap)
{
	if (m.mask == UINT32_MAX)
		snprintf(out, cap, "0x%x", m.value);
	else
		snprintf(out, cap, "0x%x/0x%x", m.value, m.mask);
	return out;
}

static void skip_mark(const struct build *b, const char *chain, struct mark m, const char *comment)
{
	char text[64], value[32];

	if (m.mask == 0)
		return;
	snprintf(text, sizeof(text), "-m mark --mark %s", mark_text(m, value, sizeof(value)));
	skip(b, chain, text, comment);
}

static void skip_marks(const struct build *b, const char *chain)
{
	skip_mark(b, chain, b->w->mark, "marked by transocksd or usocksd");
	for (size_t i = 0; i < b->redirect->exempt_marks.n; i++)
		skip_mark(b, chain, b->redirect->exempt_marks.marks[i], "exempt mark");
}

/* Only chains that see packets of this host know whose they are. */
static void skip_owners(const struct build *b, const char *chain)
{
	const struct want *w = b->w;
	struct strbuf path;

	skip_uint(b, chain, "-m owner --uid-owner", w->uid, "user of transocksd and usocksd");
	for (size_t i = 0; i < w->n_exempt_uids; i++)
		skip_uint(b, chain, "-m owner --uid-owner", w->exempt_uids[i], "exempt user");
	for (size_t i = 0; i < w->n_exempt_cgroups; i++) {
		strbuf_init_heap(&path);
		strbuf_puts(&path, "-m cgroup --path ");
		iptables_put_string(&path, w->exempt_cgroups[i].path);
		skip(b, chain, path.data, "exempt control group");
		strbuf_free(&path);
	}
}

static void skip_not_syn(const struct build *b, const char *chain)
{
	skip(b, chain, "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN",
	     "not the first packet of a connection");
}

/* Flows to a prefix, if it is of this family. */
static void rule_prefix(const struct build *b, const char *chain, const struct prefix *p,
			const char *comment, const char *target)
{
	char text[PREFIX_TEXT_MAX + 4] = "", prefix[PREFIX_TEXT_MAX];

	if (p->family != build_af(b))
		return;
	if (p->len > 0) /* iptables-save prints no match for "everywhere" */
		snprintf(text, sizeof(text), "-d %s", prefix_format(p, prefix, sizeof(prefix)));
	rule(b, chain, text, comment, target);
}

static void build_special(const struct build *b)
{
	static const char chain[] = "TRANSOCKS_SPECIAL", on[] = "-g TRANSOCKS_CONFIGURED";
	bool four = b->family == LISTENERS_IPV4;
	const struct special_prefix *s = four ? special_prefixes4 : special_prefixes6;
	size_t n = four ? n_special_prefixes4 : n_special_prefixes6;
	char comment[128];
	struct prefix p;

	skip(b, chain, "-m addrtype --dst-type LOCAL", "to an address of this host");
	for (size_t i = 0; i < b->redirect->redirect_anyway.n; i++)
		rule_prefix(b, chain, &b->redirect->redirect_anyway.prefixes[i], "redirect_anyway",
			    on);
	for (size_t i = 0; i < n; i++) {
		BUG_ON(prefix_parse(&p, s[i].prefix) < 0);
		snprintf(comment, sizeof(comment), "%s, %s", s[i].name, s[i].source);
		rule_prefix(b, chain, &p, comment, "-j RETURN");
	}
	rule(b, chain, "", "not special-purpose", on);
}

static void build_exceptions(const struct build *b)
{
	for (size_t i = 0; i < b->redirect->bypass.n; i++)
		rule_prefix(b, "TRANSOCKS_CONFIGURED", &b->redirect->bypass.prefixes[i],
			    "option bypass", "-j RETURN");
	rule(b, "TRANSOCKS_CONFIGURED", "", "not configured", "-g " IPTABLES_BYPASS);
	rule(b, IPTABLES_BYPASS, "", "no live exception", "-g " IPTABLES_TAKE);
}

static void skip_upstreams(const struct build *b)
{
	char text[ADDR_TEXT_MAX + 64], ip[ADDR_TEXT_MAX];

	for (size_t i = 0; i < b->w->n_upstreams; i++) {
		const struct addr *a = &b->w->upstreams[i];

		if (a->family != build_af(b))
			continue;
		inet_ntop(a->family, a->ip, ip, sizeof(ip));
		snprintf(text, sizeof(text), "-d %s/%zu -p tcp -m tcp --dport %u", ip,
			 addr_len(a) * 8, a->port);
		skip(b, IPTABLES_TAKE, text, "upstream");
	}
}

/* The match for "this digit is one of `mask`", or with `negate` none of them. */
static void put_digit(struct strbuf *sb, const struct share_digit *digit, bool negate,
		      unsigned mask)
{
	strbuf_printf(sb,
		      "%s-m cluster%s --cluster-local-nodemask 0x%08x --cluster-total-nodes %u "
		      "--cluster-hash-seed %s",
		      sb->len > 0 ? " " : "", negate ? " !" : "", mask, digit->nodes, digit->seed);
}

/* Clients whose number is `share` or more are left alone. xt_cluster hashes the source address of the flow
 * with a fixed seed: the same ones every time, and more of them with a larger share. One rule for each
 * digit: those before it are equal, this one is larger. */
static void skip_by_share(const struct build *b)
{
	static const char comment[] = "client outside the share";
	unsigned left = b->redirect->share;
	char text[512], equal[512] = "";
	struct strbuf sb, eq;

	if (left == 0)
		skip(b, IPTABLES_TAKE, "", comment);
	if (left >= 100)
		return;
	strbuf_init(&eq, equal, sizeof(equal));
	for (const struct share_digit *digit = share_digits; left > 0; digit++) {
		unsigned value = left / digit->weight;

		left %= digit->weight;
		/* Where no digit follows, an equal one is too large as well. */
		if (value + (left > 0) < digit->nodes) {
			strbuf_init(&sb, text, sizeof(text));
			strbuf_puts(&sb, equal);
			put_digit(&sb, digit, true, (1U << (value + (left > 0))) - 1);
			skip(b, IPTABLES_TAKE, text, comment);
		}
		put_digit(&eq, digit, false, 1U << value);
	}
}

/* What is done with a flow that is taken; `matches` chooses its ports. */
static void take(const struct build *b, const char *matches)
{
	static const char comment[] = "to transocksd";
	char text[64], mark[32];

	if (b->w->mode == REDIRECT_MODE_REDIRECT) {
		snprintf(text, sizeof(text), "-j REDIRECT --to-ports %u", b->w->port);
		rule(b, IPTABLES_TAKE, matches, comment, text);
		return;
	}
	snprintf(mark, sizeof(mark), "0x%x/0x%x", b->w->tproxy_mark.value, b->w->tproxy_mark.mask);
	snprintf(text, sizeof(text), "-j CONNMARK --set-xmark %s", mark);
	rule(b, IPTABLES_TAKE, matches, "known from now on", text);
	snprintf(text, sizeof(text), "-j MARK --set-xmark %s", mark);
	rule(b, IPTABLES_TAKE, matches, comment, text);
}

/* Appends a range; returns how many of the places of a rule it needs. */
static size_t put_ports(struct strbuf *sb, const struct port_range *r)
{
	if (r->first == r->last)
		strbuf_printf(sb, "%u", r->first);
	else
		strbuf_printf(sb, "%u:%u", r->first, r->last);
	return r->first == r->last ? 1 : 2;
}

static void take_by_ports(const struct build *b)
{
	static const char head[] = "-p tcp -m multiport --dports ";
	const struct port_list *l = &b->redirect->ports;
	struct strbuf sb;
	char text[256];

	if (l->n == 0) {
		take(b, "-p tcp");
		return;
	}
	for (size_t i = 0, used; i < l->n;) {
		strbuf_init(&sb, text, sizeof(text));
		strbuf_puts(&sb, head);
		used = put_ports(&sb, &l->ranges[i++]);
		while (i < l->n &&
		       used + (l->ranges[i].first == l->ranges[i].last ? 1 : 2) <= PORTS_PER_RULE) {
			strbuf_putc(&sb, ',');
			used += put_ports(&sb, &l->ranges[i++]);
		}
		take(b, text);
	}
	skip(b, IPTABLES_TAKE, "", "to another port");
}

/* From the first look at the destination to the verdict; the last chain is the caller's to fill. */
static void build_shared(const struct build *b)
{
	build_special(b);
	build_exceptions(b);
}

static void from_gateways(const struct build *b, const char *chain, const char *target)
{
	char text[IFNAMSIZ + 4];

	for (size_t i = 0; i < b->w->n_gateways; i++) {
		snprintf(text, sizeof(text), "-i %s", b->w->gateways[i]);
		rule(b, chain, text, "gateway interface", target);
	}
}

static void declare(const struct build *b, const char *chain)
{
	strbuf_printf(b->out, ":%s - [0:0]\n", chain);
}

static void declare_shared(const struct build *b)
{
	declare(b, "TRANSOCKS_SPECIAL");
	declare(b, "TRANSOCKS_CONFIGURED");
	declare(b, IPTABLES_BYPASS);
	declare(b, IPTABLES_TAKE);
}

/* The one jump from a chain of the kernel's, at its beginning or its end. */
static void jump(const struct build *b, bool first, const char *from, const char *to)
{
	strbuf_printf(b->out, "%s %s -m comment --comment transocks-rules -j %s\n",
		      first ? "-I" : "-A", from, to);
}

static const char to_special[] = "-g TRANSOCKS_SPECIAL";

static void build_nat(const struct build *b)
{
	static const char out[] = "TRANSOCKS_OUTPUT", pre[] = "TRANSOCKS_PREROUTING";
	bool first = b->redirect->priority <= PRIORITY_DSTNAT, gateway = b->w->n_gateways > 0;

	strbuf_puts(b->out, "*nat\n");
	declare(b, out);
	if (gateway)
		declare(b, pre);
	declare_shared(b);
	jump(b, first, "OUTPUT", out);
	if (gateway)
		jump(b, first, "PREROUTING", pre);
	skip(b, out, "! -p tcp", "not TCP");
	skip_not_syn(b, out);
	skip_marks(b, out);
	skip_owners(b, out);
	rule(b, out, "", "by destination", to_special);
	if (gateway) {
		skip(b, pre, "! -p tcp", "not TCP");
		skip_not_syn(b, pre);
		skip_marks(b, pre);
		from_gateways(b, pre, to_special);
	}
	build_shared(b);
	skip_upstreams(b);
	skip_by_share(b);
	take_by_ports(b);
	strbuf_puts(b->out, "COMMIT\n");
}

/* Packets of flows that were taken keep the mark that routes them here; only first packets are judged.
 * A connection that was there before has no mark and is left alone. */
static void build_mangle_output(const struct build *b, const char *mark)
{
	static const char out[] = "TRANSOCKS_OUTPUT";
	char match[64], set[64];

	snprintf(match, sizeof(match), "-m connmark --mark %s", mark);
	snprintf(set, sizeof(set), "-j MARK --set-xmark 0x%x/0x%x", b->w->tproxy_mark.value,
		 b->w->tproxy_mark.mask);
	skip(b, out, "! -p tcp", "not TCP");
	skip(b, out, "-m conntrack --ctdir REPLY", "answers");
	rule(b, out, match, "of a flow that was taken", set);
	skip(b, out, match, "of a flow that was taken");
	skip_not_syn(b, out);
	skip_marks(b, out);
	skip_owners(b, out);
	rule(b, out, "", "by destination", to_special);
}

/* TPROXY must be the last word of a chain that only PREROUTING reaches, so what decides only marks. */
static void build_mangle_prerouting(const struct build *b, const char *mark)
{
	static const char pre[] = "TRANSOCKS_PREROUTING", forwarded[] = "TRANSOCKS_FORWARDED";
	char match[128], text[128];

	skip(b, pre, "! -p tcp", "not TCP");
	snprintf(text, sizeof(text), "-j MARK --set-xmark 0x%x/0x%x", b->w->tproxy_mark.value,
		 b->w->tproxy_mark.mask);
	rule(b, pre, "-p tcp -m socket --transparent", "of a flow that was taken", text);
	skip(b, pre, "-p tcp -m socket --transparent", "of a flow that was taken");
	from_gateways(b, pre, "-j TRANSOCKS_FORWARDED");
	snprintf(match, sizeof(match), SYN " -m mark --mark %s", mark);
	snprintf(text, sizeof(text), "-j TPROXY --on-port %u --on-ip %s --tproxy-mark 0x%x/0x%x",
		 b->w->port,
		 b->family == LISTENERS_IPV4 ? "0.0.0.0" : "::", b->w->tproxy_mark.value,
		 b->w->tproxy_mark.mask);
	rule(b, pre, match, "to transocksd", text);
	if (b->w->n_gateways > 0) {
		skip_not_syn(b, forwarded);
		skip_marks(b, forwarded);
		rule(b, forwarded, "", "by destination", to_special);
	}
}

static void build_mangle(const struct build *b)
{
	bool first = b->redirect->priority <= PRIORITY_DSTNAT;
	char mark[32];

	mark_text(b->w->tproxy_mark, mark, sizeof(mark));
	strbuf_puts(b->out, "*mangle\n");
	declare(b, "TRANSOCKS_OUTPUT");
	declare(b, "TRANSOCKS_PREROUTING");
	if (b->w->n_gateways > 0)
		declare(b, "TRANSOCKS_FORWARDED");
	declare_shared(b);
	jump(b, first, "OUTPUT", "TRANSOCKS_OUTPUT");
	jump(b, first, "PREROUTING", "TRANSOCKS_PREROUTING");
	build_mangle_output(b, mark);
	build_mangle_prerouting(b, mark);
	build_shared(b);
	skip_upstreams(b);
	skip_by_share(b);
	take_by_ports(b);
	strbuf_puts(b->out, "COMMIT\n");
}

/* A connection made to the port itself has the daemon's own address as original destination: it would
 * dial itself without end. */
static void build_guard(const struct build *b)
{
	char text[192];

	snprintf(text, sizeof(text),
		 "-p tcp -m tcp --dport %u --tcp-flags FIN,SYN,RST,ACK SYN -m %s", b->w->port,
		 b->w->mode == REDIRECT_MODE_REDIRECT
			 ? "conntrack ! --ctstate DNAT --ctdir ORIGINAL"
			 : "addrtype --dst-type LOCAL");
	rule(b, "TRANSOCKS_GUARD", text, "direct connection to the redirect port",
	     "-j REJECT --reject-with tcp-reset");
}

/* QUIC is refused only where TCP to the same port would be taken. */
static bool wants_quic(const struct build *b)
{
	const struct port_list *l = &b->redirect->ports;
	bool taken = l->n == 0;

	for (size_t i = 0; i < l->n; i++)
		taken = taken || (l->ranges[i].first <= 443 && 443 <= l->ranges[i].last);
	return taken && b->redirect->quic == REDIRECT_QUIC_REJECT;
}

static void skip_not_quic(const struct build *b, const char *chain)
{
	skip(b, chain, "! -p udp", "not UDP");
	skip(b, chain, "-p udp -m udp ! --dport 443", "not to port 443");
	skip(b, chain,
	     b->family == LISTENERS_IPV4 ? "-m u32 ! --u32 \"" QUIC4 "\""
					 : "-m u32 ! --u32 \"" QUIC6 "\"",
	     "not a new QUIC connection");
}

static void build_quic(const struct build *b)
{
	static const char out[] = "TRANSOCKS_OUTPUT", forward[] = "TRANSOCKS_FORWARD";

	skip_not_quic(b, out);
	skip_marks(b, out);
	skip_owners(b, out);
	rule(b, out, "", "by destination", to_special);
	if (b->w->n_gateways > 0) {
		skip_not_quic(b, forward);
		skip_marks(b, forward);
		from_gateways(b, forward, to_special);
	}
	build_shared(b);
	skip_by_share(b);
	rule(b, IPTABLES_TAKE, "", "QUIC, TCP is to be used",
	     b->family == LISTENERS_IPV4 ? "-j REJECT --reject-with icmp-port-unreachable"
					 : "-j REJECT --reject-with icmp6-port-unreachable");
}

/* Before the host's own filter, which may accept all of it. */
static void build_filter(const struct build *b)
{
	bool quic = wants_quic(b), gateway = b->w->n_gateways > 0;

	strbuf_puts(b->out, "*filter\n");
	declare(b, "TRANSOCKS_GUARD");
	if (quic)
		declare(b, "TRANSOCKS_OUTPUT");
	if (quic && gateway)
		declare(b, "TRANSOCKS_FORWARD");
	if (quic)
		declare_shared(b);
	jump(b, true, "INPUT", "TRANSOCKS_GUARD");
	if (quic)
		jump(b, true, "OUTPUT", "TRANSOCKS_OUTPUT");
	if (quic && gateway)
		jump(b, true, "FORWARD", "TRANSOCKS_FORWARD");
	build_guard(b);
	if (quic)
		build_quic(b);
	strbuf_puts(b->out, "COMMIT\n");
}

void iptables_build(const struct want *w, int family, struct strbuf *out)
{
	struct build b = {.w = w, .redirect = redirect_of(w), .family = family, .out = out};

	if (!w->family[family])
		return;
	build_filter(&b);
	if (w->mode == REDIRECT_MODE_TPROXY)
		build_mangle(&b);
	else
		build_nat(&b);
}

void iptables_print(const struct want *w, struct strbuf *out)
{
	static const char *const program[] = {
		[LISTENERS_IPV4] = "iptables-restore",
		[LISTENERS_IPV6] = "ip6tables-restore",
	};

	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		strbuf_printf(out, "# %s --noflush%s\n", program[f],
			      w->family[f] ? "" : ": nothing, the family is not taken");
		iptables_build(w, f, out);
	}
}
