/* SPDX-License-Identifier: MIT */
/*
 * What is allowed and probably not meant: the notes of --check.
 */
#include <string.h>
#include <sys/stat.h>

#include "policy/conf_sections.h"

static bool is_set(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static void remark(const struct place *at, struct strbuf *out, const char *what)
{
	strbuf_printf(out, "%s:%d: note: %s\n", at->file, at->line, what);
}

static bool rule_has_domains(const struct flow_rule *r)
{
	return r->domains.n > 0 || is_set(r->domains_file);
}

static bool rule_has_networks(const struct flow_rule *r)
{
	return r->networks.n > 0 || is_set(r->networks_file);
}

/* Whether a flow that the rule is about can have a name. */
static bool rule_meets_sniff_ports(const struct conf *c, const struct flow_rule *r)
{
	const struct port_list *sniff = &c->sniff.ports;

	if (r->ports.n == 0)
		return sniff->n > 0;
	for (size_t i = 0; i < r->ports.n; i++) {
		for (size_t j = 0; j < sniff->n; j++) {
			if (r->ports.ranges[i].first <= sniff->ranges[j].last &&
			    sniff->ranges[j].first <= r->ports.ranges[i].last)
				return true;
		}
	}
	return false;
}

static void remark_domains(const struct conf *c, const struct flow_rule *r, struct strbuf *out)
{
	if (c->sniff.ports.n == 0)
		remark(&r->place, out,
		       "\"sniff.ports\" is empty, so no name is known and this rule on domains "
		       "never matches");
	else if (!rule_meets_sniff_ports(c, r))
		remark(&r->place, out,
		       "none of its ports is one of \"sniff.ports\", so no name is known there and "
		       "this rule on domains never matches");
	else if (r->unknown_name == RULE_UNKNOWN_AUTO && r->action == RULE_REFUSE && !r->observe)
		remark(&r->place, out,
		       "this rule also refuses what has no name on \"sniff.ports\"; if only these "
		       "domains are meant: unknown_name = \"skip\"");
}

/* The first upstream that is told names whatever rule has decided; NULL: none. */
static const struct upstream_conf *upstream_told_names(const struct conf *c)
{
	for (size_t i = 0; i < c->n_upstreams; i++) {
		const struct upstream_conf *u = &c->upstreams[i];

		if (proxy_scheme_is_proxy(u->url.scheme) && u->address == UPSTREAM_ADDRESS_NAME)
			return u;
	}
	return NULL;
}

static void remark_networks(const struct conf *c, const struct flow_rule *r, struct strbuf *out)
{
	const struct upstream_conf *u = upstream_told_names(c);

	if (u == NULL || r->observe || r->action != RULE_REFUSE || rule_has_domains(r) ||
	    !rule_meets_sniff_ports(c, r))
		return;
	strbuf_printf(
		out,
		"%s:%d: note: upstream \"%s\" is told names and resolves them: a client gets to "
		"these networks by another address and a name that leads there; refuse them "
		"at the upstream as well, or write address = \"auto\"\n",
		r->place.file, r->place.line, u->name);
}

/* Whether the rule decides about every flow. */
static bool rule_is_last(const struct flow_rule *r)
{
	return !r->observe && !conf_rule_has_conditions(r);
}

static bool is_open_to_all(const char *file)
{
	struct stat st;

	return stat(file, &st) == 0 && (st.st_mode & S_IROTH) != 0;
}

static void remark_password(const struct proxy_url *url, const struct place *at, const char *option,
			    struct strbuf *out)
{
	if (at->file == NULL || url->password[0] == '\0' || !is_open_to_all(at->file))
		return;
	strbuf_printf(out,
		      "%s:%d: note: \"%s\" has a password, and everybody may read this file: "
		      "chmod o-rwx, or \"upstream.auth_file\"\n",
		      at->file, at->line, option);
}

static void remark_passwords(const struct conf *c, struct strbuf *out)
{
	remark_password(&c->proxy_url, &c->proxy_url_place, "proxy_url", out);
	for (size_t i = 0; i < c->n_upstreams; i++) {
		const struct upstream_conf *u = &c->upstreams[i];
		struct place at = conf_upstream_place(u, "url");

		/* What an auth_file says has the place of the URL, and is closed to others. */
		if (!is_set(u->auth_file))
			remark_password(&u->url, &at, "upstream.url", out);
	}
}

/* Whether the list has anything that can be the source of a connection to that loopback address. */
static bool has_loopback(const struct prefix_list *list, const struct addr *listener)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct prefix *p = &list->prefixes[i];
		struct addr first = addr_from_bytes(p->ip, p->family == AF_INET ? 4 : 16, 0);

		if (p->family == listener->family &&
		    (addr_is_loopback(&first) || prefix_contains(p, listener)))
			return true;
	}
	return false;
}

static void remark_clients(const struct conf *c, struct strbuf *out)
{
	if (c->acl.allow_from.n == 0 || c->incoming.addresses.n == 0)
		return;
	for (size_t i = 0; i < c->listen.n; i++) {
		const struct addr *a = &c->listen.addrs[i];

		if (!addr_is_loopback(a) || has_loopback(&c->acl.allow_from, a) ||
		    has_loopback(&c->acl.trusted_proxies, a))
			return;
	}
	remark(&c->incoming.addresses_place, out,
	       "only this host's programs come to these loopback addresses, and "
	       "\"incoming.allow_from\" has no loopback address, so nobody is served: add the own "
	       "address that clients connect to, or \"127.0.0.0/8\" and \"::1\" to allow_from");
}

void conf_remarks(const struct conf *c, struct strbuf *out)
{
	const struct flow_rules *list = &c->rules;

	remark_passwords(c, out);
	remark_clients(c, out);
	for (size_t i = 0; i < list->n; i++) {
		const struct flow_rule *r = &list->rules[i];

		if (rule_has_domains(r) && r->unknown_name != RULE_UNKNOWN_MATCH)
			remark_domains(c, r, out);
		if (rule_has_networks(r))
			remark_networks(c, r, out);
		if (i + 1 < list->n && rule_is_last(r)) {
			remark(&list->rules[i + 1].place, out,
			       "this rule and those behind it are never reached: the one before "
			       "has no conditions and decides about every flow");
			return;
		}
	}
}
