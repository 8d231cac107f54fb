/* SPDX-License-Identifier: MIT */
#include "daemon/egress/dnsbl.h"

#include <errno.h>
#include <string.h>

#include "daemon/core/log.h"
#include "daemon/net/resolve.h"
#include "policy/strbuf.h"

/* Sockets to name servers. */
#define DESCRIPTORS 8

struct dnsbl {
	struct loop *loop;
	struct egress *egress;
	struct resolver *resolver;
	struct timer timer; /* until the next round */
	struct query query;
	size_t at; /* egress->items[at] is asked about */
	bool odd;  /* the last round had an answer that is none, and that was said */
	bool odd_now;
	struct dying dying;
};

const char *dnsbl_name(const struct prefix *p, const char *domain, char out[DNSBL_NAME_MAX])
{
	struct strbuf sb;

	strbuf_init(&sb, out, DNSBL_NAME_MAX);
	if (p->family == AF_INET)
		strbuf_printf(&sb, "%u.%u.%u.%u.", p->ip[3], p->ip[2], p->ip[1], p->ip[0]);
	for (size_t i = 16; p->family == AF_INET6 && i-- > 0;)
		strbuf_printf(&sb, "%x.%x.", p->ip[i] & 15, p->ip[i] >> 4);
	strbuf_puts(&sb, domain);
	return out;
}

static bool is_entry(const struct addr *a)
{
	const uint8_t *ip = a->ip;

	if (a->family != AF_INET || ip[0] != 127)
		return false;
	if (ip[1] == 0 && ip[2] == 0 && ip[3] == 1)
		return false;
	return ip[1] != 255 || ip[2] != 255;
}

enum dnsbl_verdict dnsbl_judge(int status, const struct addr *addrs, size_t n, struct addr *said)
{
	if (status == -ENOENT)
		return DNSBL_CLEAN;
	for (size_t i = 0; status == 0 && i < n; i++) {
		if (!is_entry(&addrs[i]))
			continue;
		*said = addrs[i];
		return DNSBL_LISTED;
	}
	return DNSBL_UNKNOWN;
}

/* Such as the list's word for "you may not ask", or that of a resolver that answers for whatever does not exist. */
static void dnsbl_say_odd(struct dnsbl *b, const struct addr *answer)
{
	char text[ADDR_TEXT_MAX];
	struct log_line line;

	b->odd_now = true;
	if (b->odd)
		return;
	b->odd = true;
	if (!log_begin(&line, LOG_LEVEL_WARNING,
		       "the blocklist gives an answer that is no entry, which changes nothing"))
		return;
	log_add(&line, "egress", b->egress->items[b->at]->text);
	log_add(&line, "dnsbl", b->egress->conf->egress.dnsbl_domain);
	log_add(&line, "answer", addr_format_ip(answer, text, sizeof(text)));
	log_end(&line);
}

static void dnsbl_ask(struct dnsbl *b);

static void dnsbl_answer(struct query *q, int status, const struct addr *addrs, size_t n)
{
	struct dnsbl *b = q->owner;
	struct egress_addr *a = b->egress->items[b->at];
	const char *domain = b->egress->conf->egress.dnsbl_domain;
	struct addr said;

	switch (dnsbl_judge(status, addrs, n, &said)) {
	case DNSBL_CLEAN:
		egress_tell_listed(a, domain, NULL);
		break;
	case DNSBL_LISTED:
		egress_tell_listed(a, domain, &said);
		break;
	case DNSBL_UNKNOWN:
		if (status == 0)
			dnsbl_say_odd(b, &addrs[0]);
		break;
	}
	b->at++;
	dnsbl_ask(b);
}

static void dnsbl_begin(struct timer *t)
{
	struct dnsbl *b = container_of(t, struct dnsbl, timer);

	b->at = 0;
	b->odd_now = false;
	dnsbl_ask(b);
}

/* The next one that can be asked about; behind the last the round is over. */
static void dnsbl_ask(struct dnsbl *b)
{
	const struct egress_conf *c = &b->egress->conf->egress;
	char name[DNSBL_NAME_MAX];

	for (; b->at < b->egress->n; b->at++) {
		dnsbl_name(&b->egress->items[b->at]->prefix, c->dnsbl_domain, name);
		if (query_start(b->resolver, &b->query, name, AF_INET, dnsbl_answer, b) == 0)
			return;
	}
	b->odd = b->odd_now;
	egress_tell_round(b->egress);
	loop_timer(b->loop, &b->timer, (uint64_t)c->dnsbl_interval, dnsbl_begin);
}

size_t dnsbl_descriptors(const struct conf *c)
{
	return c->egress.dnsbl_domain != NULL && c->egress.dnsbl_domain[0] != '\0' ? DESCRIPTORS
										   : 0;
}

int dnsbl_new(struct loop *loop, struct egress *e, struct dnsbl **out, struct diag *d)
{
	const struct sock_options o = {.mark = e->conf->mark};
	struct dnsbl *b;
	int rc;

	*out = NULL;
	if (e->n == 0 || dnsbl_descriptors(e->conf) == 0)
		return 0;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	rc = resolver_new(loop, &e->conf->dns.servers, &o, &b->resolver, d);
	if (rc < 0) {
		free(b);
		return rc;
	}
	b->loop = loop;
	b->egress = egress_ref(e);
	timer_init(&b->timer);
	dnsbl_begin(&b->timer);
	*out = b;
	return 0;
}

static void dnsbl_release(struct dying *d)
{
	struct dnsbl *b = container_of(d, struct dnsbl, dying);

	resolver_free(b->resolver);
	egress_unref(b->egress);
	free(b);
}

void dnsbl_free(struct dnsbl *b)
{
	if (b == NULL)
		return;
	timer_cancel(&b->timer);
	query_cancel(&b->query);
	loop_bury(b->loop, &b->dying, dnsbl_release);
}
