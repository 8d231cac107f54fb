/* SPDX-License-Identifier: MIT */
#include "policy/acl.h"

#include <errno.h>
#include <string.h>

#include "policy/name.h"

/* What no client out there can mean: it would reach this host, its link, or what the cloud trusts it with. Private
 * networks are not among them: in a data centre they may be the point. */
const struct acl_special acl_special[] = {
	{"0.0.0.0/8", "this network, unspecified"},
	{"100.64.0.0/10", "shared, carrier-grade NAT; metadata of Alibaba Cloud"},
	{"127.0.0.0/8", "loopback"},
	{"168.63.129.16/32", "metadata of Azure"},
	{"169.254.0.0/16", "link-local; metadata of most clouds"},
	{"192.0.0.192/32", "metadata of Oracle Cloud"},
	{"224.0.0.0/3", "multicast, reserved, broadcast"},
	{"::/96", "unspecified, loopback, IPv4-compatible"},
	{"64:ff9b:1::/48", "local NAT64, of any form"},
	{"2001::/32", "Teredo"},
	{"fd00:ec2::/32", "metadata and services of Amazon EC2"},
	{"fd20:ce::254/128", "metadata of Google Cloud"},
	{"fe80::/10", "link-local"},
	{"fec0::/10", "site-local, deprecated"},
	{"ff00::/8", "multicast"},
	{NULL, NULL},
};

static const char *const texts[] = {
	[ACL_ALLOWED] = "",
	[ACL_CLIENT] = "the client is not in incoming.allow_from",
	[ACL_SITE_UNKNOWN] = "not in outgoing.allow_sites",
	[ACL_SITE_DENIED] = "in outgoing.deny_sites",
	[ACL_PORT_DENIED] = "in outgoing.deny_ports",
	[ACL_NETWORK_DENIED] = "in outgoing.deny_networks",
	[ACL_NETWORK_SPECIAL] = "special-purpose, and not in outgoing.allow_anyway",
	[ACL_OWN_ADDRESS] = "an address of this host, and not in outgoing.allow_anyway",
};

static const char *const words[] = {
	[ACL_ALLOWED] = "",
	[ACL_CLIENT] = "allow_from",
	[ACL_SITE_UNKNOWN] = "allow_sites",
	[ACL_SITE_DENIED] = "deny_sites",
	[ACL_PORT_DENIED] = "deny_ports",
	[ACL_NETWORK_DENIED] = "deny_networks",
	[ACL_NETWORK_SPECIAL] = "special",
	[ACL_OWN_ADDRESS] = "own_address",
};

const char *acl_text(enum acl_verdict verdict)
{
	return texts[verdict];
}

const char *acl_word(enum acl_verdict verdict)
{
	return words[verdict];
}

/* --- building --- */

static int out_of_memory(struct diag *d)
{
	return diag_set(d, ENOMEM, NULL, 0, "out of memory");
}

static int networks_compile(struct prefix_set **out, const struct prefix_list *list, struct diag *d)
{
	struct prefix_set *set = prefix_set_new();
	int r = set != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; i < list->n && r == 0; i++)
		r = prefix_set_add(set, &list->prefixes[i]);
	if (r == 0)
		r = prefix_set_finish(set);
	if (r < 0) {
		prefix_set_free(set);
		return out_of_memory(d);
	}
	*out = set;
	return 0;
}

static int special_compile(struct prefix_set **out, struct diag *d)
{
	struct prefix prefixes[ARRAY_LEN(acl_special)];
	struct prefix_list list = {.prefixes = prefixes};

	while (acl_special[list.n].prefix != NULL) {
		BUG_ON(prefix_parse(&prefixes[list.n], acl_special[list.n].prefix) < 0);
		list.n++;
	}
	return networks_compile(out, &list, d);
}

static int site_add_addr(struct prefix_set *set, const struct addr *a)
{
	struct prefix p = {.family = a->family, .len = (uint8_t)(addr_len(a) * 8)};

	memcpy(p.ip, a->ip, sizeof(p.ip));
	return prefix_set_add(set, &p);
}

static int site_add(struct acl_sites *s, const char *entry, struct diag *d)
{
	struct addr addr;

	if (entry[0] == '\0')
		s->any_address = true;
	else if (addr_parse(&addr, entry) == 0)
		return site_add_addr(s->addrs, &addr) < 0 ? out_of_memory(d) : 0;
	else
		return domain_set_add(entry[0] == '.' ? s->below : s->names, entry, strlen(entry),
				      d);
	return 0;
}

static void sites_release(struct acl_sites *s)
{
	domain_set_free(s->names);
	domain_set_free(s->below);
	prefix_set_free(s->addrs);
	s->names = s->below = NULL;
	s->addrs = NULL;
	s->any_address = false;
}

static int sites_compile(struct acl_sites *s, struct diag *d)
{
	int r = 0;

	s->names = domain_set_new();
	s->below = domain_set_new();
	s->addrs = prefix_set_new();
	if (s->names == NULL || s->below == NULL || s->addrs == NULL)
		return out_of_memory(d);
	for (size_t i = 0; i < s->written.n && r == 0; i++)
		r = site_add(s, s->written.strings[i], d);
	if (r == 0 && prefix_set_finish(s->addrs) < 0)
		r = out_of_memory(d);
	return r;
}

int acl_compile(struct acl *l, struct diag *d)
{
	int r;

	acl_release(l);
	r = sites_compile(&l->allow_sites, d);
	if (r == 0)
		r = sites_compile(&l->deny_sites, d);
	if (r == 0)
		r = networks_compile(&l->clients, &l->allow_from, d);
	if (r == 0)
		r = networks_compile(&l->proxies, &l->trusted_proxies, d);
	if (r == 0)
		r = networks_compile(&l->denied, &l->deny_networks, d);
	if (r == 0)
		r = networks_compile(&l->anyway, &l->allow_anyway, d);
	if (r == 0)
		r = special_compile(&l->special, d);
	if (r < 0)
		acl_release(l);
	else
		l->enforced = true;
	return r;
}

void acl_release(struct acl *l)
{
	sites_release(&l->allow_sites);
	sites_release(&l->deny_sites);
	prefix_set_free(l->clients);
	prefix_set_free(l->proxies);
	prefix_set_free(l->denied);
	prefix_set_free(l->anyway);
	prefix_set_free(l->special);
	l->clients = l->proxies = l->denied = l->anyway = l->special = NULL;
	l->enforced = false;
}

/* --- asking --- */

enum acl_verdict acl_client(const struct acl *l, const struct addr *client,
			    const struct addr *listener)
{
	bool ok = l->allow_from.n > 0
			  ? prefix_set_contains(l->clients, client)
			  : l->passwords || addr_is_loopback(client) || addr_is_loopback(listener);

	return ok ? ACL_ALLOWED : ACL_CLIENT;
}

static bool sites_contain(const struct acl_sites *s, const char *name, const struct addr *dest)
{
	const char *dot;

	if (name == NULL)
		return s->any_address || prefix_set_contains(s->addrs, dest);
	if (domain_set_contains(s->names, name))
		return true;
	/* ".x" of this list is not x itself, of the set it is: so the set is asked about what the name is below. */
	dot = strchr(name, '.');
	return dot != NULL && domain_set_contains(s->below, dot + 1);
}

bool acl_is_proxy(const struct acl *l, const struct addr *peer)
{
	return prefix_set_contains(l->proxies, peer);
}

enum acl_verdict acl_claim(const struct acl *l, const char *name)
{
	return sites_contain(&l->deny_sites, name, NULL) ? ACL_SITE_DENIED : ACL_ALLOWED;
}

/* The IPv4 address that a translator would make of it, if it is one for translators. */
static bool addr_embedded(const struct addr *a, struct addr *v4)
{
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b}, to4[2] = {0x20, 0x02};
	static const uint8_t siit[12] = {[8] = 0xff, [9] = 0xff};

	if (a->family != AF_INET6)
		return false;
	if (memcmp(a->ip, nat64, sizeof(nat64)) == 0 || memcmp(a->ip, siit, sizeof(siit)) == 0)
		*v4 = addr_from_bytes(a->ip + 12, 4, 0);
	else if (memcmp(a->ip, to4, sizeof(to4)) == 0)
		*v4 = addr_from_bytes(a->ip + 2, 4, 0);
	else
		return false;
	return true;
}

enum acl_verdict acl_request(const struct acl *l, const char *name, const struct addr *dest,
			     uint16_t port)
{
	struct addr v4;

	if (sites_contain(&l->deny_sites, name, dest))
		return ACL_SITE_DENIED;
	if (name == NULL && addr_embedded(dest, &v4) && sites_contain(&l->deny_sites, NULL, &v4))
		return ACL_SITE_DENIED;
	if (l->allow_sites.written.n > 0 && !sites_contain(&l->allow_sites, name, dest))
		return ACL_SITE_UNKNOWN;
	return port_list_contains(&l->deny_ports, port) ? ACL_PORT_DENIED : ACL_ALLOWED;
}

static enum acl_verdict address_check(const struct acl *l, const struct addr *a,
				      const struct prefix_set *own)
{
	if (prefix_set_contains(l->denied, a))
		return ACL_NETWORK_DENIED;
	if (prefix_set_contains(l->anyway, a))
		return ACL_ALLOWED;
	if (prefix_set_contains(l->special, a))
		return ACL_NETWORK_SPECIAL;
	return prefix_set_contains(own, a) ? ACL_OWN_ADDRESS : ACL_ALLOWED;
}

enum acl_verdict acl_address(const struct acl *l, const struct addr *to,
			     const struct prefix_set *own)
{
	enum acl_verdict v = address_check(l, to, own);
	struct addr v4;

	if (v == ACL_ALLOWED && addr_embedded(to, &v4))
		v = address_check(l, &v4, own);
	return v;
}
