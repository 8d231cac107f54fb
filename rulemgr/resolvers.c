/* SPDX-License-Identifier: MIT */
#include "rulemgr/resolvers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <string.h>

#include "rulemgr/dump.h"

#define DNS_PORT 53

/* Users of the resolvers that ask over TLS, where they are told to. */
static const char *const users[] = {"systemd-resolve", "unbound", "stubby", "knot-resolver",
				    "dnsmasq"};

struct search {
	struct resolvers *found;
	uid_t known[ARRAY_LEN(users)]; /* of `users` that this host has */
	size_t n_known;
};

static void add_resolver(struct search *s, uid_t uid, bool connected)
{
	struct resolvers *all = s->found;
	const struct passwd *entry;
	struct resolver *r;

	for (size_t i = 0; i < all->n; i++) {
		if (all->resolvers[i].uid == uid) {
			all->resolvers[i].connected |= connected;
			return;
		}
	}
	if (all->n == RESOLVERS_MAX)
		return;
	r = &all->resolvers[all->n++];
	*r = (struct resolver){.uid = uid, .connected = connected};
	entry = getpwuid(uid);
	if (entry != NULL && strlen(entry->pw_name) < sizeof(r->name))
		strcpy(r->name, entry->pw_name);
	else
		snprintf(r->name, sizeof(r->name), "%u", uid);
}

static int read_socket(const struct nlmsghdr *h, void *ctx)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct search *s = ctx;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	if (m->idiag_state != TCP_LISTEN) {
		if (ntohs(m->id.idiag_dport) == RESOLVERS_TLS_PORT)
			add_resolver(s, m->idiag_uid, true);
	} else if (ntohs(m->id.idiag_sport) == DNS_PORT) {
		for (size_t i = 0; i < s->n_known; i++) {
			if (s->known[i] == m->idiag_uid)
				add_resolver(s, m->idiag_uid, false);
		}
	}
	return MNL_CB_OK;
}

int resolvers_read(struct resolvers *all, struct diag *d)
{
	const uint32_t states = 1 << TCP_LISTEN | 1 << TCP_SYN_SENT | 1 << TCP_ESTABLISHED;
	struct resolvers found = {.n = 0};
	struct search s = {.found = &found};
	int r;

	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		const struct passwd *entry = getpwnam(users[i]);

		if (entry != NULL)
			s.known[s.n_known++] = entry->pw_uid;
	}
	r = dump_tcp_sockets(AF_INET, states, read_socket, &s);
	if (r == 0)
		r = dump_tcp_sockets(AF_INET6, states, read_socket, &s);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot list the sockets of this host: %s",
				strerror(-r));
	*all = found;
	return 0;
}
