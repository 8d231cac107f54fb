/* SPDX-License-Identifier: MIT */
/*
 * What [[upstream]], [group.NAME] and [[rule]] have to agree on.
 */
#include <errno.h>
#include <string.h>

#include "policy/conf_sections.h"
#include "policy/nearest.h"

#define PROBE_INTERVAL_MIN 1000 /* ms */

static const struct option_section *const upstream_section = &conf_sections[0];
static const struct option_section *const group_section = &conf_sections[1];
static const struct option_section *const rule_section = &conf_sections[2];

static int no_memory(struct diag *d)
{
	return diag_set(d, ENOMEM, NULL, 0, "out of memory");
}

static bool is_set(const char *text)
{
	return text != NULL && text[0] != '\0';
}

/* The short form. */
static int upstream_from_url(struct conf *c, struct diag *d)
{
	struct upstream_conf *u;

	if (c->proxy_url.scheme == PROXY_NONE)
		return 0;
	if (c->n_upstreams > 0)
		return diag_set(
			d, EINVAL, c->upstreams[0].place.file, c->upstreams[0].place.line,
			"[[upstream]] beside \"proxy_url\", which is the short form of one: "
			"write its URL as another [[upstream]], without \"proxy_url\"");
	u = option_section_add(upstream_section, c, NULL, (struct place){0});
	if (u == NULL)
		return no_memory(d);
	u->url = c->proxy_url;
	return 0;
}

struct place conf_upstream_place(const struct upstream_conf *u, const char *option)
{
	return option_section_place(upstream_section, u, option);
}

static int upstream_refuse(const struct upstream_conf *u, struct diag *d, const char *option,
			   const char *why)
{
	struct place at = conf_upstream_place(u, option);

	return diag_set(d, EINVAL, at.file, at.line, "option \"upstream.%s\" %s", option, why);
}

/* Nobody is there to be told anything. */
static int upstream_check_direct(const struct upstream_conf *u, struct diag *d)
{
	if (u->proxy_protocol)
		return upstream_refuse(
			u, d, "proxy_protocol",
			"is for an upstream: the destinations of direct:// would take "
			"the header for the client's words");
	if (is_set(u->auth_file))
		return upstream_refuse(u, d, "auth_file", "is for an upstream, not for direct://");
	if (u->warm > 0)
		return upstream_refuse(u, d, "warm",
				       "is for an upstream: direct:// has nobody to connect to "
				       "before there is a flow");
	return 0;
}

static int upstream_check_source(const struct upstream_conf *u, struct diag *d)
{
	const struct addr_list *list = &u->source;
	bool usable = list->n == 0 || u->url.addr.family == AF_UNSPEC;
	struct place at = conf_upstream_place(u, "source");
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < list->n; i++) {
		const struct addr *a = &list->addrs[i];
		bool twice = false;

		for (size_t j = 0; j < i; j++)
			twice |= addr_equal_ip(a, &list->addrs[j]);
		if (twice || addr_is_any(a))
			return diag_set(
				d, EINVAL, at.file, at.line, "option \"upstream.source\": %s %s",
				addr_format_ip(a, text, sizeof(text)),
				twice ? "is there twice"
				      : "is no address: leave the option out, and the kernel "
					"chooses");
		usable |= a->family == u->url.addr.family;
	}
	if (usable)
		return 0;
	return diag_set(
		d, EINVAL, at.file, at.line,
		"option \"upstream.source\": the upstream's address is %s, and no source is",
		u->url.addr.family == AF_INET ? "IPv4" : "IPv6");
}

static int upstream_check(const struct upstream_conf *u, struct diag *d)
{
	if (u->url.scheme == PROXY_NONE)
		return diag_set(d, EINVAL, u->place.file, u->place.line,
				"[[upstream]] without \"url\": \"socks5://host:port\", or "
				"\"direct://\"");
	if (u->url.scheme == PROXY_DIRECT && upstream_check_direct(u, d) < 0)
		return -EINVAL;
	if (is_set(u->auth_file) && u->url.user[0] != '\0')
		return upstream_refuse(u, d, "auth_file",
				       "stands beside a user in the URL: only one of them can be "
				       "meant");
	if (u->name_fallback && u->address == UPSTREAM_ADDRESS_IP)
		return upstream_refuse(
			u, d, "name_fallback",
			"has nothing to fall back from: address = \"ip\" never tells "
			"a name");
	return upstream_check_source(u, d);
}

static int upstream_name(struct conf *c, struct upstream_conf *u, struct diag *d)
{
	struct place at = conf_upstream_place(u, "name");
	char url[PROXY_URL_TEXT_MAX];

	if (u->name == NULL && u->url.scheme == PROXY_DIRECT)
		u->name = strdup("direct");
	else if (u->name == NULL)
		u->name = strdup(proxy_url_format(&u->url, url, sizeof(url)));
	if (u->name == NULL)
		return no_memory(d);
	/* The log calls a flow's upstream so that has none. */
	if (strcmp(u->name, "direct") == 0 && u->url.scheme != PROXY_DIRECT)
		return upstream_refuse(u, d, "name", "\"direct\" is for direct:// alone");
	for (const struct upstream_conf *other = c->upstreams; other < u; other++) {
		if (strcmp(other->name, u->name) == 0)
			return diag_set(
				d, EINVAL, at.file, at.line,
				"another upstream is called \"%s\" as well (%s:%d): give one "
				"of them another name (option \"upstream.name\")",
				u->name, other->place.file, other->place.line);
	}
	return 0;
}

/* The index of the group; c->n_groups if there is none. */
static size_t group_find(const struct conf *c, const char *name)
{
	size_t i = 0;

	while (i < c->n_groups && strcmp(c->groups[i].name, name) != 0)
		i++;
	return i;
}

/* DEFAULT_GROUP is there, and the first. */
static int groups_begin(struct conf *c, struct diag *d)
{
	size_t i = group_find(c, DEFAULT_GROUP);
	struct group_conf group;

	if (i == c->n_groups &&
	    option_section_add(group_section, c, DEFAULT_GROUP, (struct place){0}) == NULL)
		return no_memory(d);
	group = c->groups[i];
	memmove(&c->groups[1], &c->groups[0], i * sizeof(group));
	c->groups[0] = group;
	return 0;
}

static int upstream_join(struct conf *c, struct upstream_conf *u, struct diag *d)
{
	size_t *members;
	struct group_conf *g;

	u->group_index = group_find(c, u->group);
	if (u->group_index == c->n_groups &&
	    option_section_add(group_section, c, u->group, (struct place){0}) == NULL)
		return no_memory(d);
	g = &c->groups[u->group_index];
	members = realloc(g->members, (g->n_members + 1) * sizeof(*members));
	if (members == NULL)
		return no_memory(d);
	g->members = members;
	members[g->n_members++] = (size_t)(u - c->upstreams);
	return 0;
}

static int upstreams_finish(struct conf *c, struct diag *d)
{
	for (size_t i = 0; i < c->n_upstreams; i++) {
		struct upstream_conf *u = &c->upstreams[i];
		int r;

		r = upstream_check(u, d);
		if (r == 0)
			r = upstream_name(c, u, d);
		if (r == 0)
			r = upstream_join(c, u, d);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The group with members whose name is nearest to `name`, for a message; NULL: none is near. */
static const char *group_near(const struct conf *c, const char *name)
{
	const char **names = calloc(c->n_groups + 1, sizeof(*names)), *near = NULL;
	size_t n = 0;

	for (size_t i = 0; names != NULL && i < c->n_groups; i++) {
		if (c->groups[i].n_members > 0)
			names[n++] = c->groups[i].name;
	}
	if (names != NULL)
		near = nearest_word(name, names);
	free(names);
	return near;
}

static int group_empty(const struct conf *c, const struct place *place, const char *who,
		       const char *name, struct diag *d)
{
	const char *near = group_near(c, name);

	if (near != NULL)
		return diag_set(d, EINVAL, place->file, place->line,
				"%s: no upstream is in the group \"%s\"; did you mean \"%s\"?", who,
				name, near);
	return diag_set(d, EINVAL, place->file, place->line,
			"%s: no upstream is in the group \"%s\"; write group = \"%s\" into an "
			"[[upstream]]",
			who, name, name);
}

static int group_check(const struct group_conf *g, struct diag *d)
{
	struct place interval = option_section_place(group_section, g, "probe_interval");
	struct place dest = option_section_place(group_section, g, "probe_dest");

	if (g->probe_interval > 0 && g->probe_interval < PROBE_INTERVAL_MIN)
		return diag_set(d, EINVAL, interval.file, interval.line,
				"[group.%s]: \"probe_interval\" is at least 1s, or 0 for never",
				g->name);
	if (is_set(g->probe_dest) && g->probe_interval == 0)
		return diag_set(
			d, EINVAL, dest.file, dest.line,
			"[group.%s]: \"probe_dest\" without \"probe_interval\", which is 0: "
			"nothing is ever probed",
			g->name);
	return 0;
}

static int groups_finish(struct conf *c, struct diag *d)
{
	char who[OPTION_KEY_MAX + 16];

	for (size_t i = 0; i < c->n_groups; i++) {
		const struct group_conf *g = &c->groups[i];

		snprintf(who, sizeof(who), "[group.%s]", g->name);
		if (g->place.file != NULL && g->n_members == 0)
			return group_empty(c, &g->place, who, g->name, d);
		if (group_check(g, d) < 0)
			return -EINVAL;
	}
	return 0;
}

/* What no string of the file could bring along. */
static void name_clean(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

struct place conf_rule_place(const struct flow_rule *r, const char *option)
{
	return option_section_place(rule_section, r, option);
}

/* Counters and the log would take two of one name for one rule. */
static int rule_name_check(const struct conf *c, const struct flow_rule *r, struct diag *d)
{
	struct place at = conf_rule_place(r, "name");

	for (const struct flow_rule *other = c->rules.rules; other < r; other++) {
		if (strcmp(other->name, r->name) == 0)
			return diag_set(
				d, EINVAL, at.file, at.line,
				"another rule is called \"%s\" as well (%s:%d): give one of "
				"them another name (option \"rule.name\")",
				r->name, other->place.file, other->place.line);
	}
	return 0;
}

static int rule_name(const struct conf *c, struct flow_rule *r, struct diag *d)
{
	if (r->name != NULL)
		return rule_name_check(c, r, d);
	if (asprintf(&r->name, "%s:%d", r->place.file, r->place.line) < 0) {
		r->name = NULL;
		return no_memory(d);
	}
	name_clean(r->name);
	return 0;
}

static int rule_check(const struct flow_rule *r, struct diag *d)
{
	struct place at = conf_rule_place(r, "unknown_name");

	if (r->unknown_name == RULE_UNKNOWN_AUTO || r->domains.n > 0 || is_set(r->domains_file))
		return 0;
	return diag_set(d, EINVAL, at.file, at.line,
			"option \"rule.unknown_name\" is for a rule on domains: this one matches "
			"whatever the name is");
}

static int rule_group(const struct conf *c, struct flow_rule *r, struct diag *d)
{
	struct place at = conf_rule_place(r, "group");

	if (r->action != RULE_PROXY && r->group != NULL)
		return diag_set(d, EINVAL, at.file, at.line,
				"option \"rule.group\" is for action \"proxy\", not \"%s\"",
				rule_action_words[r->action]);
	if (r->action != RULE_PROXY)
		return 0;
	if (r->group == NULL && (r->group = strdup(DEFAULT_GROUP)) == NULL)
		return no_memory(d);
	r->group_index = group_find(c, r->group);
	if (r->group_index == c->n_groups || c->groups[r->group_index].n_members == 0)
		return group_empty(c, &at, "[[rule]]", r->group, d);
	return 0;
}

bool conf_rule_has_conditions(const struct flow_rule *r)
{
	return r->domains.n + r->networks.n + r->ports.n + r->clients.n > 0 ||
	       is_set(r->domains_file) || is_set(r->networks_file);
}

/* Where flows go that no rule decides about. */
static int default_group_check(const struct conf *c, const char *file, struct diag *d)
{
	for (size_t i = 0; i < c->rules.n; i++) {
		if (!c->rules.rules[i].observe && !conf_rule_has_conditions(&c->rules.rules[i]))
			return 0;
	}
	if (c->groups[0].n_members > 0)
		return 0;
	return diag_set(d, EINVAL, file, 0,
			"no upstream is in the group \"" DEFAULT_GROUP "\", where flows go that no "
			"rule decides about: add one, or a last [[rule]] without conditions");
}

static int rules_finish(struct conf *c, struct diag *d)
{
	int r = 0;

	for (size_t i = 0; i < c->rules.n && r == 0; i++) {
		r = rule_name(c, &c->rules.rules[i], d);
		if (r == 0)
			r = rule_check(&c->rules.rules[i], d);
		if (r == 0)
			r = rule_group(c, &c->rules.rules[i], d);
	}
	return r;
}

int conf_sections_finish(struct conf *c, const char *file, struct diag *d)
{
	int r = upstream_from_url(c, d);

	if (r == 0)
		r = groups_begin(c, d);
	if (r < 0 || c->n_upstreams == 0)
		return r;
	r = upstreams_finish(c, d);
	if (r == 0)
		r = groups_finish(c, d);
	if (r == 0)
		r = rules_finish(c, d);
	if (r == 0)
		r = default_group_check(c, file, d);
	return r;
}

void conf_sections_release(struct conf *c)
{
	for (size_t i = 0; i < c->n_groups; i++)
		free(c->groups[i].members);
	for (size_t i = 0; i < c->rules.n; i++)
		rule_release(&c->rules.rules[i]);
	option_section_release(conf_sections, c);
}
