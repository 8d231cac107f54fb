/* SPDX-License-Identifier: MIT */
#include "rulemgr/want_sets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "rulemgr/ranges.h"

/* Adds an empty set. NULL: no memory. */
static struct set *begin_set(struct model *m, const char *name, enum set_type type,
			     const char *comment)
{
	struct set *s = model_add_set(m, name, type);

	if (s != NULL)
		snprintf(s->comment, sizeof(s->comment), "%s", comment);
	return s;
}

static int add_prefix(struct set *s, const struct prefix *p, const char *comment)
{
	struct element e = {.comment = ""};

	prefix_bounds(p, e.first, e.last);
	snprintf(e.comment, sizeof(e.comment), "%s", comment);
	return set_add_element(s, &e);
}

/* A key of one part, `len` bytes. */
static int add_key(struct set *s, const void *key, size_t len, const char *comment)
{
	struct element e = {.comment = ""};

	memcpy(e.first, key, len);
	memcpy(e.last, key, len);
	snprintf(e.comment, sizeof(e.comment), "%s", comment);
	return set_add_element(s, &e);
}

static uint8_t family_of(enum set_type type)
{
	return type == SET_IPV4 || type == SET_IPV4_PORT ? AF_INET : AF_INET6;
}

/* What is to be redirected all the same may be a part of a range, or more than one. */
static int build_special(struct model *m, const char *name, enum set_type type,
			 const struct special_prefix *rows, size_t n_rows,
			 const struct prefix_list *anyway)
{
	struct set *s = begin_set(m, name, type, "never redirected, IANA " SPECIAL_PREFIXES_DATE);
	char comment[MODEL_COMMENT_MAX];
	uint8_t first[VALUE_MAX], last[VALUE_MAX];
	struct prefix p;
	int r = s != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n_rows; i++) {
		BUG_ON(prefix_parse(&p, rows[i].prefix) < 0);
		snprintf(comment, sizeof(comment), "%s, %s", rows[i].name, rows[i].source);
		r = add_prefix(s, &p, comment);
	}
	if (r == 0)
		ranges_merge(s);
	for (size_t i = 0; r == 0 && i < anyway->n; i++) {
		if (anyway->prefixes[i].family != family_of(type))
			continue;
		prefix_bounds(&anyway->prefixes[i], first, last);
		r = ranges_subtract(s, first, last);
	}
	return r;
}

/* Nothing is added if there is no prefix of the family. */
static int build_configured(struct model *m, const char *name, enum set_type type,
			    const struct prefix_list *list)
{
	struct set *s = NULL;

	for (size_t i = 0; i < list->n; i++) {
		if (list->prefixes[i].family != family_of(type))
			continue;
		if (s == NULL)
			s = begin_set(m, name, type, "option bypass");
		if (s == NULL || add_prefix(s, &list->prefixes[i], "") < 0)
			return -ENOMEM;
	}
	if (s != NULL)
		ranges_merge(s);
	return 0;
}

/* What is added here while the rules are in place stays there. */
static int build_live(struct model *m, const char *name, enum set_type type)
{
	return begin_set(m, name, type, "exceptions added by hand") != NULL ? 0 : -ENOMEM;
}

/* Sorted, one of each. */
static void make_unique(struct set *s)
{
	size_t kept = 0;

	set_sort(s);
	for (size_t i = 1; i < s->n_elements; i++) {
		if (memcmp(s->elements[i].first, s->elements[kept].first, VALUE_MAX) != 0)
			s->elements[++kept] = s->elements[i];
	}
	if (s->n_elements > 0)
		s->n_elements = kept + 1;
}

static int build_upstreams(struct model *m, const char *name, enum set_type type,
			   const struct want *w)
{
	struct set *s = NULL;

	for (size_t i = 0; i < w->n_upstreams; i++) {
		const struct addr *a = &w->upstreams[i];
		uint8_t key[VALUE_MAX] = {0};
		uint16_t port = htons(a->port);

		if (a->family != family_of(type))
			continue;
		if (s == NULL)
			s = begin_set(m, name, type, "upstreams of transocksd");
		memcpy(key, a->ip, addr_len(a));
		memcpy(key + addr_len(a), &port, sizeof(port));
		if (s == NULL || add_key(s, key, sizeof(key), "") < 0)
			return -ENOMEM;
	}
	if (s != NULL)
		make_unique(s);
	return 0;
}

static int build_exempt(struct model *m, const struct want *w)
{
	struct set *s;

	if (w->n_exempt_uids > 0) {
		s = begin_set(m, WANT_SET_UIDS, SET_UID, "users whose flows go direct");
		for (size_t i = 0; s != NULL && i < w->n_exempt_uids; i++) {
			uint32_t uid = w->exempt_uids[i];

			if (add_key(s, &uid, sizeof(uid), "") < 0)
				return -ENOMEM;
		}
		if (s == NULL)
			return -ENOMEM;
		make_unique(s);
	}
	if (w->n_exempt_cgroups > 0) {
		s = begin_set(m, WANT_SET_CGROUPS, SET_CGROUP,
			      "control groups whose flows go direct");
		for (size_t i = 0; s != NULL && i < w->n_exempt_cgroups; i++) {
			const struct want_cgroup *g = &w->exempt_cgroups[i];

			if (add_key(s, &g->id, sizeof(g->id), g->path) < 0)
				return -ENOMEM;
		}
		if (s == NULL)
			return -ENOMEM;
		make_unique(s);
	}
	return 0;
}

static int build_ports(struct model *m, const struct port_list *ports)
{
	struct set *s;

	if (ports->n == 0)
		return 0;
	s = begin_set(m, WANT_SET_PORTS, SET_PORT, "only these ports are redirected");
	if (s == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < ports->n; i++) {
		uint16_t first = htons(ports->ranges[i].first), last = htons(ports->ranges[i].last);
		struct element e = {.comment = ""};

		memcpy(e.first, &first, sizeof(first));
		memcpy(e.last, &last, sizeof(last));
		if (set_add_element(s, &e) < 0)
			return -ENOMEM;
	}
	ranges_merge(s);
	return 0;
}

/* Under TPROXY, what this host sends comes in once more, by the loopback interface. */
static int build_gateway(struct model *m, const struct want *w)
{
	bool loopback = w->mode == REDIRECT_MODE_TPROXY;
	char name[IFNAMSIZ] = "lo";
	struct set *s;

	if (w->n_gateways == 0 && !loopback)
		return 0;
	s = begin_set(m, WANT_SET_GATEWAY, SET_IFNAME,
		      "interfaces whose forwarded flows are redirected");
	if (s == NULL || (loopback && add_key(s, name, IFNAMSIZ, "flows of this host") < 0))
		return -ENOMEM;
	for (size_t i = 0; i < w->n_gateways; i++) {
		if (add_key(s, w->gateways[i], IFNAMSIZ, "gateway") < 0)
			return -ENOMEM;
	}
	make_unique(s);
	return 0;
}

int want_build_sets(struct model *m, const struct want *w)
{
	const struct redirect *o = w->redirect;
	int r = build_special(m, WANT_SET_SPECIAL4, SET_IPV4, special_prefixes4,
			      n_special_prefixes4, &o->redirect_anyway);

	if (r == 0)
		r = build_special(m, WANT_SET_SPECIAL6, SET_IPV6, special_prefixes6,
				  n_special_prefixes6, &o->redirect_anyway);
	if (r == 0)
		r = build_configured(m, WANT_SET_CONFIGURED4, SET_IPV4, &o->bypass);
	if (r == 0)
		r = build_configured(m, WANT_SET_CONFIGURED6, SET_IPV6, &o->bypass);
	if (r == 0)
		r = build_live(m, WANT_SET_BYPASS4, SET_IPV4);
	if (r == 0)
		r = build_live(m, WANT_SET_BYPASS6, SET_IPV6);
	if (r == 0)
		r = build_upstreams(m, WANT_SET_UPSTREAM4, SET_IPV4_PORT, w);
	if (r == 0)
		r = build_upstreams(m, WANT_SET_UPSTREAM6, SET_IPV6_PORT, w);
	if (r == 0)
		r = build_exempt(m, w);
	if (r == 0)
		r = build_ports(m, &o->ports);
	return r == 0 ? build_gateway(m, w) : r;
}
