/* SPDX-License-Identifier: MIT */
#include "policy/rules.h"

#include <errno.h>
#include <string.h>

#include "policy/option.h"

const char *const rule_action_words[] = {"proxy", "direct", "refuse", NULL};
const char *const rule_unknown_name_words[] = {"auto", "skip", "match", NULL};

/* All that is not about the name. */
static bool rule_holds(const struct flow_rule *r, const struct flow_facts *f)
{
	if (r->ports.n > 0 && !port_list_contains(&r->ports, f->port))
		return false;
	if (r->client_set != NULL && !prefix_set_contains(r->client_set, f->client))
		return false;
	return r->network_set == NULL || prefix_set_contains(r->network_set, f->dest);
}

static bool rule_holds_for_name(const struct flow_rule *r, const struct flow_facts *f)
{
	if (r->domain_set == NULL)
		return true;
	if (f->name != NULL)
		return domain_set_contains(r->domain_set, f->name);
	switch (r->unknown_name) {
	case RULE_UNKNOWN_MATCH:
		return true;
	case RULE_UNKNOWN_AUTO:
		return r->action == RULE_REFUSE && f->name_expected;
	case RULE_UNKNOWN_SKIP:
		break;
	}
	return false;
}

void rules_match(const struct flow_rules *list, const struct flow_facts *f, struct rule_verdict *v)
{
	*v = (struct rule_verdict){.action = RULE_PROXY, .rule = RULE_NONE, .observed = RULE_NONE};
	for (size_t i = 0; i < list->n; i++) {
		const struct flow_rule *r = &list->rules[i];

		if (!rule_holds(r, f))
			continue;
		if (r->domain_set != NULL && f->name != NULL && !r->observe)
			v->by_name = true;
		if (!rule_holds_for_name(r, f))
			continue;
		if (r->observe) {
			if (v->observed == RULE_NONE)
				v->observed = i;
			continue;
		}
		v->action = r->action;
		v->group = r->group_index;
		v->rule = i;
		return;
	}
}

bool rules_want_name(const struct flow_rules *list, const struct flow_facts *f)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct flow_rule *r = &list->rules[i];

		if (!rule_holds(r, f))
			continue;
		if (r->domain_set != NULL)
			return true;
		if (!r->observe)
			return false;
	}
	return false;
}

static bool is_written(const char *file)
{
	return file != NULL && file[0] != '\0';
}

static int out_of_memory(const struct flow_rule *r, struct diag *d)
{
	return diag_set(d, ENOMEM, r->place.file, r->place.line, "out of memory");
}

/* A file without entries is a condition that never holds; only what is not written at all is none. */
static int compile_domains(struct flow_rule *r, const char *text, size_t n, struct diag *d)
{
	struct diag why;

	if (r->domains.n == 0 && text == NULL && !is_written(r->domains_file))
		return 0;
	r->domain_set = domain_set_new();
	if (r->domain_set == NULL)
		return out_of_memory(r, d);
	for (size_t i = 0; i < r->domains.n; i++) {
		const char *entry = r->domains.strings[i];
		int rc = domain_set_add(r->domain_set, entry, strlen(entry), &why);

		if (rc < 0)
			return diag_set(d, -rc, r->place.file, r->place.line,
					"option \"rule.domains\": %s", why.text);
	}
	return text != NULL ? domain_set_add_text(r->domain_set, text, n, r->domains_file, d) : 0;
}

static int compile_networks(const struct flow_rule *r, struct prefix_set **set,
			    const struct prefix_list *list, const char *text, size_t n,
			    struct diag *d)
{
	int rc;

	*set = prefix_set_new();
	if (*set == NULL)
		return out_of_memory(r, d);
	for (size_t i = 0; i < list->n; i++) {
		if (prefix_set_add(*set, &list->prefixes[i]) < 0)
			return out_of_memory(r, d);
	}
	if (text != NULL) {
		rc = prefix_set_add_text(*set, text, n, r->networks_file, d);
		if (rc < 0)
			return rc;
	}
	return prefix_set_finish(*set) < 0 ? out_of_memory(r, d) : 0;
}

int rule_compile(struct flow_rule *r, const char *domains_text, size_t domains_n,
		 const char *networks_text, size_t networks_n, struct diag *d)
{
	int rc;

	rule_release(r);
	rc = compile_domains(r, domains_text, domains_n, d);
	if (rc == 0 && (r->networks.n > 0 || networks_text != NULL || is_written(r->networks_file)))
		rc = compile_networks(r, &r->network_set, &r->networks, networks_text, networks_n,
				      d);
	if (rc == 0 && r->clients.n > 0)
		rc = compile_networks(r, &r->client_set, &r->clients, NULL, 0, d);
	if (rc < 0)
		rule_release(r);
	return rc;
}

void rule_release(struct flow_rule *r)
{
	domain_set_free(r->domain_set);
	prefix_set_free(r->network_set);
	prefix_set_free(r->client_set);
	r->domain_set = NULL;
	r->network_set = NULL;
	r->client_set = NULL;
}
