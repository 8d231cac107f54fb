/* SPDX-License-Identifier: MIT */
#include "rulemgr/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int kernel_set_options(struct kernel *k)
{
	struct timeval timeout = {.tv_sec = KERNEL_TIMEOUT_S};
	int fd = mnl_socket_get_fd(k->sock);
	int on = 1, large = 4 << 20;

	/* For long answers. Fails inside user namespaces. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large));
	/* Errors come with the kernel's own words, and without our message quoted back. */
	if (mnl_socket_setsockopt(k->sock, NETLINK_EXT_ACK, &on, sizeof(on)) < 0 ||
	    mnl_socket_setsockopt(k->sock, NETLINK_CAP_ACK, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	return 0;
}

/* The kernel counts its own bookkeeping as well, so it takes twice what it is asked for. */
void kernel_make_room(struct kernel *k, size_t len)
{
	int room = len < INT32_MAX - 4096 ? (int)len + 4096 : INT32_MAX;
	int fd = mnl_socket_get_fd(k->sock);

	/* The second is for user namespaces, where net.core.wmem_max bounds it. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

static int kernel_connect(struct kernel *k)
{
	*k = (struct kernel){.seq = (uint32_t)time(NULL)};
	k->buffer = malloc(KERNEL_BUFFER_LEN);
	if (k->buffer == NULL)
		return -ENOMEM;
	k->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (k->sock == NULL || mnl_socket_bind(k->sock, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	return kernel_set_options(k);
}

int kernel_open(struct kernel *k, struct diag *d)
{
	uint32_t generation;
	int r = kernel_connect(k);

	if (r == 0)
		r = kernel_generation(k, &generation);
	switch (r) {
	case 0:
		return 0;
	case -EPERM:
	case -EACCES:
		diag_set(d, EPERM, NULL, 0,
			 "netfilter rules can be read and changed by root alone (CAP_NET_ADMIN in "
			 "this network namespace)");
		r = -EPERM;
		break;
	case -EINVAL: /* nfnetlink has no such subsystem */
	case -EPROTONOSUPPORT:
	case -EAFNOSUPPORT:
	case -EOPNOTSUPP:
		diag_set(d, EOPNOTSUPP, NULL, 0,
			 "this kernel has no nf_tables (CONFIG_NF_TABLES, module nf_tables)");
		r = -EOPNOTSUPP;
		break;
	default:
		diag_set(d, -r, NULL, 0, "netfilter does not answer: %s", strerror(-r));
	}
	kernel_close(k);
	return r;
}

/* Who had it before may have died before its answers came. */
static void kernel_discard(struct kernel *k)
{
	ssize_t n;

	do
		n = recv(mnl_socket_get_fd(k->sock), k->buffer, KERNEL_BUFFER_LEN, MSG_DONTWAIT);
	while (n >= 0 || errno == EINTR || errno == ENOBUFS);
}

int kernel_adopt(struct kernel *k, int fd)
{
	int r;

	*k = (struct kernel){.seq = (uint32_t)time(NULL)};
	k->buffer = malloc(KERNEL_BUFFER_LEN);
	k->sock = k->buffer != NULL ? mnl_socket_fdopen(fd) : NULL;
	if (k->sock == NULL) {
		r = k->buffer != NULL ? -errno : -ENOMEM;
		close(fd);
	} else {
		r = kernel_set_options(k);
		kernel_discard(k);
	}
	if (r < 0)
		kernel_close(k);
	return r;
}

uint32_t kernel_port(const struct kernel *k)
{
	return mnl_socket_get_portid(k->sock);
}

void kernel_close(struct kernel *k)
{
	if (k->sock != NULL)
		mnl_socket_close(k->sock);
	free(k->buffer);
	*k = (struct kernel){0};
}

struct nlmsghdr *kernel_question(struct kernel *k, char *buf, uint16_t type, uint16_t family,
				 uint16_t flags)
{
	/* A dump ends by itself; a single answer is followed by the acknowledgement asked for. */
	return nftnl_nlmsg_build_hdr(buf, type, family, flags != 0 ? flags : NLM_F_ACK, ++k->seq);
}

/* Whether an answer ends in these bytes: a list, or what is acknowledged. */
static bool answer_ends(const char *bytes, ssize_t n)
{
	const struct nlmsghdr *h = (const void *)bytes;
	int left = (int)n;

	for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return true;
	}
	return false;
}

/* What is left of an answer that failed would come before the next one, and the kernel refuses to begin a
 * list before the last one has ended. */
static void kernel_skip_rest(struct kernel *k, ssize_t n)
{
	while (n >= 0 && !answer_ends(k->buffer, n))
		n = mnl_socket_recvfrom(k->sock, k->buffer, KERNEL_BUFFER_LEN);
}

int kernel_ask(struct kernel *k, struct nlmsghdr *question, mnl_cb_t fn, void *ctx)
{
	unsigned portid = mnl_socket_get_portid(k->sock);
	ssize_t n;
	int r;

	if (mnl_socket_sendto(k->sock, question, question->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(k->sock, k->buffer, KERNEL_BUFFER_LEN);
		if (n < 0)
			return -errno;
		r = mnl_cb_run(k->buffer, (size_t)n, question->nlmsg_seq, portid, fn, ctx);
	} while (r > MNL_CB_STOP);
	if (r == MNL_CB_STOP)
		return 0;
	r = errno == EINTR ? -ERESTART : -errno; /* EINTR: NLM_F_DUMP_INTR, see mnl_cb_run() */
	kernel_skip_rest(k, n);
	return r;
}

static int read_generation(const struct nlmsghdr *h, void *ctx)
{
	uint32_t *generation = ctx;
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_GEN_ID && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
			*generation = ntohl(mnl_attr_get_u32(a));
	}
	return MNL_CB_OK;
}

int kernel_generation(struct kernel *k, uint32_t *generation)
{
	char buf[KERNEL_MESSAGE_MAX] = {0};
	struct nlmsghdr *h = kernel_question(k, buf, NFT_MSG_GETGEN, AF_UNSPEC, 0);
	uint32_t found = 0;
	int r = kernel_ask(k, h, read_generation, &found);

	if (r == 0)
		*generation = found;
	return r;
}
