/* SPDX-License-Identifier: MIT */
#include "rulemgr/status.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "policy/redirect.h"
#include "rulemgr/basechains.h"
#include "rulemgr/carry.h"
#include "rulemgr/drain.h"
#include "rulemgr/flows.h"
#include "rulemgr/holder.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/listeners.h"
#include "rulemgr/trial_tell.h"

void status_tell_more(size_t n, struct report *r)
{
	if (n > STATUS_DIFFERENCES_MAX)
		strbuf_printf(&r->text, "  and %zu more: `transocks-rules diff` shows them\n",
			      n - STATUS_DIFFERENCES_MAX);
}

static void tell_table(const struct intent *i, struct report *r)
{
	const struct diff *d = &i->diff;
	bool in_sync;

	json_bool(&r->json, "installed", i->have.present);
	if (!i->have.present) {
		strbuf_puts(&r->text, "table " MODEL_TABLE_TEXT ": not installed\n");
		return;
	}
	in_sync = intent_differences(i) == 0;
	json_bool(&r->json, "in_sync", in_sync);
	json_bool(&r->json, "on_trial", i->on_trial);
	if (i->on_trial)
		trial_tell_left(i->trial_left_ms, !i->trial_of_first, r);
	json_bool(&r->json, "draining", drain_is_on(&i->found));
	if (drain_is_on(&i->found))
		strbuf_puts(&r->text,
			    "draining: new flows go direct, and the rules stay for the "
			    "live ones (`transocks-rules flush` goes on, install ends it)\n");
	strbuf_printf(&r->text, "table %s: %s\n", MODEL_TABLE_TEXT,
		      in_sync ? "in sync with the configuration" : "not as configured");
	intent_tell(i, STATUS_DIFFERENCES_MAX, r);
	status_tell_more(d->n, r);
}

/* When the daemon is not there: refused, or the table goes with whoever owns it. */
void status_tell_policy(const struct intent *i, struct report *r)
{
	const char *word = redirect_down_words[i->want.redirect->when_daemon_down];
	char holder[HOLDER_TEXT_MAX];

	json_string(&r->json, "when_daemon_down", word);
	strbuf_printf(&r->text, "when_daemon_down: %s\n", word);
	if (!i->have.present || !(i->found.flags & NFT_TABLE_F_OWNER))
		return;
	if (!holder_find(i->found.owner, holder, sizeof(holder)))
		return; /* it is going at this moment */
	json_string(&r->json, "owner", holder);
	strbuf_printf(&r->text, "the table goes when %s ends\n", holder);
}

bool status_tell_listeners(const struct intent *i, struct report *r)
{
	struct listeners l;
	struct diag d;
	bool missing = false;

	if (listeners_read(i->want.port, &l, &d) < 0) {
		report_warn(r, "%s; whether transocksd listens is not known", d.text);
		return false;
	}
	json_object_begin(&r->json, "listening");
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		bool gateway = i->want.n_gateways > 0;
		bool there = gateway ? l.any[f] : l.loopback[f];

		if (!i->want.family[f] || !l.host_has[f])
			continue;
		missing |= !there;
		json_bool(&r->json, listeners_family[f], there);
		strbuf_printf(&r->text, "%s: %s listens on %s:%u\n", listeners_family[f],
			      there ? "somebody" : "nobody",
			      gateway ? listeners_any[f] : listeners_loopback[f], i->want.port);
	}
	json_object_end(&r->json);
	return missing;
}

void status_tell_flows(const struct intent *i, struct report *r)
{
	struct flows found;
	struct diag d;
	size_t flows;

	if (flows_read(&i->have, &found, &d) < 0) {
		report_warn(r, "%s", d.text);
		return;
	}
	flows = flows_total(&found);
	json_uint(&r->json, "flows", flows);
	strbuf_printf(&r->text, "%zu flow%s redirected now\n", flows, plural(flows));
}

void status_tell_exceptions(size_t n, struct report *r)
{
	json_uint(&r->json, "exceptions", n);
	strbuf_printf(&r->text, "%zu live exception%s\n", n, plural(n));
}

static void tell_exceptions(const struct intent *i, struct report *r)
{
	size_t n = 0;

	for (size_t s = 0; s < i->found.n_sets; s++) {
		if (set_is_live(i->found.sets[s].name))
			n += i->found.sets[s].n_elements;
	}
	status_tell_exceptions(n, r);
}

/* A rule that has counted nothing is no news to a person. */
static void tell_counter(const struct chain *c, const struct rule *rule, struct strbuf *out)
{
	if (rule->packets == 0)
		return;
	strbuf_printf(out, "%llu packet%s, %llu bytes: ", (unsigned long long)rule->packets,
		      plural(rule->packets), (unsigned long long)rule->bytes);
	strbuf_put_quoted(out, rule->comment, strlen(rule->comment));
	strbuf_puts(out, " of chain ");
	strbuf_put_quoted(out, c->name, strlen(c->name));
	strbuf_putc(out, '\n');
}

static void tell_counters(const struct model *m, struct report *r)
{
	json_array_begin(&r->json, "counters");
	for (size_t i = 0; i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		for (size_t k = 0; k < c->n_rules; k++) {
			const struct rule *rule = &c->rules[k];

			tell_counter(c, rule, &r->text);
			json_object_begin(&r->json, NULL);
			json_string(&r->json, "chain", c->name);
			json_string(&r->json, "rule", rule->comment);
			json_uint(&r->json, "packets", rule->packets);
			json_uint(&r->json, "bytes", rule->bytes);
			json_object_end(&r->json);
		}
	}
	json_array_end(&r->json);
}

/* At one priority the chain registered last runs first, and nobody can see which that is. */
static bool comes_first(const struct base_chain *other, const struct model *m)
{
	if (!other->nat || other->ours || other->n_rules == 0)
		return false;
	for (size_t i = 0; i < m->n_chains; i++) {
		const struct chain *c = &m->chains[i];

		if (c->type == CHAIN_NAT && c->hook == other->hook &&
		    other->priority <= c->priority)
			return true;
	}
	return false;
}

static void tell_others(struct kernel *k, const struct model *m, struct report *r)
{
	char text[BASE_CHAIN_TEXT_MAX];
	struct base_chains all;
	struct diag d;

	if (base_chains_read(k, &all, &d) < 0) {
		report_warn(r, "%s", d.text);
		return;
	}
	json_array_begin(&r->json, "before_us");
	for (size_t i = 0; i < all.n; i++) {
		if (!comes_first(&all.chains[i], m))
			continue;
		base_chain_format(&all.chains[i], text, sizeof(text));
		json_string(&r->json, NULL, text);
		strbuf_printf(&r->text, "%s may take flows before us\n", text);
	}
	json_array_end(&r->json);
	base_chains_free(&all);
}

int status_judge(int code, bool unheard, const struct intent *i, struct report *r)
{
	if (code != 0 || !unheard)
		return code;
	diag_set(&r->error, ENOTCONN, NULL, 0,
		 "nobody listens on port %u for every family that is redirected", i->want.port);
	return EXIT_NO_LISTENER;
}

static int status_with(struct kernel *k, const struct args *a, struct intent *i, struct report *r)
{
	int code = intent_compare(k, a, i, r);
	bool unheard;

	if (code != 0)
		return code;
	tell_table(i, r);
	status_tell_policy(i, r);
	unheard = status_tell_listeners(i, r);
	if (i->have.present) {
		status_tell_flows(i, r);
		tell_exceptions(i, r);
		tell_others(k, &i->found, r);
		tell_counters(&i->found, r);
	}
	return status_judge(intent_judge(i, r), unheard, i, r);
}

int status_run(const struct args *a, struct report *r)
{
	struct intent i = {.want = {.redirect = NULL}};
	struct kernel k;
	int code, err = kernel_open(&k, &r->error);

	if (iptables_is_used(&k, err, a->conf->redirect.backend, r)) {
		kernel_close(&k);
		return iptables_status_run(a, r);
	}
	if (err < 0)
		return report_exit_code(err);
	code = status_with(&k, a, &i, r);
	intent_free(&i);
	kernel_close(&k);
	return code;
}
