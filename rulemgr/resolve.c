/* SPDX-License-Identifier: MIT */
#include "rulemgr/resolve.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <netdb.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sysexits.h>
#include <unistd.h>

#include "rulemgr/listeners.h"

int resolve_user(uid_t *uid, const char *user, struct diag *d)
{
	const struct passwd *entry;
	unsigned long number;

	if (user[strspn(user, "0123456789")] == '\0') {
		errno = 0;
		number = strtoul(user, NULL, 10);
		/* The largest stands for "no user" in the kernel. */
		if (*user == '\0' || errno != 0 || number >= UINT32_MAX)
			return diag_set(d, EINVAL, NULL, 0, "user \"%s\": not a uid", user);
		*uid = (uid_t)number;
		return 0;
	}
	entry = getpwnam(user);
	if (entry == NULL)
		return diag_set(d, ENOENT, NULL, 0, "no user \"%s\" on this host", user);
	*uid = entry->pw_uid;
	return 0;
}

int resolve_interface(char out[IFNAMSIZ], const char *name, struct diag *d)
{
	char found[IFNAMSIZ] = "";
	unsigned index = if_nametoindex(name);

	/* There and back again: an alternative name finds the interface, but no rule sees it. */
	if (index == 0 || if_indextoname(index, found) == NULL)
		return diag_set(d, ENODEV, NULL, 0, "gateway %s: no such interface", name);
	memcpy(out, found, sizeof(found));
	return 0;
}

int resolve_cgroup(struct want_cgroup *g, const char *root, const char *path, struct diag *d)
{
	char whole[PATH_MAX + 64];
	struct statfs fs;
	struct stat st;

	if (statfs(root, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		return diag_set(
			d, EOPNOTSUPP, NULL, 0,
			"exempt_cgroups: no control groups v2 at %s; exempt the user of the "
			"service instead (exempt_uids)",
			root);
	snprintf(whole, sizeof(whole), "%s/%s", root, path);
	if (stat(whole, &st) < 0)
		return diag_set(d, ENOENT, NULL, 0,
				"exempt_cgroups: no control group %s (a service has one only while "
				"it runs)",
				whole);
	*g = (struct want_cgroup){.path = path, .id = st.st_ino, .level = 1};
	for (const char *at = path; (at = strchr(at, '/')) != NULL; at++)
		g->level++;
	return 0;
}

/* The user that the daemons run as. */
static int want_user(const struct conf *c, struct want *w, struct diag *d)
{
	int r = resolve_user(&w->uid, c->user, d);

	if (r != -ENOENT)
		return r;
	if (strcmp(c->user, DEFAULT_USER) != 0)
		return diag_set(d, ENOENT, NULL, 0,
				"no user \"%s\" on this host; give the name or number of the user "
				"that transocksd runs as (--uid, or option user)",
				c->user);
	return diag_set(d, ENOENT, NULL, 0,
			"no user \"%s\" on this host: name the user that transocksd runs as with "
			"--uid NAME, or make it: " USERADD_COMMAND " %s",
			c->user, c->user);
}

static int want_exempt_uids(const struct conf *c, struct want *w, struct diag *d)
{
	const struct string_list *users = &c->redirect.exempt_uids;
	struct diag why;

	for (size_t i = 0; i < users->n; i++) {
		uid_t uid;
		bool known = false;
		int r = resolve_user(&uid, users->strings[i], &why);

		if (r < 0)
			return diag_set(d, -r, NULL, 0, "exempt_uids: %s", why.text);
		for (size_t k = 0; k < w->n_exempt_uids; k++)
			known |= w->exempt_uids[k] == uid;
		BUG_ON(w->n_exempt_uids == WANT_EXEMPT_MAX);
		if (!known)
			w->exempt_uids[w->n_exempt_uids++] = uid;
	}
	return 0;
}

static int want_exempt_cgroups(const struct conf *c, struct want *w, struct diag *d)
{
	const struct string_list *paths = &c->redirect.exempt_cgroups;

	for (size_t i = 0; i < paths->n; i++) {
		struct want_cgroup g;
		bool known = false;
		int r = resolve_cgroup(&g, CGROUP_ROOT, paths->strings[i], d);

		if (r < 0)
			return r;
		for (size_t k = 0; k < w->n_exempt_cgroups; k++)
			known |= w->exempt_cgroups[k].id == g.id;
		BUG_ON(w->n_exempt_cgroups == WANT_EXEMPT_MAX);
		if (!known)
			w->exempt_cgroups[w->n_exempt_cgroups++] = g;
	}
	return 0;
}

/* An interface that is gone may come back by the same name, and rules name it all the while. */
static int find_gateway(char out[IFNAMSIZ], const char *name, bool for_install, struct report *r)
{
	int err = resolve_interface(out, name, &r->error);

	if (err == 0 || for_install || strlen(name) >= IFNAMSIZ)
		return err;
	report_warn(r, "%s", r->error.text);
	snprintf(out, IFNAMSIZ, "%s", name);
	return 0;
}

/* Two names of one interface are one gateway. */
static int want_gateways(const struct conf *c, struct want *w, bool for_install, struct report *r)
{
	const struct string_list *names = &c->redirect.gateway;

	for (size_t i = 0; i < names->n; i++) {
		char found[IFNAMSIZ] = ""; /* rules compare all of it */
		bool known = false;
		int err = find_gateway(found, names->strings[i], for_install, r);

		if (err < 0)
			return err;
		for (size_t k = 0; k < w->n_gateways; k++)
			known |= strcmp(w->gateways[k], found) == 0;
		BUG_ON(w->n_gateways == WANT_GATEWAYS_MAX);
		if (!known)
			memcpy(w->gateways[w->n_gateways++], found, sizeof(found));
	}
	return 0;
}

static void want_add_upstream(struct want *w, const struct addr *a, struct report *r)
{
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < w->n_upstreams; i++) {
		if (addr_equal(&w->upstreams[i], a))
			return;
	}
	if (w->n_upstreams < WANT_UPSTREAMS_MAX)
		w->upstreams[w->n_upstreams++] = *a;
	else
		report_warn(
			r,
			"upstream %s: more than %d addresses of upstreams; connections of other "
			"programs to this one are not exempt (those of transocksd are)",
			addr_format(a, text, sizeof(text)), WANT_UPSTREAMS_MAX);
}

/* The daemon's own flows to it are exempt by mark and user; this is for everybody else's. */
static void want_upstream(const struct proxy_url *url, struct want *w, struct report *r)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	int err;

	if (!proxy_scheme_is_proxy(url->scheme))
		return;
	if (url->addr.family != AF_UNSPEC) {
		want_add_upstream(w, &url->addr, r);
		return;
	}
	err = getaddrinfo(url->host, NULL, &hints, &found);
	if (err != 0) {
		report_warn(r,
			    "upstream %s: %s; connections of other programs to it are not exempt "
			    "(those of transocksd are)",
			    url->host, gai_strerror(err));
		return;
	}
	for (const struct addrinfo *i = found; i != NULL; i = i->ai_next) {
		struct addr a = addr_from_sockaddr(i->ai_addr);

		a.port = url->port;
		want_add_upstream(w, &a, r);
	}
	freeaddrinfo(found);
}

/* A kernel without IPv6, or with ipv6.disable=1, has no such flows and takes no such rules. */
static bool kernel_has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno != EAFNOSUPPORT;
	close(fd);
	return true;
}

static int want_families(const struct conf *c, struct want *w, struct diag *d)
{
	bool ipv6 = kernel_has_ipv6();

	if (c->redirect.family == REDIRECT_FAMILY_IPV6 && !ipv6)
		return diag_set(d, EOPNOTSUPP, NULL, 0,
				"family \"ipv6\": this kernel runs without IPv6");
	w->family[LISTENERS_IPV4] = c->redirect.family != REDIRECT_FAMILY_IPV6;
	w->family[LISTENERS_IPV6] = c->redirect.family != REDIRECT_FAMILY_IPV4 && ipv6;
	return 0;
}

int resolve_want(const struct args *a, bool for_install, struct want *w, struct report *r)
{
	const struct conf *c = a->conf;
	struct diag *d = &r->error;
	int err;

	*w = (struct want){.redirect = &c->redirect,
			   .mode = c->mode,
			   .port = a->port != 0 ? a->port : c->listen.addrs[0].port,
			   .mark = c->mark,
			   .tproxy_mark = c->tproxy_mark};
	err = want_user(c, w, d);
	if (err == 0)
		err = want_exempt_uids(c, w, d);
	if (err < 0)
		return err == -EINVAL && a->n_settings > 0 ? EX_USAGE : EX_CONFIG;
	err = want_exempt_cgroups(c, w, d);
	if (err == 0)
		err = want_gateways(c, w, for_install, r);
	if (err == 0)
		err = want_families(c, w, d);
	for (size_t i = 0; err == 0 && i < c->n_upstreams; i++)
		want_upstream(&c->upstreams[i].url, w, r);
	return report_exit_code(err);
}
