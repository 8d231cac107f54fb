/* SPDX-License-Identifier: MIT */
#include "rulemgr/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <string.h>

static int read_peer(const struct nlmsghdr *h, void *ctx)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct peer *out = ctx;

	if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	/* Where there is no such connection, the answer is the listener. */
	if (m->idiag_state == TCP_LISTEN) {
		errno = ENOENT;
		return MNL_CB_ERROR;
	}
	/* Until somebody accepts it, it has no file. */
	out->accepted = m->idiag_inode != 0;
	out->uid = m->idiag_uid;
	return MNL_CB_STOP;
}

static void fill(struct inet_diag_req_v2 *request, const struct addr *local,
		 const struct addr *remote)
{
	*request = (struct inet_diag_req_v2){
		.sdiag_family = local->family,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = UINT32_MAX,
		.id = {.idiag_sport = htons(local->port),
		       .idiag_dport = htons(remote->port),
		       .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}},
	};
	memcpy(request->id.idiag_src, local->ip, addr_len(local));
	memcpy(request->id.idiag_dst, remote->ip, addr_len(remote));
}

int peer_find(const struct addr *local, const struct addr *remote, struct peer *out)
{
	char buf[4096] = {0};
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	ssize_t n = -1;
	int r = 0;

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	h->nlmsg_flags = NLM_F_REQUEST;
	fill(mnl_nlmsg_put_extra_header(h, sizeof(struct inet_diag_req_v2)), local, remote);
	if (sock == NULL || mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(sock, h, h->nlmsg_len) < 0 ||
	    (n = mnl_socket_recvfrom(sock, buf, sizeof(buf))) < 0 ||
	    mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(sock), read_peer, out) < 0)
		r = -errno;
	if (sock != NULL)
		mnl_socket_close(sock);
	return r;
}
