/* SPDX-License-Identifier: MIT */
/*
 * Where the datagrams of an association go: the verdict of access control on what each names, the addresses of names, and
 * the datagrams that wait for these. What is known of the last few destinations is remembered, so that most datagrams
 * cost a comparison.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/flow/session.h"
#include "daemon/flow/udp.h"
#include "policy/name.h"

/* For so long what is known of a destination counts: configuration stays, but the addresses of a name may
 * change. A name that has changed is followed only if its old address is none any more. */
#define DEST_MS        5000
#define DEST_FAILED_MS 1000 /* of a name without an address */
/* The other family's answer is waited for as RFC 8305 section 3 says, whichever comes first. */
#define DEST_OTHER_MS DIAL_RESOLUTION_DELAY_MS

enum { TO_V6, TO_V4, TO_COUNT };

/* Before each datagram in udp->waiting. */
struct udp_waiter {
	uint32_t dest; /* its place in udp->dests */
	uint32_t len;
};

static const struct acl *dest_acl(const struct udp *u)
{
	return &u->session->view->plan->conf->acl;
}

static uint64_t dest_now(const struct udp *u)
{
	return u->session->engine->loop.now_ms;
}

static bool dest_is_asking(const struct udp_dest *d)
{
	return d->queries[TO_V6].entry != NULL || d->queries[TO_V4].entry != NULL;
}

static void dest_settle(struct udp_dest *d, enum udp_dest_state state, uint64_t ms)
{
	d->state = (uint8_t)state;
	d->until_ms = dest_now(d->udp) + ms;
}

/* As the client called it, or its beginning. */
static char *dest_text(const struct udp_dest *d)
{
	struct proto_dest dest;
	char text[sizeof(dest.name) + 8];

	socks5_udp_parse(d->head, d->head_len, &dest);
	if (dest.addr.family != AF_UNSPEC)
		addr_format(&dest.addr, text, sizeof(text));
	else
		snprintf(text, sizeof(text), "%s:%u", dest.name, dest.port);
	text[TEXTS_LONG - 1] = '\0';
	return texts_keep(&d->udp->session->engine->texts, text);
}

static void dest_refuse(struct udp_dest *d, enum acl_verdict why)
{
	struct udp *u = d->udp;

	dest_settle(d, UDP_DEST_REFUSED, DEST_MS);
	d->refused = (uint8_t)why;
	if (u->refused != NULL)
		return;
	u->refused = dest_text(d);
	u->refused_why = why;
}

/* ACL_ALLOWED: it may be sent to. */
static enum acl_verdict dest_check(const struct udp *u, const struct addr *to)
{
	const struct dial_filter *f = &u->session->view->guard.filter;

	return (enum acl_verdict)f->refuses(f, to);
}

/* --- datagrams --- */

/* The first destination is in the record. */
static void dest_note_first(struct udp_dest *d, const struct addr *to)
{
	struct session *s = d->udp->session;
	char name[NAME_MAX_LEN + 1];
	struct proto_dest dest;
	struct addr literal;

	if (s->dest.family != AF_UNSPEC)
		return;
	s->dest = *to;
	s->port = to->port;
	socks5_udp_parse(d->head, d->head_len, &dest);
	if (dest.addr.family != AF_UNSPEC ||
	    name_normalise(dest.name, dest.name_len, name, &literal) != 0)
		return;
	texts_drop(&s->engine->texts, s->name);
	s->name = texts_keep(&s->engine->texts, name);
	s->name_from = NAME_FROM_REQUEST;
}

/* To the address that has worked, or else to that of the other family. */
static int dest_send(struct udp_dest *d, const uint8_t *payload, size_t n)
{
	int rc = -EAFNOSUPPORT;

	for (unsigned i = 0; i < TO_COUNT; i++) {
		unsigned at = (d->first + i) % TO_COUNT;

		if (d->to[at].family == AF_UNSPEC)
			continue;
		rc = udp_send_to(d->udp, &d->to[at], payload, n);
		if (rc == 0) {
			d->first = (uint8_t)at;
			dest_note_first(d, &d->to[at]);
		}
		if (rc == 0 || rc == -EAGAIN || rc == -EMSGSIZE)
			break;
	}
	return rc;
}

/* This host's own addresses are those of the moment: one that has come since is not sent to. */
static void dest_look_again(struct udp_dest *d)
{
	enum acl_verdict v = ACL_ALLOWED;
	bool open = false;

	for (unsigned i = 0; i < TO_COUNT; i++) {
		if (d->to[i].family == AF_UNSPEC)
			continue;
		v = dest_check(d->udp, &d->to[i]);
		if (v != ACL_ALLOWED)
			d->to[i].family = AF_UNSPEC;
		else
			open = true;
	}
	if (!open)
		dest_refuse(d, v);
}

static void dest_pass(struct udp_dest *d, const uint8_t *payload, size_t n)
{
	int rc;

	if (d->state == UDP_DEST_OPEN)
		dest_look_again(d);

	switch ((enum udp_dest_state)d->state) {
	case UDP_DEST_OPEN:
		rc = dest_send(d, payload, n);
		if (rc < 0)
			udp_drop(d->udp, rc == -EAGAIN ? UDP_DROP_BUSY : UDP_DROP_UNSENT);
		break;
	case UDP_DEST_MALFORMED:
		udp_drop(d->udp, UDP_DROP_MALFORMED);
		break;
	case UDP_DEST_REFUSED:
		udp_drop(d->udp, UDP_DROP_REFUSED);
		break;
	case UDP_DEST_UNKNOWN: /* it could not be asked for */
		udp_drop(d->udp, UDP_DROP_WAITING);
		break;
	case UDP_DEST_UNRESOLVED:
		udp_drop(d->udp, UDP_DROP_UNRESOLVED);
		break;
	}
}

/* False: there is no room. */
static bool dest_keep(struct udp_dest *d, const uint8_t *payload, size_t n)
{
	struct udp *u = d->udp;
	struct udp_waiter w = {.dest = (uint32_t)(d - u->dests), .len = (uint32_t)n};

	if (u->n_waiting == UDP_WAITING_MAX || d->n_waiting == UDP_WAITING_NAME_MAX)
		return false;
	if (u->waiting == NULL) {
		u->waiting = pool_get(&u->session->engine->bufs);
		if (u->waiting == NULL)
			return false;
		u->waiting->off = u->waiting->len = 0;
	}
	if (buf_room(u->waiting) < sizeof(w) + n)
		return false;
	memcpy(buf_tail(u->waiting), &w, sizeof(w));
	u->waiting->len += sizeof(w);
	memcpy(buf_tail(u->waiting), payload, n);
	u->waiting->len += (uint32_t)n;
	u->n_waiting++;
	d->n_waiting++;
	return true;
}

/* What has waited for this one goes its way; the others move together. */
static void dest_flush(struct udp_dest *d)
{
	struct udp *u = d->udp;
	struct buf *b = u->waiting;
	struct udp_waiter w;
	uint32_t kept = 0, len;

	for (uint32_t at = 0; b != NULL && at < b->len; at += len) {
		memcpy(&w, b->data + at, sizeof(w));
		len = (uint32_t)sizeof(w) + w.len;
		if (&u->dests[w.dest] == d) {
			u->n_waiting--;
			d->n_waiting--;
			dest_pass(d, b->data + at + sizeof(w), w.len);
		} else {
			memmove(b->data + kept, b->data + at, len);
			kept += len;
		}
	}
	if (b == NULL)
		return;
	b->len = kept;
	if (kept == 0) {
		pool_put(&u->session->engine->bufs, b);
		u->waiting = NULL;
	}
}

/* --- names --- */

static void dest_stop_asking(struct udp_dest *d)
{
	if (d->resolving)
		resolving_leave(d->udp->session, d->queries);
	d->resolving = false;
	query_cancel(&d->queries[TO_V6]);
	query_cancel(&d->queries[TO_V4]);
	timer_cancel(&d->timer);
}

/* All answers are there that will be waited for. */
static void dest_answered(struct udp_dest *d)
{
	dest_stop_asking(d);
	if (d->found[TO_V6].family != AF_UNSPEC || d->found[TO_V4].family != AF_UNSPEC) {
		memcpy(d->to, d->found, sizeof(d->to));
		d->refused = ACL_ALLOWED;
		dest_settle(d, UDP_DEST_OPEN, DEST_MS);
	} else if (d->refused != ACL_ALLOWED) {
		dest_refuse(d, (enum acl_verdict)d->refused);
	} else {
		dest_settle(d, UDP_DEST_UNRESOLVED, DEST_FAILED_MS);
	}
	dest_flush(d);
}

static void dest_timeout(struct timer *t)
{
	dest_answered(container_of(t, struct udp_dest, timer));
}

/* The first address of a family that may be sent to, or the one that has been: who changes the other end in the middle of
 * something breaks it. */
static void dest_take(struct udp_dest *d, unsigned family, const struct addr *found)
{
	enum acl_verdict v = dest_check(d->udp, found);

	if (v != ACL_ALLOWED && d->refused == ACL_ALLOWED)
		d->refused = (uint8_t)v;
	if (v != ACL_ALLOWED)
		return;
	if (d->found[family].family == AF_UNSPEC || addr_equal_ip(found, &d->to[family])) {
		d->found[family] = *found;
		d->found[family].port = d->port;
	}
}

static void dest_on_answer(struct query *q, int status, const struct addr *addrs, size_t n)
{
	struct udp_dest *d = q->owner;
	unsigned family = q == &d->queries[TO_V6] ? TO_V6 : TO_V4;

	for (size_t i = 0; status == 0 && i < n; i++)
		dest_take(d, family, &addrs[i]);
	if (!dest_is_asking(d))
		dest_answered(d);
	else if (d->found[family].family != AF_UNSPEC)
		loop_timer(&d->udp->session->engine->loop, &d->timer, DEST_OTHER_MS, dest_timeout);
}

/* While it is asked about again, what is known of it still counts; also where it cannot be asked. */
static void dest_ask(struct udp_dest *d, const char *name)
{
	static const int families[TO_COUNT] = {[TO_V6] = AF_INET6, [TO_V4] = AF_INET};
	struct resolver *r = d->udp->session->view->resolver;
	int rc = resolving_take(d->udp->session, name);

	d->resolving = rc > 0;
	if (d->state != UDP_DEST_OPEN)
		d->state = UDP_DEST_UNKNOWN;
	memset(d->found, 0, sizeof(d->found));
	d->refused = ACL_ALLOWED;
	for (unsigned i = 0; i < TO_COUNT && rc >= 0; i++)
		rc = query_start(r, &d->queries[i], name, families[i], dest_on_answer, d);
	if (rc < 0)
		dest_stop_asking(d);
}

/* --- verdicts --- */

/* Asks access control, and if need be name servers. */
static void dest_look(struct udp_dest *d)
{
	struct udp *u = d->udp;
	char name[NAME_MAX_LEN + 1] = "";
	struct proto_dest dest;
	enum acl_verdict v;
	int rc = 0;

	socks5_udp_parse(d->head, d->head_len, &dest);
	d->port = dest.port;
	if (dest.addr.family == AF_UNSPEC)
		rc = name_normalise(dest.name, dest.name_len, name, &dest.addr);
	if (rc < 0 || dest.port == 0)
		return dest_settle(d, UDP_DEST_MALFORMED, DEST_MS);
	dest.addr.port = dest.port;
	v = acl_request(dest_acl(u), name[0] != '\0' ? name : NULL, &dest.addr, dest.port);
	if (v == ACL_ALLOWED && name[0] == '\0')
		v = dest_check(u, &dest.addr);
	if (v != ACL_ALLOWED)
		return dest_refuse(d, v);
	if (name[0] != '\0')
		return dest_ask(d, name);
	d->to[dest.addr.family == AF_INET6 ? TO_V6 : TO_V4] = dest.addr;
	dest_settle(d, UDP_DEST_OPEN, DEST_MS);
}

static struct udp_dest *dest_find(struct udp *u, const uint8_t *head, size_t head_len)
{
	const size_t off = SOCKS5_UDP_DEST_OFF;

	for (size_t i = 0; i < UDP_DESTS; i++) {
		struct udp_dest *d = &u->dests[i];

		if (d->head_len == head_len &&
		    memcmp(d->head + off, head + off, head_len - off) == 0)
			return d;
	}
	return NULL;
}

/* In the place of the one that was asked for longest ago. NULL: names are being asked for in all of them. */
static struct udp_dest *dest_new(struct udp *u, const uint8_t *head, size_t head_len)
{
	struct udp_dest *d = NULL;

	for (size_t i = 0; i < UDP_DESTS; i++) {
		struct udp_dest *other = &u->dests[i];

		if (!dest_is_asking(other) && (d == NULL || other->used < d->used))
			d = other;
	}
	if (d == NULL)
		return NULL;
	*d = (struct udp_dest){.udp = u, .head_len = (uint16_t)head_len};
	memcpy(d->head, head, head_len);
	timer_init(&d->timer);
	return d;
}

void udp_dests_pass(struct udp *u, const uint8_t *in, size_t n, size_t head_len)
{
	struct udp_dest *d = dest_find(u, in, head_len);

	if (d == NULL)
		d = dest_new(u, in, head_len);
	if (d == NULL)
		return udp_drop(u, UDP_DROP_WAITING);
	d->used = ++u->n_asked;
	if (dest_now(u) >= d->until_ms && !dest_is_asking(d))
		dest_look(d);
	if (d->state != UDP_DEST_OPEN && dest_is_asking(d)) {
		if (!dest_keep(d, in + head_len, n - head_len))
			udp_drop(u, UDP_DROP_WAITING);
		return;
	}
	dest_pass(d, in + head_len, n - head_len);
}

void udp_dests_stop(struct udp *u)
{
	for (size_t i = 0; i < UDP_DESTS; i++)
		if (u->dests[i].udp != NULL)
			dest_stop_asking(&u->dests[i]);
	pool_put(&u->session->engine->bufs, u->waiting);
	u->waiting = NULL;
	u->n_waiting = 0;
}
