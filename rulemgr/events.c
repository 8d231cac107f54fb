/* SPDX-License-Identifier: MIT */
#include "rulemgr/events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "rulemgr/kernel.h"
#include "rulemgr/model.h"

/* Attribute 1 of every message about a part of a table is the table's name (NFTA_CHAIN_TABLE, ...). */
#define TABLE_NAME_ATTRIBUTE NFTA_TABLE_NAME

int events_open(struct events *e, struct diag *d)
{
	int group = NFNLGRP_NFTABLES, large = 4 << 20;
	int r = 0;

	*e = (struct events){.buffer = malloc(KERNEL_BUFFER_LEN)};
	e->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (e->buffer == NULL)
		r = -ENOMEM;
	else if (e->sock == NULL || mnl_socket_bind(e->sock, 0, MNL_SOCKET_AUTOPID) < 0 ||
		 mnl_socket_setsockopt(e->sock, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		r = -errno;
	if (r < 0) {
		events_close(e);
		return diag_set(d, -r, NULL, 0, "cannot hear of changes to the ruleset: %s",
				strerror(-r));
	}
	/* Fails inside user namespaces; more is lost there when much happens at once. */
	setsockopt(events_fd(e), SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large));
	return 0;
}

void events_close(struct events *e)
{
	if (e->sock != NULL)
		mnl_socket_close(e->sock);
	free(e->buffer);
	*e = (struct events){.sock = NULL};
}

int events_fd(const struct events *e)
{
	return mnl_socket_get_fd(e->sock);
}

static bool is_about_our_table(const struct nlmsghdr *h)
{
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (g->nfgen_family != NFPROTO_INET)
		return false;
	mnl_attr_for_each(a, h, sizeof(*g))
	{
		if (mnl_attr_get_type(a) == TABLE_NAME_ATTRIBUTE)
			return mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 &&
			       strcmp(mnl_attr_get_str(a), MODEL_TABLE) == 0;
	}
	return false;
}

/* A process may call itself anything. */
static void set_name(struct event *event, const char *name)
{
	snprintf(event->name, sizeof(event->name), "%s", name);
	for (char *at = event->name; *at != '\0'; at++) {
		if (*at < ' ' || *at > '~')
			*at = '?';
	}
}

static void read_generation(const struct nlmsghdr *h, struct event *event)
{
	const struct nlattr *a;

	*event = (struct event){.pid = 0};
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		switch (mnl_attr_get_type(a)) {
		case NFTA_GEN_ID:
			if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
				event->generation = ntohl(mnl_attr_get_u32(a));
			break;
		case NFTA_GEN_PROC_PID:
			if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
				event->pid = ntohl(mnl_attr_get_u32(a));
			break;
		case NFTA_GEN_PROC_NAME:
			if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
				set_name(event, mnl_attr_get_str(a));
			break;
		}
	}
}

static void events_message(struct events *e, const struct nlmsghdr *h, event_fn *fn, void *ctx)
{
	struct event event;

	if (NFNL_SUBSYS_ID(h->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
	    mnl_nlmsg_get_payload_len(h) < sizeof(struct nfgenmsg))
		return;
	if (NFNL_MSG_TYPE(h->nlmsg_type) != NFT_MSG_NEWGEN) {
		e->touched = e->touched || is_about_our_table(h);
		return;
	}
	if (e->touched) {
		read_generation(h, &event);
		fn(ctx, &event);
	}
	e->touched = false;
}

int events_read(struct events *e, event_fn *fn, void *ctx)
{
	for (;;) {
		ssize_t n = recv(events_fd(e), e->buffer, KERNEL_BUFFER_LEN, 0);
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		for (const struct nlmsghdr *h = (struct nlmsghdr *)e->buffer; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left))
			events_message(e, h, fn, ctx);
	}
}
