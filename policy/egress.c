/* SPDX-License-Identifier: MIT */
#include "policy/egress.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "policy/name.h"

bool egress_is_address(const struct prefix *p)
{
	return p->len == (p->family == AF_INET ? 32 : 128);
}

static struct addr prefix_first(const struct prefix *p)
{
	return addr_from_bytes(p->ip, p->family == AF_INET ? 4 : 16, 0);
}

static int address_parse(struct prefix *p, const char *text, const char **why)
{
	struct addr a;

	if (addr_parse(&a, text) == 0) {
		*p = (struct prefix){.family = a.family, .len = (uint8_t)(addr_len(&a) * 8)};
		memcpy(p->ip, a.ip, sizeof(p->ip));
	} else if (prefix_parse(p, text) < 0) {
		*why = "an IP address, or an IPv6 prefix such as \"2001:db8:1::/64\" (host bits "
		       "zero)";
		return -EINVAL;
	}
	a = prefix_first(p);
	*why = "an address: leave the option out, and the kernel chooses";
	if (egress_is_address(p))
		return addr_is_any(&a) ? -EINVAL : 0;
	*why = "an IPv6 prefix of 16 bits or more; write IPv4 addresses one by one";
	return p->family == AF_INET || p->len < 16 || a.family == AF_INET ? -EINVAL : 0;
}

/* " weight=2" */
static int weight_parse(unsigned *weight, const char *text)
{
	static const char key[] = "weight=";
	uint16_t n;

	text += strspn(text, " ");
	if (strncmp(text, key, strlen(key)) != 0 || port_parse(&n, text + strlen(key)) < 0 ||
	    n < 1 || n > EGRESS_WEIGHT_MAX)
		return -EINVAL;
	*weight = n;
	return 0;
}

int egress_entry_parse(struct egress_entry *e, const char *text, const char **why)
{
	size_t n = strcspn(text, " ");
	struct egress_entry parsed = {.weight = 1};
	char address[PREFIX_TEXT_MAX];

	*why = "an IP address";
	if (n >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, n);
	address[n] = '\0';
	if (address_parse(&parsed.prefix, address, why) < 0)
		return -EINVAL;
	*why = "an address with a weight 1..1000, such as \"203.0.113.10 weight=2\"";
	if (text[n] != '\0' && weight_parse(&parsed.weight, text + n) < 0)
		return -EINVAL;
	*e = parsed;
	return 0;
}

const char *egress_prefix_format(const struct prefix *p, char *out, size_t cap)
{
	const struct addr a = prefix_first(p);

	return egress_is_address(p) ? addr_format_ip(&a, out, cap) : prefix_format(p, out, cap);
}

const char *egress_entry_format(const struct egress_entry *e, char *out, size_t cap)
{
	char text[PREFIX_TEXT_MAX];

	egress_prefix_format(&e->prefix, text, sizeof(text));
	if (e->weight == 1)
		snprintf(out, cap, "%s", text);
	else
		snprintf(out, cap, "%s weight=%u", text, e->weight);
	return out;
}

struct addr egress_address(const struct prefix *p, const struct addr *client)
{
	struct addr a = prefix_first(p);
	XXH128_hash_t hash;
	uint8_t bytes[16];
	bool zero = true;

	if (egress_is_address(p))
		return a;
	hash = XXH3_128bits_withSeed(client->ip, addr_len(client), XXH3_64bits(p, sizeof(*p)));
	XXH128_canonicalFromHash((XXH128_canonical_t *)bytes, hash);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		int fixed = (int)p->len - (int)i * 8;
		uint8_t host = fixed >= 8 ? 0 : fixed <= 0 ? 0xff : (uint8_t)(0xff >> fixed);

		a.ip[i] |= bytes[i] & host;
		zero &= (a.ip[i] & host) == 0;
	}
	a.ip[15] |= zero;
	return a;
}

static int iface_check(const struct egress_conf *c, const char *file, struct diag *d)
{
	size_t n = strlen(c->iface);

	/* As the kernel's dev_valid_name(). */
	if (n < IFNAMSIZ && strcspn(c->iface, "/: ") == n && strcmp(c->iface, ".") != 0 &&
	    strcmp(c->iface, "..") != 0)
		return 0;
	return diag_set(d, EINVAL, file, 0,
			"option \"outgoing.iface\": \"%s\" is not the name of an interface (up to "
			"15 bytes, no '/', ':', blank)",
			c->iface);
}

static int dnsbl_check(const struct egress_conf *c, const char *file, struct diag *d)
{
	size_t n = strlen(c->dnsbl_domain);
	char name[NAME_MAX_LEN + 1];
	struct addr literal;

	if (n == 0 ||
	    (n <= EGRESS_DNSBL_MAX && name_normalise(c->dnsbl_domain, n, name, &literal) == 0))
		return 0;
	return diag_set(d, EINVAL, file, 0,
			"option \"outgoing.dnsbl_domain\": \"%s\" is not the name of a blocklist, "
			"such as \"zen.example.org\", of up to %d bytes",
			c->dnsbl_domain, EGRESS_DNSBL_MAX);
}

static int users_compile(struct egress_users *u, struct diag *d)
{
	int r = 0;

	prefix_set_free(u->set);
	u->set = prefix_set_new();
	if (u->set == NULL)
		r = -ENOMEM;
	for (size_t i = 0; i < u->clients.n && r == 0; i++)
		r = prefix_set_add(u->set, &u->clients.prefixes[i]);
	if (r == 0)
		r = prefix_set_finish(u->set);
	return r == 0 ? 0 : diag_set(d, ENOMEM, NULL, 0, "out of memory");
}

int egress_finish(struct egress_conf *c, const char *file, struct diag *d)
{
	int r = iface_check(c, file, d);

	if (r == 0)
		r = dnsbl_check(c, file, d);
	for (size_t i = 0; i < c->n_users && r == 0; i++) {
		struct egress_users *u = &c->users[i];

		if (u->clients.n + u->users.n > 0 && u->addresses.n > 0)
			r = users_compile(u, d);
		else
			r = diag_set(d, EINVAL, u->place.file, u->place.line,
				     "[[outgoing.users]] without %s",
				     u->addresses.n == 0 ? "\"addresses\""
							 : "\"clients\" or \"users\"");
	}
	return r;
}

static int users_check(const struct egress_users *u, const struct users *known, struct diag *d)
{
	for (size_t i = 0; i < u->users.n; i++) {
		const char *name = u->users.strings[i];

		if (known == NULL)
			return diag_set(
				d, EINVAL, u->place.file, u->place.line,
				"[[outgoing.users]] with \"users\", but without \"auth.file\" "
				"nobody logs in");
		if (users_find(known, name, strlen(name)) == NULL)
			return diag_set(
				d, EINVAL, u->place.file, u->place.line,
				"[[outgoing.users]]: there is no user \"%s\" in the file that "
				"\"auth.file\" names",
				name);
	}
	return 0;
}

int egress_check_users(const struct egress_conf *c, const struct users *known, struct diag *d)
{
	int r = 0;

	for (size_t i = 0; i < c->n_users && r == 0; i++)
		r = users_check(&c->users[i], known, d);
	return r;
}

void egress_release(struct egress_conf *c)
{
	for (size_t i = 0; i < c->n_users; i++) {
		prefix_set_free(c->users[i].set);
		c->users[i].set = NULL;
	}
}

static int order_name(const void *name, const void *string)
{
	return strcmp(name, *(char *const *)string);
}

static bool users_has(const struct string_list *users, const char *user)
{
	return user != NULL &&
	       bsearch(user, users->strings, users->n, sizeof(*users->strings), order_name) != NULL;
}

size_t egress_users_of(const struct egress_conf *c, const struct addr *client, const char *user)
{
	for (size_t i = 0; i < c->n_users; i++) {
		const struct egress_users *u = &c->users[i];

		if ((u->clients.n == 0 || prefix_set_contains(u->set, client)) &&
		    (u->users.n == 0 || users_has(&u->users, user)))
			return i;
	}
	return EGRESS_NO_USERS;
}
