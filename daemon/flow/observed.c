/* SPDX-License-Identifier: MIT */
#include "daemon/flow/observed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OBSERVED_BUCKETS 4096

struct observed_dest {
	struct observed_dest *next; /* in its bucket */
	size_t rule, group;
	enum rule_action action;
	struct addr addr; /* where no name is known; else AF_UNSPEC */
	uint16_t port;
	uint64_t n_flows;
	char name[]; /* "": none */
};

int observed_init(struct observed *o)
{
	*o = (struct observed){0};
	pthread_mutex_init(&o->lock, NULL);
	return hash_key_init(&o->key);
}

void observed_destroy(struct observed *o)
{
	for (size_t i = 0; o->buckets != NULL && i < OBSERVED_BUCKETS; i++) {
		struct observed_dest *dest = o->buckets[i], *next;

		for (; dest != NULL; dest = next) {
			next = dest->next;
			free(dest);
		}
	}
	free(o->buckets);
	o->buckets = NULL;
	pthread_mutex_destroy(&o->lock);
}

/* What a rule would be made of; NULL: of the address. A flow that went direct without a name having decided has gone
 * to that address, and a rule on domains would lead it elsewhere: to where the name leads. */
static const char *observed_name(const struct flow_facts *f, const struct rule_verdict *v)
{
	bool by_address = v->action == RULE_DIRECT && !v->by_name && f->dest->family != AF_UNSPEC;

	return by_address ? NULL : f->name;
}

static bool observed_is(const struct observed_dest *dest, const struct flow_facts *f,
			const struct rule_verdict *v)
{
	const char *name = observed_name(f, v);

	if (dest->rule != v->observed || dest->port != f->port || dest->action != v->action ||
	    dest->group != v->group)
		return false;
	if (name != NULL)
		return strcmp(dest->name, name) == 0;
	return dest->name[0] == '\0' && addr_equal_ip(&dest->addr, f->dest);
}

/* NULL: no memory. */
static struct observed_dest *observed_new(const struct flow_facts *f, const struct rule_verdict *v)
{
	const char *name = observed_name(f, v);
	size_t n = name != NULL ? strlen(name) : 0;
	struct observed_dest *dest = calloc(1, sizeof(*dest) + n + 1);

	if (dest == NULL)
		return NULL;
	dest->rule = v->observed;
	dest->action = v->action;
	dest->group = v->group;
	dest->port = f->port;
	if (name != NULL)
		memcpy(dest->name, name, n);
	else
		dest->addr = *f->dest;
	return dest;
}

/* The entry, made if it is not there; NULL: no room for it. */
static struct observed_dest *observed_find(struct observed *o, const struct flow_facts *f,
					   const struct rule_verdict *v)
{
	const char *name = observed_name(f, v);
	uint64_t hash = name != NULL ? hash_bytes(&o->key, name, strlen(name))
				     : hash_bytes(&o->key, f->dest->ip, sizeof(f->dest->ip));
	struct observed_dest **at;

	if (o->buckets == NULL)
		o->buckets = calloc(OBSERVED_BUCKETS, sizeof(struct observed_dest *));
	if (o->buckets == NULL)
		return NULL;
	at = &o->buckets[hash % OBSERVED_BUCKETS];
	while (*at != NULL && !observed_is(*at, f, v))
		at = &(*at)->next;
	if (*at == NULL && o->n < OBSERVED_MAX && (*at = observed_new(f, v)) != NULL)
		o->n++;
	return *at;
}

void observed_add(struct observed *o, const struct flow_facts *f, const struct rule_verdict *v)
{
	struct observed_dest *dest;

	pthread_mutex_lock(&o->lock);
	dest = observed_find(o, f, v);
	if (dest != NULL)
		dest->n_flows++;
	else
		o->n_lost++;
	pthread_mutex_unlock(&o->lock);
}

static void observed_copy(const struct observed *o, struct suggest_row *row)
{
	for (size_t i = 0; o->buckets != NULL && i < OBSERVED_BUCKETS; i++) {
		for (const struct observed_dest *dest = o->buckets[i]; dest != NULL;
		     dest = dest->next) {
			*row = (struct suggest_row){
				.rule = dest->rule,
				.dest = dest->addr,
				.port = dest->port,
				.action = dest->action,
				.group = dest->group,
				.flows = dest->n_flows,
			};
			snprintf(row->name, sizeof(row->name), "%s", dest->name);
			row++;
		}
	}
}

int observed_rows(struct observed *o, struct suggest_row **rows, uint64_t *lost)
{
	int n = -ENOMEM;

	pthread_mutex_lock(&o->lock);
	*rows = calloc(o->n + 1, sizeof(**rows));
	if (*rows != NULL) {
		observed_copy(o, *rows);
		n = (int)o->n;
		*lost = o->n_lost;
	}
	pthread_mutex_unlock(&o->lock);
	return n;
}
