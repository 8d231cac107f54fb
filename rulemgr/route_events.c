/* SPDX-License-Identifier: MIT */
#include "rulemgr/route_events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy/defs.h"
#include "rulemgr/route_item.h"

/* Offsets in a message; the headers of both kinds are of one length. */
#define ATTRIBUTES (sizeof(struct nlmsghdr) + sizeof(struct rtmsg))
_Static_assert(sizeof(struct rtmsg) == sizeof(struct fib_rule_hdr), "where attributes begin");
_Static_assert((int)RTA_TABLE == (int)FRA_TABLE, "which attribute is the table");

#define LOAD(size, at) BPF_STMT(BPF_LD | (size) | BPF_ABS, (at))
/* Where the attribute is, counted from the beginning of the message; 0: there is none. */
#define FIND(attribute)                                                                   \
	BPF_STMT(BPF_LD | BPF_IMM, ATTRIBUTES), BPF_STMT(BPF_LDX | BPF_IMM, (attribute)), \
		LOAD(BPF_W, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR))
/* The value of the one that was found. */
#define LOAD_FOUND(size) \
	BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_LD | (size) | BPF_IND, sizeof(struct nlattr))
/* Instructions to skip if it is equal, and if not. */
#define EQUAL(value, then, otherwise) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (then), (otherwise))
#define END(nbytes) BPF_STMT(BPF_RET | BPF_K, (nbytes))

/* Numbers are in the order of the host there, and loaded as if they were in that of the network. */
static int attach_filter(int fd)
{
	struct sock_filter code[] = {
		FIND(RTA_TABLE),   EQUAL(0, 4, 0),
		LOAD_FOUND(BPF_W), EQUAL(htonl(ROUTES_TABLE), 0, 1),
		END(UINT32_MAX),   END(0),
	};
	struct sock_fprog program = {ARRAY_LEN(code), code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int join_groups(int fd)
{
	static const int groups[] = {RTNLGRP_IPV4_RULE, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_RULE,
				     RTNLGRP_IPV6_ROUTE};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(groups) && r == 0; i++)
		r = setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			       sizeof(groups[i]));
	return r;
}

int route_events_open(struct diag *d)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	int err;

	/* One without a port of its own hears nothing. */
	if (fd >= 0 && attach_filter(fd) == 0 &&
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0 && join_groups(fd) == 0)
		return fd;
	err = errno;
	if (fd >= 0)
		close(fd);
	return diag_set(d, err, NULL, 0, "cannot hear of changes to ip rules and routes: %s",
			strerror(err));
}

int route_events_read(int fd)
{
	int changed = 0;
	char byte;

	for (;;) {
		if (recv(fd, &byte, sizeof(byte), 0) >= 0 || errno == ENOBUFS)
			changed = 1;
		else if (errno != EINTR)
			return errno == EAGAIN ? changed : -errno;
	}
}
