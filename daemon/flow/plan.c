/* SPDX-License-Identifier: MIT */
#include "daemon/flow/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool plan_goes_direct(const struct conf *c)
{
	for (size_t i = 0; i < c->n_upstreams; i++) {
		if (c->upstreams[i].url.scheme == PROXY_DIRECT)
			return true;
	}
	for (size_t i = 0; i < c->n_groups; i++) {
		if (c->groups[i].when_all_down == GROUP_ALL_DOWN_DIRECT)
			return true;
	}
	for (size_t i = 0; i < c->rules.n; i++) {
		if (c->rules.rules[i].action == RULE_DIRECT)
			return true;
	}
	return false;
}

int plan_new(struct conf *conf, struct plan *previous, struct plan **out, struct diag *d)
{
	struct plan *p = calloc(1, sizeof(*p));
	int rc;

	if (p == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	rc = observed_init(&p->observed);
	if (rc < 0) {
		free(p);
		return diag_set(d, -rc, NULL, 0, "no random bytes: %s", strerror(-rc));
	}
	atomic_init(&p->refs, 1);
	p->conf = conf_ref(conf);
	p->goes_direct = plan_goes_direct(conf);
	p->rules = calloc(conf->rules.n + 1, sizeof(*p->rules));
	rc = p->rules == NULL ? diag_set(d, ENOMEM, NULL, 0, "out of memory")
			      : upstreams_new(conf, previous != NULL ? previous->upstreams : NULL,
					      &p->upstreams, d);
	if (rc == 0 && conf->acl.enforced)
		rc = egress_new(conf, previous != NULL ? previous->egress : NULL, &p->egress, d);
	if (rc < 0)
		plan_unref(p);
	else
		*out = p;
	return rc;
}

struct plan *plan_ref(struct plan *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void plan_unref(struct plan *p)
{
	/* Release: what this thread read of it comes before another thread frees it. */
	if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	upstreams_unref(p->upstreams);
	egress_unref(p->egress);
	observed_destroy(&p->observed);
	free(p->rules);
	conf_unref(p->conf);
	free(p);
}

void plan_count(struct plan *p, const struct flow_facts *f, const struct rule_verdict *v)
{
	atomic_fetch_add_explicit(v->rule != RULE_NONE ? &p->rules[v->rule].decided
						       : &p->rules_default,
				  1, memory_order_relaxed);
	if (v->observed == RULE_NONE)
		return;
	atomic_fetch_add_explicit(&p->rules[v->observed].observed, 1, memory_order_relaxed);
	observed_add(&p->observed, f, v);
}

void plan_suggest(struct plan *p, struct strbuf *out)
{
	struct suggest_row *rows;
	uint64_t lost;
	int n = observed_rows(&p->observed, &rows, &lost);

	if (n < 0) {
		strbuf_puts(out, "# out of memory\n");
		return;
	}
	suggest_text(p->conf, rows, (size_t)n, lost, out);
	free(rows);
}

const char *plan_upstreams_text(const struct conf *c, char *out, size_t cap)
{
	const size_t reserve = sizeof(" and 1000 more");
	struct strbuf sb;

	strbuf_init(&sb, out, cap);
	for (size_t i = 0; i < c->n_upstreams; i++) {
		if (i > 0 && sb.len + strlen(c->upstreams[i].name) + reserve > cap) {
			strbuf_printf(&sb, " and %zu more", c->n_upstreams - i);
			break;
		}
		strbuf_printf(&sb, "%s%s", i > 0 ? ", " : "", c->upstreams[i].name);
	}
	return out;
}
