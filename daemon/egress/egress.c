/* SPDX-License-Identifier: MIT */
#include "daemon/egress/egress.h"

#include <errno.h>
#include <string.h>

#include "daemon/core/log.h"
#include "daemon/net/sock.h"
#include "policy/balance.h"

/* --- the table --- */

static void egress_addr_unref(struct egress_addr *a)
{
	if (atomic_fetch_sub(&a->refs, 1) == 1)
		free(a);
}

static struct egress_addr *egress_addr_new(const struct prefix *p)
{
	struct egress_addr *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	atomic_init(&a->refs, 1);
	a->prefix = *p;
	egress_prefix_format(p, a->text, sizeof(a->text));
	a->identity = balance_identity(a->text);
	return a;
}

static struct egress_addr *egress_find(const struct egress *e, const struct prefix *p)
{
	for (size_t i = 0; e != NULL && i < e->n; i++)
		if (memcmp(&e->items[i]->prefix, p, sizeof(*p)) == 0)
			return e->items[i];
	return NULL;
}

/* There is room in `items`. */
static struct egress_addr *egress_add(struct egress *e, const struct egress *previous,
				      const struct prefix *p)
{
	struct egress_addr *a = egress_find(e, p);

	if (a != NULL)
		return a;
	a = egress_find(previous, p);
	if (a != NULL)
		atomic_fetch_add(&a->refs, 1);
	else
		a = egress_addr_new(p);
	if (a != NULL)
		e->items[e->n++] = a;
	return a;
}

static int egress_pool_init(struct egress_pool *pool, struct egress *e,
			    const struct egress *previous, const struct egress_list *list,
			    struct place place)
{
	pool->place = place;
	pool->conf = list;
	pool->addrs = calloc(list->n + 1, sizeof(struct egress_addr *));
	if (pool->addrs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++) {
		pool->addrs[i] = egress_add(e, previous, &list->entries[i].prefix);
		if (pool->addrs[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* All lists. */
static int egress_init(struct egress *e, const struct egress *previous)
{
	const struct egress_conf *c = &e->conf->egress;
	size_t n = c->addresses.n;
	int rc = 0;

	for (size_t i = 0; i < c->n_users; i++)
		n += c->users[i].addresses.n;
	e->items = calloc(n + 1, sizeof(struct egress_addr *));
	e->users = calloc(c->n_users + 1, sizeof(*e->users));
	if (e->items == NULL || e->users == NULL)
		return -ENOMEM;
	rc = egress_pool_init(&e->addresses, e, previous, &c->addresses, (struct place){0});
	for (size_t i = 0; i < c->n_users && rc == 0; i++)
		rc = egress_pool_init(&e->users[i], e, previous, &c->users[i].addresses,
				      c->users[i].place);
	return rc;
}

/* What another blocklist says, or said, is not to count. */
static void egress_forget_listed(struct egress *e, const struct egress *previous)
{
	if (previous != NULL &&
	    strcmp(previous->conf->egress.dnsbl_domain, e->conf->egress.dnsbl_domain) == 0)
		return;
	for (size_t i = 0; i < e->n; i++)
		atomic_store_explicit(&e->items[i]->listed, false, memory_order_relaxed);
}

int egress_new(struct conf *conf, struct egress *previous, struct egress **out, struct diag *d)
{
	struct egress *e = calloc(1, sizeof(*e));
	int rc;

	if (e == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	atomic_init(&e->refs, 1);
	e->conf = conf_ref(conf);
	rc = egress_init(e, previous);
	if (rc == 0)
		egress_forget_listed(e, previous);
	if (rc < 0) {
		egress_unref(e);
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	}
	*out = e;
	return 0;
}

struct egress *egress_ref(struct egress *e)
{
	atomic_fetch_add(&e->refs, 1);
	return e;
}

void egress_unref(struct egress *e)
{
	if (e == NULL || atomic_fetch_sub(&e->refs, 1) > 1)
		return;
	for (size_t i = 0; i < e->n; i++)
		egress_addr_unref(e->items[i]);
	for (size_t i = 0; e->users != NULL && i < e->conf->egress.n_users; i++)
		free(e->users[i].addrs);
	free(e->users);
	free(e->addresses.addrs);
	free(e->items);
	conf_unref(e->conf);
	free(e);
}

/* --- the choice --- */

bool egress_is_absent(const struct egress_addr *a)
{
	return atomic_load_explicit(&a->absent, memory_order_relaxed);
}

static bool egress_is_listed(const struct egress_addr *a)
{
	return atomic_load_explicit(&a->listed, memory_order_relaxed);
}

/* 0: as good as any; what is more is tried later. */
static unsigned egress_badness(const struct egress_addr *a)
{
	if (egress_is_absent(a))
		return 2;
	return egress_is_listed(a) ? 1 : 0;
}

#define BADNESS_MAX 2

/* Appends the best ones of a family to `out`. */
static void egress_choose_family(const struct egress_pool *pool, const struct addr *client,
				 int family, struct egress_choice *out)
{
	struct candidate candidates[EGRESS_ADDRESSES_MAX];
	size_t n = 0, most = out->list.n + EGRESS_TRIES_MAX;

	for (size_t i = 0; i < pool->conf->n; i++) {
		if (pool->addrs[i]->prefix.family != family)
			continue;
		candidates[n++] = (struct candidate){
			.index = i,
			.identity = pool->addrs[i]->identity,
			.weight = pool->conf->entries[i].weight,
		};
	}
	if (n > 1)
		balance_order(GROUP_HASH_CLIENT, candidates, n, client, 0);
	for (unsigned badness = 0; badness <= BADNESS_MAX; badness++) {
		for (size_t i = 0; i < n && out->list.n < most; i++) {
			struct egress_addr *a = pool->addrs[candidates[i].index];

			if (egress_badness(a) != badness)
				continue;
			out->items[out->list.n] = a;
			out->addrs[out->list.n++] = egress_address(&a->prefix, client);
		}
	}
}

void egress_choose(const struct egress *e, const struct addr *client, const char *user,
		   struct egress_choice *out)
{
	size_t users = egress_users_of(&e->conf->egress, client, user);
	const struct egress_pool *pool =
		users == EGRESS_NO_USERS ? &e->addresses : &e->users[users];

	out->list = (struct addr_list){.addrs = out->addrs};
	egress_choose_family(pool, client, AF_INET, out);
	egress_choose_family(pool, client, AF_INET6, out);
}

/* --- what becomes of it --- */

void egress_tell(struct egress_addr *a, int err)
{
	struct log_line line;
	bool absent = err != 0;

	if (egress_is_absent(a) == absent || atomic_exchange(&a->absent, absent) == absent)
		return;
	if (!log_begin(&line, absent ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		       absent ? "an egress address cannot be used, its clients go out by others"
			      : "an egress address can be used again"))
		return;
	log_add(&line, "egress", a->text);
	if (err == EADDRNOTAVAIL)
		log_add(&line, "error", "no address of this host");
	else if (absent)
		log_add(&line, "error", strerror(err));
	log_end(&line);
}

void egress_tell_listed(struct egress_addr *a, const char *domain, const struct addr *answer)
{
	char text[ADDR_TEXT_MAX];
	struct log_line line;
	bool listed = answer != NULL;

	if (egress_is_listed(a) == listed)
		return;
	atomic_store_explicit(&a->listed, listed, memory_order_relaxed);
	if (!log_begin(
		    &line, listed ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		    listed ? "an egress address is on the blocklist, its clients go out by others"
			   : "an egress address is off the blocklist"))
		return;
	log_add(&line, "egress", a->text);
	log_add(&line, "dnsbl", domain);
	if (listed)
		log_add(&line, "answer", addr_format_ip(answer, text, sizeof(text)));
	log_end(&line);
}

static void egress_say_all_listed(const struct egress *e, const struct egress_pool *pool,
				  int family)
{
	char where[300];
	struct log_line line;

	if (pool->place.file == NULL)
		snprintf(where, sizeof(where), "outgoing.addresses");
	else
		snprintf(where, sizeof(where), "outgoing.users of %s:%d", pool->place.file,
			 pool->place.line);
	if (!log_begin(&line, LOG_LEVEL_ERROR,
		       "every egress address is on the blocklist, going on with them"))
		return;
	log_add(&line, "addresses", where);
	log_add(&line, "family", family == AF_INET ? "IPv4" : "IPv6");
	log_add(&line, "dnsbl", e->conf->egress.dnsbl_domain);
	log_end(&line);
}

static void egress_pool_round(const struct egress *e, struct egress_pool *pool, int family)
{
	bool *said = &pool->all_listed[family == AF_INET6], all;
	size_t n = 0, listed = 0;

	for (size_t i = 0; i < pool->conf->n; i++) {
		const struct egress_addr *a = pool->addrs[i];

		if (a->prefix.family != family || egress_is_absent(a))
			continue;
		n++;
		listed += egress_is_listed(a);
	}
	all = n > 0 && listed == n;
	if (all && !*said)
		egress_say_all_listed(e, pool, family);
	*said = all;
}

void egress_tell_round(struct egress *e)
{
	for (size_t i = 0; i <= e->conf->egress.n_users; i++) {
		struct egress_pool *pool = i == 0 ? &e->addresses : &e->users[i - 1];

		egress_pool_round(e, pool, AF_INET);
		egress_pool_round(e, pool, AF_INET6);
	}
}

int egress_bind(const struct egress_choice *c, size_t place, int fd)
{
	struct egress_addr *a = c->items[place];
	int rc = egress_is_address(&a->prefix) ? sock_bind_source(fd, &c->addrs[place])
					       : sock_bind_foreign(fd, &c->addrs[place]);

	if (sock_is_shortage(-rc))
		return rc;
	if (rc < 0)
		atomic_fetch_add_explicit(&a->failed_binds, 1, memory_order_relaxed);
	egress_tell(a, -rc);
	return rc;
}

void egress_take(struct egress_addr *a)
{
	atomic_fetch_add_explicit(&a->flows, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&a->connects, 1, memory_order_relaxed);
}

void egress_put(struct egress_addr *a)
{
	atomic_fetch_sub_explicit(&a->flows, 1, memory_order_relaxed);
}

void egress_moved(struct egress_addr *a, uint64_t bytes_up, uint64_t bytes_down)
{
	atomic_fetch_add_explicit(&a->bytes_up, bytes_up, memory_order_relaxed);
	atomic_fetch_add_explicit(&a->bytes_down, bytes_down, memory_order_relaxed);
}

void egress_failed(struct egress_addr *a)
{
	atomic_fetch_add_explicit(&a->failed, 1, memory_order_relaxed);
}

bool egress_has(const struct egress *e, const struct addr *a)
{
	for (size_t i = 0; i < e->n; i++)
		if (!egress_is_address(&e->items[i]->prefix) &&
		    prefix_contains(&e->items[i]->prefix, a))
			return true;
	return false;
}

const char *egress_state_word(const struct egress_addr *a)
{
	if (egress_is_absent(a))
		return "not-local";
	return egress_is_listed(a) ? "listed" : "ok";
}
