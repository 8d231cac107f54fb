/* SPDX-License-Identifier: MIT */
#include "policy/explain.h"

#include <errno.h>
#include <string.h>

#include "policy/balance.h"
#include "policy/entries.h"
#include "policy/json.h"
#include "policy/nearest.h"

#define BLANKS " \t\n"

/* Room for what is told or dialled, and for why not. */
#define DEST_TEXT_MAX (NAME_MAX_LEN + 64)

/* The verdict, and what follows from it. */
struct explanation {
	const struct conf *conf;
	const struct explain_flow *flow;
	struct flow_facts facts;
	struct rule_verdict verdict;
	const struct flow_rule *rule;   /* that decided, or NULL */
	const struct group_conf *group; /* NULL: nobody is asked */
	struct candidate order[UPSTREAMS_MAX];
	size_t n_order;
};

/* --- the question --- */

static int bad_word(const char *key, const char *value, size_t n, const char *wanted,
		    struct diag *d)
{
	char shown[ENTRY_SHOWN_MAX];

	return diag_set(d, EINVAL, NULL, 0, "%s=%s is not %s", key, entry_shown(value, n, shown),
			wanted);
}

static int take_client(struct explain_flow *flow, const char *value, size_t n, struct diag *d)
{
	char text[INET6_ADDRSTRLEN + 3];

	snprintf(text, sizeof(text), "%.*s", (int)(n < sizeof(text) ? n : sizeof(text)), value);
	if (n >= sizeof(text) || addr_parse(&flow->client, text) < 0)
		return bad_word("client", value, n, "an IP address", d);
	return 0;
}

static int take_dest(struct explain_flow *flow, const char *value, size_t n, struct diag *d)
{
	char text[ADDR_TEXT_MAX];

	snprintf(text, sizeof(text), "%.*s", (int)(n < sizeof(text) ? n : sizeof(text)), value);
	if (n >= sizeof(text) || addr_parse_endpoint(&flow->dest, text) < 0 || flow->dest.port == 0)
		return bad_word("dest", value, n,
				"ADDRESS:PORT (an IPv6 address in brackets, the port 1..65535)", d);
	return 0;
}

static int take_name(struct explain_flow *flow, const char *value, size_t n, struct diag *d)
{
	struct addr addr;
	int rc = name_normalise(value, n, flow->name, &addr);

	if (rc == 1)
		return bad_word("name", value, n,
				"a domain name: to a rule, a client that says an address has said "
				"no name; leave it out",
				d);
	if (rc < 0)
		return bad_word(
			"name", value, n,
			name_is_other_script(value, n)
				? "a domain name as it is on the wire, in the form \"xn--...\""
				: "a domain name",
			d);
	return 0;
}

static const struct {
	const char *key;
	int (*take)(struct explain_flow *flow, const char *value, size_t n, struct diag *d);
	bool needed;
} words[] = {
	{"client", take_client, true},
	{"dest", take_dest, true},
	{"name", take_name, false},
};

/* `n` bytes "key=value". *seen has a bit for each of `words` that was there. */
static int take_word(struct explain_flow *flow, const char *word, size_t n, unsigned *seen,
		     struct diag *d)
{
	static const char *const keys[] = {"client", "dest", "name", NULL};
	const char *equals = memchr(word, '=', n), *near;
	size_t key_len = equals != NULL ? (size_t)(equals - word) : n;
	char shown[ENTRY_SHOWN_MAX], key[16];

	for (size_t i = 0; equals != NULL && i < ARRAY_LEN(words); i++) {
		if (strlen(words[i].key) != key_len || memcmp(words[i].key, word, key_len) != 0)
			continue;
		if (*seen & 1u << i)
			return diag_set(d, EINVAL, NULL, 0, "%s= is there twice", words[i].key);
		*seen |= 1u << i;
		return words[i].take(flow, equals + 1, n - key_len - 1, d);
	}
	entry_shown(word, n, shown);
	snprintf(key, sizeof(key), "%.*s", (int)(key_len < 15 ? key_len : 15), word);
	near = equals != NULL ? nearest_word(key, keys) : NULL;
	if (near != NULL)
		return diag_set(d, EINVAL, NULL, 0, "%s: did you mean %s=?", shown, near);
	return diag_set(d, EINVAL, NULL, 0,
			"%s is none of client=ADDRESS, dest=ADDRESS:PORT and name=NAME", shown);
}

int explain_parse(struct explain_flow *flow, const char *text, struct diag *d)
{
	unsigned seen = 0;

	*flow = (struct explain_flow){0};
	for (text += strspn(text, BLANKS); *text != '\0'; text += strspn(text, BLANKS)) {
		size_t n = strcspn(text, BLANKS);

		if (take_word(flow, text, n, &seen, d) < 0)
			return -EINVAL;
		text += n;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (words[i].needed && !(seen & 1u << i))
			return diag_set(
				d, EINVAL, NULL, 0,
				"%s= is missing: a flow is 'client=ADDRESS dest=ADDRESS:PORT "
				"name=NAME', of which the name may be left out",
				words[i].key);
	}
	return 0;
}

/* --- the answer --- */

/* As the daemon orders them, where each is healthy and none has a flow. Direct is always the last try: what cannot be
 * reached then is the destination. */
static void explain_order(struct explanation *x, size_t most_tries)
{
	const struct group_conf *g = x->group;

	for (size_t i = 0; i < g->n_members; i++) {
		const struct upstream_conf *u = &x->conf->upstreams[g->members[i]];

		x->order[i] = (struct candidate){.index = g->members[i],
						 .identity = balance_identity(u->name),
						 .weight = u->weight};
	}
	balance_order(g->choose, x->order, g->n_members, &x->flow->client, 0);
	x->n_order = 0;
	for (size_t i = 0; i < g->n_members && i < most_tries; i++) {
		x->n_order++;
		if (x->conf->upstreams[x->order[i].index].url.scheme == PROXY_DIRECT)
			break;
	}
}

/* Only where a name is looked for does one come to be known. */
static void explain(struct explanation *x, const struct conf *c, const struct explain_flow *flow,
		    size_t most_tries)
{
	bool expected = port_list_contains(&c->sniff.ports, flow->dest.port);

	x->conf = c;
	x->flow = flow;
	x->facts = (struct flow_facts){
		.client = &flow->client,
		.dest = &flow->dest,
		.port = flow->dest.port,
		.name = flow->name[0] != '\0' && expected ? flow->name : NULL,
		.name_expected = expected,
	};
	rules_match(&c->rules, &x->facts, &x->verdict);
	x->rule = x->verdict.rule != RULE_NONE ? &c->rules.rules[x->verdict.rule] : NULL;
	x->group = x->verdict.action == RULE_PROXY ? &c->groups[x->verdict.group] : NULL;
	x->n_order = 0;
	if (x->group != NULL)
		explain_order(x, most_tries);
}

/* The next rule from *i on that only observes and would have decided; NULL: none. */
static const struct flow_rule *explain_observed(const struct explanation *x, size_t *i)
{
	size_t end = x->rule != NULL ? x->verdict.rule : x->conf->rules.n;

	while (*i < end) {
		struct flow_rule *r = &x->conf->rules.rules[(*i)++];
		const struct flow_rules alone = {.rules = r, .n = 1};
		struct rule_verdict v;

		rules_match(&alone, &x->facts, &v);
		if (v.observed == 0)
			return r;
	}
	return NULL;
}

/* What a direct connection goes to. A name that decided is where it must lead. */
static const char *explain_dialled(const struct explanation *x, char *out, size_t cap)
{
	char text[ADDR_TEXT_MAX];

	if (x->verdict.by_name && x->facts.name != NULL)
		snprintf(out, cap, "the addresses of %s, port %u", x->facts.name, x->facts.port);
	else
		snprintf(out, cap, "%s", addr_format(&x->flow->dest, text, sizeof(text)));
	return out;
}

static const char *explain_told(const struct explanation *x, const struct upstream_conf *u,
				char *out, size_t cap)
{
	bool name =
		x->facts.name != NULL && upstream_address_is_name(u->address, x->verdict.by_name);

	if (u->url.scheme == PROXY_DIRECT)
		return explain_dialled(x, out, cap);
	if (name)
		snprintf(out, cap, "%s:%u", x->facts.name, x->facts.port);
	else
		addr_format(&x->flow->dest, out, cap);
	return out;
}

/* What a name could still change. */
static bool explain_wants_name(const struct explanation *x)
{
	return x->facts.name == NULL && rules_want_name(&x->conf->rules, &x->facts);
}

static bool in_prefixes(const struct prefix_list *list, const struct addr *a)
{
	for (size_t i = 0; i < list->n; i++) {
		if (prefix_contains(&list->prefixes[i], a))
			return true;
	}
	return false;
}

/* The special-purpose network that the destination is in; NULL: none. */
static const char *explain_special(const struct addr *dest)
{
	bool v4 = dest->family == AF_INET;
	const struct special_prefix *list = v4 ? special_prefixes4 : special_prefixes6;
	size_t n = v4 ? n_special_prefixes4 : n_special_prefixes6;
	struct prefix p;

	for (size_t i = 0; i < n; i++) {
		if (prefix_parse(&p, list[i].prefix) == 0 && prefix_contains(&p, dest))
			return list[i].name;
	}
	return NULL;
}

/* Why transocks-rules would not let the daemon see such a flow; NULL: it would, as far as its destination goes. */
static const char *explain_not_redirected(const struct explanation *x, char out[DEST_TEXT_MAX])
{
	const struct redirect *r = &x->conf->redirect;
	const struct addr *dest = &x->flow->dest;
	const char *special = explain_special(dest);

	if (in_prefixes(&r->bypass, dest))
		return "its destination is in \"redirect.bypass\"";
	if (r->ports.n > 0 && !port_list_contains(&r->ports, dest->port))
		return "its port is none of \"redirect.ports\"";
	if (special == NULL || in_prefixes(&r->redirect_anyway, dest))
		return NULL;
	snprintf(out, DEST_TEXT_MAX, "its destination is special-purpose (%s)", special);
	return out;
}

static void put_label(struct strbuf *out, const char *label)
{
	strbuf_printf(out, "%-10s ", label);
}

static void put_not_redirected(const struct explanation *x, struct strbuf *out)
{
	char text[DEST_TEXT_MAX];
	const char *why = explain_not_redirected(x, text);

	if (why == NULL)
		return;
	put_label(out, "but");
	strbuf_printf(out, "transocks-rules does not redirect this flow: %s\n", why);
}

/* Where the name is not known, and that makes a difference. */
static void put_name(const struct explanation *x, struct strbuf *out)
{
	bool given = x->flow->name[0] != '\0';

	if (x->facts.name != NULL || !(given || explain_wants_name(x)))
		return;
	put_label(out, "name");
	if (!x->facts.name_expected)
		strbuf_printf(out, "not known: none is looked for on port %u (sniff.ports)%s\n",
			      x->facts.port, given ? "; the one that you gave is not used" : "");
	else
		strbuf_puts(out, "not known, though expected on this port; with one, another rule "
				 "could decide\n");
}

/* A rule without a name of its own is called by its place. */
static void put_rule(struct strbuf *out, const struct flow_rule *r)
{
	char place[4200];

	snprintf(place, sizeof(place), "%s:%d", r->place.file, r->place.line);
	if (strcmp(place, r->name) != 0)
		strbuf_printf(out, "%s (%s)", r->name, place);
	else
		strbuf_puts(out, place);
}

static void put_upstreams(const struct explanation *x, struct strbuf *out)
{
	static const char *const notes[] = {
		[GROUP_ROUND_ROBIN] = ": this is one turn of many",
		[GROUP_LEAST_FLOWS] = ": this is while they have none",
	};
	const struct group_conf *g = x->group;
	const char *note = g->choose < ARRAY_LEN(notes) ? notes[g->choose] : NULL;

	put_label(out, "group");
	strbuf_printf(out, "%s (%s%s)\n", g->name, group_choose_words[g->choose],
		      note != NULL && g->n_members > 1 ? note : "");
	for (size_t i = 0; i < x->n_order; i++) {
		const struct upstream_conf *u = &x->conf->upstreams[x->order[i].index];
		char url[PROXY_URL_TEXT_MAX], told[DEST_TEXT_MAX];

		put_label(out, i == 0 ? "upstreams" : "");
		proxy_url_format(&u->url, url, sizeof(url));
		strbuf_printf(out, "%zu. ", i + 1);
		if (strcmp(u->name, url) != 0)
			strbuf_printf(out, "%s ", u->name);
		strbuf_printf(out, "%s %s %s\n", url,
			      u->url.scheme == PROXY_DIRECT ? "to" : "is told",
			      explain_told(x, u, told, sizeof(told)));
	}
	put_label(out, "all down");
	strbuf_printf(out, "%s\n", group_all_down_words[g->when_all_down]);
}

void explain_text(const struct conf *c, const struct explain_flow *flow, size_t most_tries,
		  struct strbuf *out)
{
	struct explanation x;
	const struct flow_rule *r;
	char dialled[DEST_TEXT_MAX];

	explain(&x, c, flow, most_tries);
	put_label(out, "verdict");
	strbuf_printf(out, "%s\n", rule_action_words[x.verdict.action]);
	put_label(out, "rule");
	if (x.rule != NULL)
		put_rule(out, x.rule);
	else
		strbuf_puts(out, "no rule matched");
	strbuf_putc(out, '\n');
	for (size_t i = 0; (r = explain_observed(&x, &i)) != NULL;) {
		put_label(out, "observed");
		put_rule(out, r);
		strbuf_printf(out, " would %s\n",
			      r->action == RULE_DIRECT ? "go direct"
						       : rule_action_words[r->action]);
	}
	put_name(&x, out);
	put_not_redirected(&x, out);
	if (x.group != NULL)
		put_upstreams(&x, out);
	if (x.verdict.action == RULE_DIRECT) {
		put_label(out, "to");
		strbuf_printf(out, "%s\n", explain_dialled(&x, dialled, sizeof(dialled)));
	}
}

static void json_rule(struct json *j, const char *key, const struct flow_rule *r)
{
	json_object_begin(j, key);
	json_string(j, "name", r->name);
	json_string(j, "file", r->place.file);
	json_int(j, "line", r->place.line);
	json_string(j, "action", rule_action_words[r->action]);
	json_object_end(j);
}

static void json_upstreams(struct json *j, const struct explanation *x)
{
	char url[PROXY_URL_TEXT_MAX], told[DEST_TEXT_MAX];

	json_string(j, "group", x->group->name);
	json_string(j, "choose", group_choose_words[x->group->choose]);
	json_string(j, "when_all_down", group_all_down_words[x->group->when_all_down]);
	json_array_begin(j, "upstreams");
	for (size_t i = 0; i < x->n_order; i++) {
		const struct upstream_conf *u = &x->conf->upstreams[x->order[i].index];

		json_object_begin(j, NULL);
		json_string(j, "name", u->name);
		json_string(j, "url", proxy_url_format(&u->url, url, sizeof(url)));
		json_string(j, "dest", explain_told(x, u, told, sizeof(told)));
		json_object_end(j);
	}
	json_array_end(j);
}

void explain_json(const struct conf *c, const struct explain_flow *flow, size_t most_tries,
		  struct strbuf *out)
{
	struct explanation x;
	const struct flow_rule *r;
	char dialled[DEST_TEXT_MAX], text[DEST_TEXT_MAX];
	const char *why;
	struct json j;

	explain(&x, c, flow, most_tries);
	json_init(&j, out);
	json_object_begin(&j, NULL);
	json_string(&j, "verdict", rule_action_words[x.verdict.action]);
	if (x.rule != NULL)
		json_rule(&j, "rule", x.rule);
	json_array_begin(&j, "observed");
	for (size_t i = 0; (r = explain_observed(&x, &i)) != NULL;)
		json_rule(&j, NULL, r);
	json_array_end(&j);
	json_bool(&j, "name_known", x.facts.name != NULL);
	why = explain_not_redirected(&x, text);
	if (why != NULL)
		json_string(&j, "not_redirected", why);
	if (x.group != NULL)
		json_upstreams(&j, &x);
	if (x.verdict.action == RULE_DIRECT)
		json_string(&j, "dest", explain_dialled(&x, dialled, sizeof(dialled)));
	json_object_end(&j);
	strbuf_putc(out, '\n');
}
