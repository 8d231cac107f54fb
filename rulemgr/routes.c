/* SPDX-License-Identifier: MIT */
#include "rulemgr/routes.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#define TIMEOUT_S  10
#define READ_TRIES 10
/* The kernel sends no larger piece of a list. */
#define ANSWER_MAX (32 * 1024)

static const uint8_t families[LISTENERS_FAMILIES] = {AF_INET, AF_INET6};

struct rtnl {
	struct mnl_socket *sock;
	uint32_t seq;
	char words[256]; /* the kernel's own about the last error; "": none */
};

/* The socket */

static int rtnl_open(struct rtnl *k)
{
	struct timeval timeout = {.tv_sec = TIMEOUT_S};
	int on = 1;

	*k = (struct rtnl){.seq = (uint32_t)time(NULL)};
	k->sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (k->sock == NULL || mnl_socket_bind(k->sock, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	/* Before Linux 4.20 lists are not filtered; we look at what comes anyway. */
	mnl_socket_setsockopt(k->sock, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	if (mnl_socket_setsockopt(k->sock, NETLINK_EXT_ACK, &on, sizeof(on)) < 0 ||
	    mnl_socket_setsockopt(k->sock, NETLINK_CAP_ACK, &on, sizeof(on)) < 0 ||
	    setsockopt(mnl_socket_get_fd(k->sock), SOL_SOCKET, SO_RCVTIMEO, &timeout,
		       sizeof(timeout)) < 0)
		return -errno;
	return 0;
}

static void rtnl_close(struct rtnl *k)
{
	if (k->sock != NULL)
		mnl_socket_close(k->sock);
}

static void keep_words(struct rtnl *k, const struct nlmsghdr *h)
{
	const struct nlattr *a;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	mnl_attr_for_each(a, h, sizeof(struct nlmsgerr))
	{
		if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			snprintf(k->words, sizeof(k->words), "%s", mnl_attr_get_str(a));
	}
}

/* 1: more is to come; 0 the end; a negative errno. Both a message of error and the end of a
 * list begin with a number. */
static int read_answer(struct rtnl *k, const struct nlmsghdr *h, mnl_cb_t fn, void *ctx)
{
	const int *code = mnl_nlmsg_get_payload(h);

	if (h->nlmsg_seq != k->seq)
		return 1;
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		return -EINTR;
	if (h->nlmsg_type != NLMSG_ERROR && h->nlmsg_type != NLMSG_DONE)
		return fn != NULL && fn(h, ctx) < 0 ? -errno : 1;
	if (mnl_nlmsg_get_payload_len(h) < sizeof(*code))
		return 0;
	if (h->nlmsg_type == NLMSG_ERROR)
		keep_words(k, h);
	return *code < 0 ? *code : 0;
}

/* Sends `h` and hands what is answered to `fn`. 0 or a negative errno. */
static int rtnl_ask(struct rtnl *k, struct nlmsghdr *h, mnl_cb_t fn, void *ctx)
{
	char buf[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	int r = 1;

	h->nlmsg_seq = ++k->seq;
	k->words[0] = '\0';
	if (mnl_socket_sendto(k->sock, h, h->nlmsg_len) < 0)
		return -errno;
	while (r > 0) {
		ssize_t n = mnl_socket_recvfrom(k->sock, buf, sizeof(buf));
		int left = (int)n;

		if (n < 0)
			return -errno;
		for (const struct nlmsghdr *a = (struct nlmsghdr *)buf;
		     r > 0 && mnl_nlmsg_ok(a, left); a = mnl_nlmsg_next(a, &left))
			r = read_answer(k, a, fn, ctx);
	}
	return r;
}

/* Reading */

/* Of thousands of rules and routes, those that matter here. A kernel that does not filter
 * sends the routes of all tables. */
static bool is_of_interest(const struct route_item *item)
{
	return item->table == ROUTES_TABLE || (item->is_rule && item->mark.mask != 0);
}

static int keep_item(const struct nlmsghdr *h, void *ctx)
{
	struct routes *r = ctx;
	struct route_item item, *grown;

	if (!route_item_read(&item, h) || !is_of_interest(&item))
		return MNL_CB_OK;
	grown = reallocarray(r->items, r->n + 1, sizeof(*grown));
	if (grown == NULL)
		return MNL_CB_ERROR;
	r->items = grown;
	r->items[r->n++] = item;
	return MNL_CB_OK;
}

static int read_rules(struct rtnl *k, uint8_t family, struct routes *r)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct fib_rule_hdr)] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(h, sizeof(*rule));

	h->nlmsg_type = RTM_GETRULE;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	rule->family = family;
	return rtnl_ask(k, h, keep_item, r);
}

/* A list of all routes can be a million long. */
static int read_routes(struct rtnl *k, uint8_t family, struct routes *r)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct rtmsg) + 16] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(h, sizeof(*route));
	int rc;

	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	route->rtm_family = family;
	mnl_attr_put_u32(h, RTA_TABLE, ROUTES_TABLE);
	rc = rtnl_ask(k, h, keep_item, r);
	return rc == -ENOENT ? 0 : rc; /* no such table */
}

static int read_family(struct rtnl *k, int f, struct routes *r)
{
	int rc = read_rules(k, families[f], r);

	/* A kernel without IPv6, or without policy routing (CONFIG_IP_MULTIPLE_TABLES). */
	if (rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP)
		return 0;
	if (rc == 0)
		rc = read_routes(k, families[f], r);
	if (rc == 0)
		r->host_has[f] = true;
	return rc;
}

/* Where IPv6 is switched off on lo, there cannot be a route to it. */
static bool loopback_has_ipv6(void)
{
	FILE *f = fopen("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "re");
	int c = f != NULL ? getc(f) : EOF;

	if (f != NULL)
		fclose(f);
	return c != '1';
}

static int read_all(struct rtnl *k, struct routes *r)
{
	int rc = read_family(k, LISTENERS_IPV4, r);

	if (rc == 0)
		rc = read_family(k, LISTENERS_IPV6, r);
	/* With addresses on other interfaces flows would be marked and not delivered: then the
	 * kernel's refusal is to be seen. */
	if (rc == 0 && !loopback_has_ipv6() && !listeners_host_has_ipv6())
		r->host_has[LISTENERS_IPV6] = false;
	return rc;
}

static int read_stable(struct rtnl *k, struct routes *r, struct diag *d)
{
	struct routes found;
	int rc = -EINTR;

	for (int i = 0; i < READ_TRIES && rc == -EINTR; i++) {
		found = (struct routes){0};
		rc = read_all(k, &found);
		if (rc < 0)
			routes_free(&found);
	}
	if (rc == 0)
		*r = found;
	else if (rc == -EINTR)
		rc = diag_set(d, ERESTART, NULL, 0,
			      "the ip rules and routes keep changing; try again");
	else
		diag_set(d, -rc, NULL, 0, "cannot list the ip rules and routes: %s", strerror(-rc));
	return rc;
}

static int open_socket(struct rtnl *k, struct diag *d)
{
	int rc = rtnl_open(k);

	if (rc < 0)
		diag_set(d, -rc, NULL, 0, "cannot reach the kernel's routing: %s", strerror(-rc));
	return rc;
}

int routes_read(struct routes *r, struct diag *d)
{
	struct rtnl k;
	int rc = open_socket(&k, d);

	if (rc == 0)
		rc = read_stable(&k, r, d);
	rtnl_close(&k);
	return rc;
}

void routes_free(struct routes *r)
{
	free(r->items);
	*r = (struct routes){0};
}

/* Comparing */

/* Would it see packets that our table has marked, or see other packets as marked by us? */
static bool tests_mark(const struct route_item *rule, const struct mark *mark)
{
	uint32_t common = rule->mark.mask & mark->mask;

	return !rule->inverted && (rule->mark.value & common) != 0 &&
	       ((rule->mark.value ^ mark->value) & common) == 0;
}

const struct route_item *routes_conflict(const struct routes *r, const struct mark *mark,
					 const bool family[LISTENERS_FAMILIES])
{
	for (size_t i = 0; i < r->n; i++) {
		const struct route_item *item = &r->items[i];
		int f = item->family == AF_INET ? LISTENERS_IPV4 : LISTENERS_IPV6;

		if (route_item_is_ours(item) || !family[f])
			continue;
		if (item->table == ROUTES_TABLE || (item->is_rule && tests_mark(item, mark)))
			return item;
	}
	return NULL;
}

static struct route_item *find_item(const struct routes *r, const struct route_item *wanted)
{
	for (size_t i = 0; i < r->n; i++) {
		if (route_item_equal(&r->items[i], wanted))
			return &r->items[i];
	}
	return NULL;
}

static void plan_add(const struct routes *r, const struct route_item *wanted,
		     struct route_item *keep[], struct routes_change *c)
{
	*keep = find_item(r, wanted);
	if (*keep == NULL)
		c->steps[c->n++] = (struct routes_step){.add = true, .item = *wanted};
}

static bool is_planned_removal(const struct routes_change *c, const struct route_item *item)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct route_item *planned = &c->steps[i].item;

		if (!c->steps[i].add && planned->len == item->len &&
		    memcmp(planned->payload, item->payload, item->len) == 0)
			return true;
	}
	return false;
}

/* A route of ours that somebody has changed stands where ours goes, and would have it refused. */
static void plan_room(const struct routes *r, const struct route_item *route,
		      struct routes_change *c)
{
	for (size_t i = 0; find_item(r, route) == NULL && i < r->n; i++) {
		const struct route_item *item = &r->items[i];

		if (!item->is_rule && route_item_is_ours(item) && item->family == route->family &&
		    item->table == route->table)
			c->steps[c->n++] = (struct routes_step){.item = *item};
	}
}

static void plan_removals(const struct routes *r, bool of_rules,
			  struct route_item *const keep[2 * LISTENERS_FAMILIES],
			  struct routes_change *c)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct route_item *item = &r->items[i];
		bool kept = false;

		for (size_t n = 0; n < 2 * (size_t)LISTENERS_FAMILIES; n++)
			kept |= keep[n] == item;
		if (!kept && route_item_is_ours(item) && item->is_rule == of_rules &&
		    !is_planned_removal(c, item))
			c->steps[c->n++] = (struct routes_step){.item = *item};
	}
}

int routes_plan(const struct routes *r, const struct mark *mark,
		const bool family[LISTENERS_FAMILIES], struct routes_change *c)
{
	struct route_item *keep[2 * LISTENERS_FAMILIES] = {NULL}, route, rule;

	*c = (struct routes_change){0};
	c->steps = calloc(r->n + 2 * (size_t)LISTENERS_FAMILIES, sizeof(*c->steps));
	if (c->steps == NULL)
		return -ENOMEM;
	/* The new before the old, the route before the rule that leads to it. */
	for (size_t f = 0; f < LISTENERS_FAMILIES; f++) {
		if (mark == NULL || !r->host_has[f])
			continue;
		route_item_make_route(&route, families[f]);
		route_item_make_rule(&rule, families[f], mark);
		if (!family[f] && find_item(r, &rule) == NULL)
			continue;
		plan_room(r, &route, c);
		plan_add(r, &route, &keep[2 * f], c);
		plan_add(r, &rule, &keep[2 * f + 1], c);
	}
	plan_removals(r, true, keep, c);
	plan_removals(r, false, keep, c);
	return 0;
}

void routes_change_format(const struct routes_change *c, struct strbuf *out)
{
	for (size_t i = 0; i < c->n; i++) {
		strbuf_puts(out, c->steps[i].add ? "add " : "del ");
		route_item_format(&c->steps[i].item, out);
		strbuf_putc(out, '\n');
	}
}

void routes_change_tell_done(const struct routes_change *c, bool dry_run, struct strbuf *out)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct routes_step *step = &c->steps[i];

		strbuf_printf(out, "  %s%s: ip ", dry_run ? "would have " : "",
			      step->add ? "added" : "removed");
		route_item_format(&step->item, out);
		strbuf_putc(out, '\n');
	}
}

void routes_change_put_json(const struct routes_change *c, struct json *j, const char *key)
{
	json_array_begin(j, key);
	for (size_t i = 0; i < c->n; i++) {
		struct strbuf line;

		strbuf_init_heap(&line);
		strbuf_puts(&line, c->steps[i].add ? "add " : "del ");
		route_item_format(&c->steps[i].item, &line);
		json_string(j, NULL, line.data);
		strbuf_free(&line);
	}
	json_array_end(j);
}

void routes_step_tell(const struct routes_step *step, struct strbuf *out)
{
	strbuf_printf(out, "%s: ip ", step->add ? "missing" : "extra");
	route_item_format(&step->item, out);
}

void routes_change_tell(const struct routes_change *c, struct strbuf *out)
{
	for (size_t i = 0; i < c->n; i++) {
		routes_step_tell(&c->steps[i], out);
		strbuf_putc(out, '\n');
	}
}

void routes_change_tell_json(const struct routes_change *c, struct json *j, const char *key)
{
	json_array_begin(j, key);
	for (size_t i = 0; i < c->n; i++) {
		struct strbuf line;

		strbuf_init_heap(&line);
		routes_step_tell(&c->steps[i], &line);
		json_string(j, NULL, line.data);
		strbuf_free(&line);
	}
	json_array_end(j);
}

void routes_change_free(struct routes_change *c)
{
	free(c->steps);
	if (c->link != NULL)
		rtnl_close(c->link);
	free(c->link);
	*c = (struct routes_change){0};
}

/* Changing */

/* 0: done; 1: it was so already; or a negative errno with `d`. */
static int take_step(struct rtnl *k, const struct routes_step *step, struct diag *d)
{
	char buf[MNL_NLMSG_HDRLEN + ROUTE_ITEM_MAX] = {0}, text[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct strbuf what;
	int rc;

	route_item_put(&step->item, step->add, h);
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (step->add ? NLM_F_CREATE | NLM_F_EXCL : 0);
	rc = rtnl_ask(k, h, NULL, NULL);
	if (rc == 0)
		return 0;
	if (step->add ? rc == -EEXIST : rc == -ENOENT || rc == -ESRCH)
		return 1;
	strbuf_init(&what, text, sizeof(text));
	route_item_format(&step->item, &what);
	return diag_set(d, -rc, NULL, 0, "the kernel does not %s \"ip %s\": %s%s%s",
			step->add ? "add" : "remove", text, strerror(-rc),
			k->words[0] != '\0' ? ": " : "", k->words);
}

/* Takes the steps that have been done back, the last first. */
static int undo_steps(struct rtnl *k, const struct routes_change *c, struct diag *d)
{
	struct diag ignored;
	int first = 0;

	for (size_t i = c->n; i-- > 0;) {
		struct routes_step back = {.add = !c->steps[i].add, .item = c->steps[i].item};
		int rc = take_step(k, &back, first == 0 ? d : &ignored);

		if (rc < 0 && first == 0)
			first = rc;
	}
	return first;
}

/* *done gets what was done, also where that is not all. */
static int take_steps(struct rtnl *k, const struct routes_change *plan, bool go_on,
		      struct routes_change *done, struct diag *d)
{
	struct diag ignored;
	int first = 0;

	for (size_t i = 0; i < plan->n && (first == 0 || go_on); i++) {
		int rc = take_step(k, &plan->steps[i], first == 0 ? d : &ignored);

		if (rc == 0)
			done->steps[done->n++] = plan->steps[i];
		else if (rc < 0 && first == 0)
			first = rc;
	}
	return first;
}

static int check_conflict(const struct routes *r, const struct mark *mark, const bool family[],
			  struct diag *d)
{
	const struct route_item *other = routes_conflict(r, mark, family);
	char text[256];
	struct strbuf what;

	if (other == NULL)
		return 0;
	strbuf_init(&what, text, sizeof(text));
	route_item_format(other, &what);
	if (other->table == ROUTES_TABLE)
		return diag_set(d, EEXIST, NULL, 0,
				"somebody else uses routing table %u, which must be ours alone: "
				"\"ip %s\"",
				ROUTES_TABLE, text);
	return diag_set(d, EEXIST, NULL, 0,
			"somebody else routes by the mark 0x%x/0x%x already: \"ip %s\"; choose "
			"another tproxy_mark",
			mark->value, mark->mask, text);
}

/* What is there, and what is to be done about it. */
static int look(struct rtnl *k, const struct mark *mark, const bool family[],
		struct routes_change *plan, struct diag *d)
{
	struct routes r;
	int rc = read_stable(k, &r, d);

	if (rc < 0)
		return rc;
	if (mark != NULL)
		rc = check_conflict(&r, mark, family, d);
	if (rc == 0 && routes_plan(&r, mark, family, plan) < 0)
		rc = diag_no_memory(d);
	routes_free(&r);
	return rc;
}

/* Whoever changes them at the same time may have undone us, or be undone by us. */
static int check_result(struct rtnl *k, const struct mark *mark, const bool family[],
			struct diag *d)
{
	struct routes_change left;
	int rc = look(k, mark, family, &left, d);

	if (rc < 0)
		return rc;
	if (left.n > 0)
		rc = diag_set(d, EBUSY, NULL, 0,
			      "somebody else changes the ip rules and routes as well; try again");
	routes_change_free(&left);
	return rc;
}

static int install_steps(struct rtnl *k, const struct mark *mark, const bool family[],
			 const struct routes_change *plan, struct routes_change *c, struct diag *d)
{
	struct routes_change done = {.steps = calloc(plan->n + 1, sizeof(*done.steps))};
	struct diag ignored;
	int rc;

	if (done.steps == NULL)
		return diag_no_memory(d);
	rc = take_steps(k, plan, false, &done, d);
	if (rc == 0 && plan->n > 0)
		rc = check_result(k, mark, family, d);
	if (rc == 0) {
		*c = done;
		return 0;
	}
	undo_steps(k, &done, &ignored);
	routes_change_free(&done);
	return rc;
}

int routes_install(const struct mark *mark, const bool family[LISTENERS_FAMILIES], bool dry_run,
		   struct routes_change *c, struct diag *d)
{
	struct routes_change plan;
	struct rtnl k;
	int rc = open_socket(&k, d);

	if (rc == 0)
		rc = look(&k, mark, family, &plan, d);
	if (rc == 0 && dry_run) {
		*c = plan;
	} else if (rc == 0) {
		rc = install_steps(&k, mark, family, &plan, c, d);
		routes_change_free(&plan);
	}
	rtnl_close(&k);
	return rc;
}

int routes_undo(const struct routes_change *c, struct diag *d)
{
	struct rtnl k;
	int rc = open_socket(&k, d);

	if (rc == 0)
		rc = undo_steps(&k, c, d);
	rtnl_close(&k);
	return rc;
}

static int remove_over(struct rtnl *k, bool dry_run, struct routes_change *c, struct diag *d)
{
	static const bool none[LISTENERS_FAMILIES];
	struct routes_change plan;
	int rc = look(k, NULL, none, &plan, d);

	if (rc == 0 && dry_run) {
		c->steps = plan.steps;
		c->n = plan.n;
	} else if (rc == 0) {
		c->steps = calloc(plan.n + 1, sizeof(*c->steps));
		rc = c->steps != NULL ? take_steps(k, &plan, true, c, d) : diag_no_memory(d);
		routes_change_free(&plan);
	}
	return rc;
}

int routes_remove(bool dry_run, struct routes_change *c, struct diag *d)
{
	struct rtnl k;
	int rc = open_socket(&k, d);

	*c = (struct routes_change){0};
	if (rc == 0)
		rc = remove_over(&k, dry_run, c, d);
	rtnl_close(&k);
	return rc;
}

int routes_before(const struct mark *mark, const bool family[LISTENERS_FAMILIES], bool dry_run,
		  struct routes_change *c, struct diag *d)
{
	int rc;

	*c = (struct routes_change){0};
	if (mark != NULL)
		return routes_install(mark, family, dry_run, c, d);
	c->link = calloc(1, sizeof(*c->link));
	rc = c->link != NULL ? open_socket(c->link, d) : diag_no_memory(d);
	if (rc < 0)
		routes_change_free(c);
	return rc;
}

int routes_after(int err, const struct mark *mark, bool dry_run, struct routes_change *c,
		 struct diag *d)
{
	if (err < 0 && !dry_run && mark != NULL)
		routes_undo(c, NULL);
	if (err < 0 || mark != NULL)
		return err;
	return remove_over(c->link, dry_run, c, d);
}
