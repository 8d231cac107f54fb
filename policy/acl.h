/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who may use usocksd, and for what: the access control of usocksd.toml. Pure, and immutable once compiled: any
 * thread may ask. The configuration owns it.
 *
 * Three questions at three times: the client when it comes, what it asks for when that is known, and each address
 * before it is dialled, after names have been resolved, so that a name cannot lead where an address may not.
 */
#include <stdbool.h>

#include "policy/addr.h"
#include "policy/diag.h"
#include "policy/domain_set.h"
#include "policy/prefix_set.h"
#include "policy/redirect.h"

/* What refuses. */
enum acl_verdict {
	ACL_ALLOWED,
	ACL_CLIENT,          /* allow_from */
	ACL_SITE_UNKNOWN,    /* allow_sites, which does not have it */
	ACL_SITE_DENIED,     /* deny_sites */
	ACL_PORT_DENIED,     /* deny_ports */
	ACL_NETWORK_DENIED,  /* deny_networks */
	ACL_NETWORK_SPECIAL, /* acl_special, built in */
	ACL_OWN_ADDRESS,     /* of this host, built in */
	ACL_VERDICTS,
};

/* A constant sentence that names the option; "" for ACL_ALLOWED. */
const char *acl_text(enum acl_verdict verdict);
/* The option alone, "deny_ports"; or "special" and "own_address", which are built in. */
const char *acl_word(enum acl_verdict verdict);

/* A list of sites as the Go program's files have it: "x" is that name alone, ".x" all names below x but not x
 * itself, an address is a request for that address, "" is every request by address. */
struct acl_sites {
	struct string_list written;
	/* Compiled. */
	struct domain_set *names, *below;
	struct prefix_set *addrs;
	bool any_address;
};

struct acl {
	bool enforced;  /* false: transocksd, whose rules are [[rule]] */
	bool passwords; /* clients log in, so that they may come from everywhere */
	/* As written. */
	struct prefix_list allow_from, trusted_proxies, deny_networks, allow_anyway;
	struct acl_sites allow_sites, deny_sites;
	struct port_list deny_ports;
	/* Compiled. */
	struct prefix_set *clients, *proxies, *denied, *anyway, *special;
};

/* The networks that are refused unless allow_anyway opens them. Ends with a row whose prefix is NULL. */
struct acl_special {
	const char *prefix, *name;
};
extern const struct acl_special acl_special[];

/* From what is written; again is fine. 0, or -EINVAL or -ENOMEM with `d` (no file or line). */
int acl_compile(struct acl *l, struct diag *d);
/* Frees what acl_compile() built; the written fields belong to their options. */
void acl_release(struct acl *l);

/* ACL_ALLOWED or ACL_CLIENT. Without allow_from everybody may come who has to log in, else this host alone: who comes from or to a loopback
 * address. */
enum acl_verdict acl_client(const struct acl *l, const struct addr *client,
			    const struct addr *listener);

/* Whether a PROXY protocol header from there is believed. */
bool acl_is_proxy(const struct acl *l, const struct addr *peer);
/* A name that a trusted proxy passes on beside the request: its client may have said anything, so that it can be
 * denied by it, but not allowed. ACL_ALLOWED or ACL_SITE_DENIED. */
enum acl_verdict acl_claim(const struct acl *l, const char *name);

/* What a client asks for: `name` as name_normalise() gives it, or NULL and the address. */
enum acl_verdict acl_request(const struct acl *l, const char *name, const struct addr *dest,
			     uint16_t port);

/* An address that is to be dialled, and an IPv4 address that it stands for (NAT64 of 64:ff9b::/96, RFC 6052; 6to4,
 * RFC 3056). `own` are the addresses of this host. */
enum acl_verdict acl_address(const struct acl *l, const struct addr *to,
			     const struct prefix_set *own);
