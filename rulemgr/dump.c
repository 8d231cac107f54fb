/* SPDX-License-Identifier: MIT */
#include "rulemgr/dump.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

/* The kernel sends no larger piece of a list. */
#define ANSWER_MAX (32 * 1024)
/* Any number but 0, which stands for messages that nobody asked for. */
#define SEQUENCE 1

static int ask(struct mnl_socket *sock, struct nlmsghdr *question, mnl_cb_t fn, void *ctx)
{
	char buf[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct timeval timeout = {.tv_sec = DUMP_TIMEOUT_S};
	ssize_t n;
	int r;

	if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(sock), SOL_SOCKET, SO_RCVTIMEO, &timeout,
		       sizeof(timeout)) < 0 ||
	    mnl_socket_sendto(sock, question, question->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(sock, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, SEQUENCE, mnl_socket_get_portid(sock), fn, ctx);
	} while (r > MNL_CB_STOP);
	return r == MNL_CB_STOP ? 0 : -errno;
}

int dump_read(int bus, struct nlmsghdr *question, mnl_cb_t fn, void *ctx)
{
	struct mnl_socket *sock = mnl_socket_open2(bus, SOCK_CLOEXEC);
	int r;

	if (sock == NULL)
		return -errno;
	question->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	question->nlmsg_seq = SEQUENCE;
	r = ask(sock, question, fn, ctx);
	mnl_socket_close(sock);
	return r;
}

int dump_tcp_sockets(uint8_t family, uint32_t states, mnl_cb_t fn, void *ctx)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct inet_diag_req_v2)] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(h, sizeof(*request));

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request->sdiag_family = family;
	request->sdiag_protocol = IPPROTO_TCP;
	request->idiag_states = states;
	return dump_read(NETLINK_SOCK_DIAG, h, fn, ctx);
}
