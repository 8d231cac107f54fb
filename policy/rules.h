/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The operator's rules, [[rule]] of transocks.toml: which flow goes through which group of upstreams, directly, or
 * not at all. Pure, and immutable once compiled: any thread may match. The configuration owns everything.
 *
 * The first rule whose conditions all hold decides; none: RULE_PROXY through the default group. A condition that
 * is not written always holds. A condition on domains holds only where a name is known, or as `unknown_name`
 * says where none is.
 */
#include <stdbool.h>

#include "policy/addr.h"
#include "policy/domain_set.h"
#include "policy/place.h"
#include "policy/prefix_set.h"
#include "policy/redirect.h"

enum rule_action { RULE_PROXY, RULE_DIRECT, RULE_REFUSE };
/* What a rule on domains does with a flow whose name is not known. AUTO: RULE_REFUSE matches where a name was to
 * be expected (flow_facts.name_expected), all else skips. */
enum rule_unknown_name { RULE_UNKNOWN_AUTO, RULE_UNKNOWN_SKIP, RULE_UNKNOWN_MATCH };

/* In the order of the enums, NULL at the end. */
extern const char *const rule_action_words[];
extern const char *const rule_unknown_name_words[];

struct flow_rule {
	struct place place;
	struct places places;
	char *name; /* as logs and counters call it; where the file has none: "FILE:LINE" */
	/* As written. */
	struct string_list domains;
	struct prefix_list networks, clients;
	struct port_list ports;
	char *domains_file, *networks_file; /* "": none */
	enum rule_unknown_name unknown_name;
	bool observe; /* is counted and logged, and matching goes on */
	enum rule_action action;
	char *group;
	/* Compiled, NULL where there is no such condition. */
	struct domain_set *domain_set; /* domains and domains_file together */
	struct prefix_set *network_set, *client_set;
	size_t group_index; /* in conf.groups */
};

struct flow_rules {
	struct flow_rule *rules;
	size_t n;
};

/* What is known of a flow. */
struct flow_facts {
	const struct addr *client;
	const struct addr *dest; /* with its port; AF_UNSPEC: only the name is known */
	uint16_t port;
	const char *name;   /* as name_normalise() gives it; NULL: not known */
	bool name_expected; /* the port is one of sniff.ports */
};

#define RULE_NONE ((size_t)-1)

struct rule_verdict {
	enum rule_action action;
	size_t group;    /* of RULE_PROXY */
	size_t rule;     /* that decided, or RULE_NONE: no rule matched */
	bool by_name;    /* with another name it could have been another one */
	size_t observed; /* the first observing rule that matched before it, or RULE_NONE */
};

/* Never fails. */
void rules_match(const struct flow_rules *list, const struct flow_facts *f, struct rule_verdict *v);

/* Whether a name could change the verdict: some rule on domains is reached whose other conditions hold. */
bool rules_want_name(const struct flow_rules *list, const struct flow_facts *f);

/* Compiles one rule from what is written in it; `domains_text` and `networks_text` are the contents of its files or
 * NULL, `domains_n` and `networks_n` bytes. 0, -EINVAL or -ENOMEM with `d` (file and line of the rule, or of the
 * entry in its file). */
int rule_compile(struct flow_rule *r, const char *domains_text, size_t domains_n,
		 const char *networks_text, size_t networks_n, struct diag *d);
/* Frees what rule_compile() built; the written fields belong to their options. */
void rule_release(struct flow_rule *r);
