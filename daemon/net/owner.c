/* SPDX-License-Identifier: MIT */
#include "daemon/net/owner.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct owner_question {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

struct owner_answer {
	struct nlmsghdr header;
	struct inet_diag_msg body;
	char attributes[1024];
};

/* Reads until the answer to question `seq`: an earlier one may have been left behind. */
static int owner_receive(int fd, uint32_t seq, struct inet_diag_msg *found)
{
	struct owner_answer a;
	ssize_t n;

	do {
		n = recv(fd, &a, sizeof(a), MSG_DONTWAIT); /* it was answered while we sent */
		if (n < (ssize_t)sizeof(a.header))
			return n < 0 ? -errno : -EIO;
	} while (a.header.nlmsg_seq != seq);
	if (n < (ssize_t)(sizeof(a.header) + sizeof(a.body)) ||
	    a.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -ENOENT;
	*found = a.body;
	return 0;
}

static int owner_ask(struct owner *o, const struct addr *local, const struct addr *remote,
		     struct inet_diag_msg *found)
{
	struct owner_question q = {
		.header = {.nlmsg_len = sizeof(q),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST,
			   .nlmsg_seq = ++o->seq},
		.body = {.sdiag_family = local->family,
			 .sdiag_protocol = IPPROTO_TCP,
			 .idiag_states = UINT32_MAX,
			 .id = {.idiag_sport = htons(local->port),
				.idiag_dport = htons(remote->port),
				.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
	};

	memcpy(q.body.id.idiag_src, local->ip, addr_len(local));
	memcpy(q.body.id.idiag_dst, remote->ip, addr_len(remote));
	if (send(o->fd, &q, sizeof(q), 0) < 0)
		return -errno;
	return owner_receive(o->fd, o->seq, found);
}

static bool owner_has_inode(ino_t inode)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	bool found = false;
	struct stat st;

	if (dir == NULL)
		return false;
	while (!found && (entry = readdir(dir)) != NULL)
		found = fstat(atoi(entry->d_name), &st) == 0 && S_ISSOCK(st.st_mode) &&
			st.st_ino == inode;
	closedir(dir);
	return found;
}

void owner_init(struct owner *o)
{
	*o = (struct owner){.fd = -1};
}

void owner_close(struct owner *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}

bool owner_is_self(struct owner *o, const struct addr *local, const struct addr *remote)
{
	struct inet_diag_msg m;

	if (o->fd < 0)
		o->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
			       NETLINK_SOCK_DIAG);
	if (o->fd < 0 || owner_ask(o, local, remote, &m) < 0)
		return false;
	return m.idiag_uid == geteuid() && owner_has_inode(m.idiag_inode);
}
