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

static int owner_ask(int fd, const struct addr *local, const struct addr *remote,
		     struct inet_diag_msg *found)
{
	struct owner_question q = {
		.header = {.nlmsg_len = sizeof(q),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST},
		.body = {.sdiag_family = local->family,
			 .sdiag_protocol = IPPROTO_TCP,
			 .idiag_states = UINT32_MAX,
			 .id = {.idiag_sport = htons(local->port),
				.idiag_dport = htons(remote->port),
				.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
	};
	struct owner_answer a;
	ssize_t n;

	memcpy(q.body.id.idiag_src, local->ip, addr_len(local));
	memcpy(q.body.id.idiag_dst, remote->ip, addr_len(remote));
	if (send(fd, &q, sizeof(q), 0) < 0)
		return -errno;
	n = recv(fd, &a, sizeof(a), MSG_DONTWAIT); /* it was answered while we sent */
	if (n < (ssize_t)(sizeof(a.header) + sizeof(a.body)) ||
	    a.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -ENOENT;
	*found = a.body;
	return 0;
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

bool owner_is_self(const struct addr *local, const struct addr *remote)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	struct inet_diag_msg m;
	bool known;

	if (fd < 0)
		return false;
	known = owner_ask(fd, local, remote, &m) == 0;
	close(fd);
	return known && m.idiag_uid == geteuid() && owner_has_inode(m.idiag_inode);
}
